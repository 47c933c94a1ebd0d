"""Which words of a stored prompt tell it from its nearest neighbours, and which share of them a question has.

A mask tells templates better than subjects (notebook 02): a name is one token among many in a mean. The words that an
edit's prompt has and its neighbours' have not are mostly that name. Knows prompts and packed masks, nothing of models.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from memoir import tophash
from memoir.checks import inputs

NEAREST, COMMON = 3, 1 / 3  # a word tells an edit from its 3 nearest if at most a third of them have it
CHUNK = 256  # new edits that are compared with the stored ones at a time


def words(text: str) -> set[str]:
    """The words of a text, in any case."""
    return set(re.findall(r"\w+", text.casefold()))


class DistinguishingWords:
    """The distinguishing words of prompts (N,), given the nearest of them to each, (N, NEAREST) indices, -1 for none.

    A word counts with the squared log of how few prompts have it. A prompt that no word tells from its neighbours (the
    same prompt again) is judged by all its words, and one without any word ("?!") may be answered by every question.
    """

    def __init__(self, prompts: Sequence[str], nearest: NDArray):
        several = [words(prompt) for prompt in prompts]
        self._places = {word: i for i, word in enumerate(sorted(set().union(*several)))}
        has = self._matrix(several)
        neighbours = np.maximum((nearest >= 0).sum(1), 1)
        shared = sum(has * (has[near] * (near >= 0)[:, None]) for near in nearest.T)
        common = sparse.csr_array(sparse.diags_array(1 / neighbours) @ shared > COMMON)
        rare = sparse.diags_array(np.log((len(prompts) + 1) / (has.sum(0) + 1)) ** 2 + 1e-6)
        weight, every = (has - has * common) @ rare, has @ rare
        weight = weight + sparse.diags_array((weight.sum(1) == 0).astype(float)) @ every
        total = weight.sum(1)
        self._wordless = total == 0
        self._weight = sparse.csr_array(sparse.diags_array(1 / (total + self._wordless)) @ weight).T.tocsr()

    def shares(self, questions: Sequence[str]) -> NDArray:
        """(questions, N): which share of each prompt's distinguishing words the question has, by weight."""
        return (self._matrix([words(question) for question in questions]) @ self._weight).toarray() + self._wordless

    def _matrix(self, several: Sequence[set[str]]) -> sparse.csr_array:
        """(texts, words) with ones where a text has a word that the prompts know."""
        columns = [[self._places[word] for word in own if word in self._places] for own in several]
        ends = np.cumsum([0, *map(len, columns)])
        places = np.concatenate(columns).astype(np.int64) if ends[-1] else np.empty(0, np.int64)
        return sparse.csr_array((np.ones(ends[-1]), places, ends), shape=(len(several), len(self._places)))


class LexicalGate:
    """Which stored edits may answer a question: those of whose distinguishing words it has the share σ (notebook 12).

    Neighbours are those whose masks share most with the edit's; they are followed as edits are stored. Forgotten edits,
    whose masks are empty, are nobody's neighbours.
    """

    def __init__(self, sigma: float):
        self.sigma = inputs.as_share(sigma, "sigma")
        self._start_over(0)

    def allowed(
        self, questions: Sequence[str], prompts: Sequence[str], masks: NDArray, changes: int | None = None
    ) -> NDArray:
        """(questions, N) bool, of the stored prompts (N,) and their packed masks (N, bytes).

        changes: a number that stays while masks are only added; without it they are compared with those of before.
        """
        if not len(prompts):
            return np.ones((len(questions), 0), bool)
        self._follow(prompts, masks, changes)
        return self._words.shares(questions) >= self.sigma - 1e-9  # a sum of shares may miss 1 by rounding

    def _start_over(self, width: int) -> None:
        self._masks = np.empty((0, width), np.uint8)
        self._changes: int | None = None
        self._near = self._counts = np.empty((0, NEAREST), np.int64)

    def _follow(self, prompts: Sequence[str], masks: NDArray, changes: int | None) -> None:
        known, same = len(self._masks), changes is not None and changes == self._changes
        if not same and not np.array_equal(masks[:known], self._masks):  # one was forgotten, another state was loaded
            self._start_over(masks.shape[1])
            known = 0
        self._changes = changes
        if known == len(masks) and known:
            return
        for start in range(known, len(masks), CHUNK):
            self._add(masks[:start], masks[start : start + CHUNK])
        self._masks = masks.copy()
        self._words = DistinguishingWords(prompts, np.where(self._counts >= 0, self._near, -1))

    def _add(self, older: NDArray, new: NDArray) -> None:
        every = np.concatenate([older, new])
        counts = tophash.overlap_counts(new, every)
        counts[:, ~every.any(1)] = -1
        counts[np.arange(len(new)), len(older) + np.arange(len(new))] = -1
        places = np.arange(len(every))
        newer = np.broadcast_to(places[len(older) :], (len(older), len(new)))
        old = _best(np.hstack([self._counts, counts[:, : len(older)].T]), np.hstack([self._near, newer]))
        missing = np.full((len(new), NEAREST), -1)
        own = _best(np.hstack([counts, missing]), np.hstack([np.broadcast_to(places, counts.shape), missing]))
        self._counts, self._near = (np.concatenate(pair) for pair in zip(old, own, strict=True))


def _best(counts: NDArray, places: NDArray) -> tuple[NDArray, NDArray]:
    """The NEAREST highest counts of each row and their places; of equal ones the first."""
    order = np.argsort(-counts, axis=1, kind="stable")[:, :NEAREST]
    return np.take_along_axis(counts, order, 1), np.take_along_axis(places, order, 1)
