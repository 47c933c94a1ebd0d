"""Which stored edit a question is about: the candidates by their words, and among them the one that asks the same.

In place of the paper's masks, which tell what a prompt is written like rather than what it is about. Knows texts; where
a question stands in a conversation, and which edits there are, the editor says.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from memoir.facts.background import background_prompts
from memoir.memory import Route
from memoir.routing.meaning import Encoder
from memoir.routing.words import Subjects, denies

ROUTERS = ("masks", "words", "meaning")
# Chosen on records of OpenFacts and ZsRE that no stream of these lengths edits (LOG.md)
ALONE = 0.7  # of a prompt's words, by weight, that a question has which is about it, where nothing else is asked
SHARE = 0.5  # of them that a candidate has whose meaning is compared
REACHED = 0.53  # by the cosine of a candidate and its share of words, less 1


class Router:
    """Routes questions to stored prompts by words, or by words and meaning.

    kind: "words" needs nothing else, "meaning" the sentence encoder (FileNotFoundError where it is not installed).
    A question that negates is not about a prompt that does not, nor the other way round. A route's `overlap` is the
    share of words, or with meaning that share plus the cosine less 1: what is missing in the one, the other makes up.
    """

    def __init__(self, kind: str, question: Callable[[str], str], tokenizer: PreTrainedTokenizerBase):
        """question: what a stored prompt asks."""
        self._question, self._tokenizer = question, tokenizer
        self.encoder = Encoder() if kind == "meaning" else None
        self._start_over()

    def _start_over(self) -> None:
        self._latest: tuple | None = None  # of the stored edits that were taken in
        self._subjects = Subjects(background_prompts(), self._tokenizer)
        self._texts: list[str] = []
        self._vectors: dict[int, torch.Tensor] = {}
        self._denying = np.zeros(0, dtype=bool)

    def __call__(self, questions: Sequence[str], edits: Sequence[tuple], forgotten: Sequence[int]) -> list[Route]:
        """edits: (prompt, target) of each stored edit; forgotten: indices of those that answer nothing any more."""
        needed = ALONE if self.encoder is None else REACHED
        found = self.best(questions, edits, forgotten)
        return [Route(edit if score >= needed - 1e-9 else None, score) for edit, score in found]

    def best(
        self, questions: Sequence[str], edits: Sequence[tuple], forgotten: Sequence[int]
    ) -> list[tuple[int | None, float]]:
        """The stored edit that each question is most likely about (None: no candidate), and its score in [0, 1]."""
        self._follow(edits)
        alive = np.ones(len(edits), dtype=bool)
        alive[list(forgotten)] = False
        return [self._best(question, alive) for question in questions]

    def _follow(self, edits: Sequence[tuple]) -> None:
        known = len(self._texts)
        if len(edits) < known or (known and edits[known - 1] is not self._latest):  # another state was loaded
            self._start_over()
        for edit in edits[len(self._texts) :]:
            text = self._question(edit[0])
            self._subjects.add(text)
            self._texts.append(text)
            self._denying = np.append(self._denying, denies(text))
            self._latest = edit

    def _best(self, question: str, alive: np.ndarray) -> tuple[int | None, float]:
        if not alive.any() or not question:
            return None, 0.0
        shares = np.where(alive & (self._denying == denies(question)), self._subjects.shares(question), 0.0)
        some = np.flatnonzero(shares >= SHARE)
        if not len(some):
            return None, float(shares.max())
        scores = shares[some]
        if self.encoder:
            scores = scores + self._cosines(question, some.tolist()) - 1
        best = len(some) - 1 - int(scores[::-1].argmax())  # of equal ones the latest
        return int(some[best]), float(np.clip(scores[best], 0, 1))

    def _cosines(self, question: str, edits: list[int]) -> np.ndarray:
        new = [edit for edit in edits if edit not in self._vectors]
        asked, *found = self.encoder([question, *(self._texts[edit] for edit in new)])
        self._vectors |= dict(zip(new, found, strict=True))
        return (torch.stack([self._vectors[edit] for edit in edits]) @ asked).numpy()
