"""What one thread asks of a hooked model, and what its latest forward pass was about. Knows tokens and turns only."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from memoir.chat import turns
from memoir.chat.turns import Turn
from memoir.memory import Route


class CallState(threading.local):
    """A thread's own; what a caller asks for stands before, what the latest forward pass was about behind `given`."""

    off = 0  # within how many `with editor.base()` it is
    prompt: Tensor | None = None  # (B, P) bool, where the caller knows the prompt
    text: Tensor | None = None  # (B, P) its ids, where its beginning may be in a cache
    begun = True  # False until the first forward pass of a `generate` whose ids are `text`
    forced: Tensor | None = None  # (B, D) bool masks that replace routing
    given: tuple[int, list[Turn]] | None = None  # rows and turns of prompts that are read in several forward passes

    tokens: Tensor | None = None  # of the latest forward pass: ids (B, T), or embeddings (B, T, d)
    past = 0  # how many were in its cache before
    turns: list[Turn] | None = None

    @contextmanager
    def holding(self, **wanted) -> Iterator[None]:
        """Within it these are asked for; afterwards what was before."""
        before = {name: getattr(self, name) for name in wanted}
        vars(self).update(wanted)
        try:
            yield
        finally:
            vars(self).update(before)

    def within(self):
        """For forward passes of the base model inside another one's, which is as it was afterwards."""
        return self.holding(off=self.off + 1, tokens=self.tokens, past=self.past, turns=self.turns)

    @property
    def routes(self) -> list[Route] | None:
        """Where the rows of the latest forward pass went; None where nothing was routed."""
        if not any(turn.route for turn in self.turns or ()):
            return None
        return turns.latest_routes(self.turns, len(self.tokens))

    def is_own(self, tokens: Tensor, past: int) -> bool:
        """Whether a forward pass over tokens (B, T), behind `past` cached ones, is about the prompts that are asked
        for: within `model.generate` guidance or a logits processor may ask the model about another text."""
        prompt = self.text if self.text is not None else self.prompt
        if prompt is None or len(tokens) % len(prompt):
            return prompt is None
        if self.text is None or tokens.is_floating_point() or self.text.is_floating_point():
            return True
        wanted = self.text.repeat_interleave(len(tokens) // len(prompt), dim=0)[:, past : past + tokens.shape[1]]
        return tokens[:, : wanted.shape[1]].equal(wanted.to(tokens.device))

    def make_room(self, tokens: Tensor, past: int, noted: bool) -> None:
        """For virtual tokens, as prompt and prefix tuning put them before a prompt: from here on they count as padding.

        The first pass of a generation shows them: as embeddings in place of fewer ids, or in a cache that nobody noted
        although all of the prompt is yet to come.
        """
        if self.begun or self.text is None or self.prompt is None:
            return
        self.begun, wide = True, self.text.shape[1]
        if tokens.is_floating_point() and not self.text.is_floating_point():
            ahead = max(0, past + tokens.shape[1] - wide)
        else:
            ahead = past if tokens.shape[1] == wide and not noted else 0
        self.text, self.prompt = (nn.functional.pad(own, (ahead, 0)) for own in (self.text, self.prompt))

    def ids(self, tokens: Tensor, past: int) -> Tensor:
        """Of embeddings (B, T, d) the ids, where they are known; other tokens are given back as they are."""
        known = self.text is not None and not self.text.is_floating_point() and not len(tokens) % len(self.text)
        if not (known and tokens.is_floating_point()):
            return tokens
        here = self.text.repeat_interleave(len(tokens) // len(self.text), dim=0)[:, past : past + tokens.shape[1]]
        return nn.functional.pad(here, (0, tokens.shape[1] - here.shape[1]))

    def given_turns(self, rows: int) -> list[Turn]:
        """The turns of the prompts that are `given`, in so many rows: beams, or several sequences for each prompt."""
        prompts, known = self.given
        each = rows // prompts
        return [turn._replace(row=turn.row * each + i) for turn in known for i in range(each)]

    def prompt_positions(self, tokens: Tensor, real: Tensor, past: int = 0) -> Tensor:
        """(B, T) bool: the caller's prompt where it is known, else every token that is not padding, `real` (B, T);
        past: how many cached tokens stand before these."""
        if self.prompt is None:
            return real
        rows, length = tokens.shape[:2]
        positions = self.prompt.repeat_interleave(rows // len(self.prompt), dim=0)  # beams, several sequences
        positions = positions[:, past : past + length]
        return nn.functional.pad(positions, (0, length - positions.shape[1]))
