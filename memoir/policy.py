"""What is added to the edited map's output: who answers a row, and what the residual memory says. Knows no hooks.

A turn (`chat/turns.py`) is routed once, from the tokens that ask; tokens that the model generates never are. A forward
pass calls a policy twice:

    before its layers    `turns`: which turns its rows have. With span="question" those that begin are routed here, by
                         their question alone, in a pass of their own (`Memoir._route_turns`)
    in the edited map    `output`: with span="prompt" turns are routed here, by the activations of this very pass; then
                         W_m (M_i* ⊙ x) is added, where x is

    tokens of a row                             span="prompt"    span="question", in its last turn
    before the question's last token            a_t              nothing is added
    that token, and on to the answer (tail)     a_t              what the edit's own prompt has there, read alone
    the answer                                  a_t              a_t
    a row that no edit answers                  nothing          nothing
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from memoir.call import CallState
from memoir.chat import turns
from memoir.chat.turns import Questions, Turn
from memoir.memory import ResidualMemory, Route


class Policy(ABC):
    """questions finds what asks among a row's tokens; None where all of a prompt asks."""

    questions: Questions | None = None

    @property
    @abstractmethod
    def n_edits(self) -> int:
        """How many edits are stored; without any, the model is the base model."""

    def turns(self, state: CallState, tokens: Tensor, real: Tensor, past: int, known: list[Turn] | None) -> list[Turn]:
        """The turns of a forward pass over tokens (B, T), where `past` ones are cached; known: those noted there."""
        return turns.whole_prompts(state.prompt_positions(tokens, real, past)) if known is None else known

    @abstractmethod
    def output(self, activations: Tensor, mapped: Tensor, state: CallState) -> Tensor | None:
        """The map's output (B, T, d) for its inputs (B, T, D), in place of `mapped`; None: as it is. May route turns of
        `state`."""

    def release(self) -> None:  # noqa: B027
        """Let go of whoever made it; nothing by itself."""


class MemoryPolicy(Policy):
    """MEMOIR's: y_t = W0 a_t + W_m (M_i* ⊙ a_t) in rows whose prompt was routed to edit i* (paper, section 3.2).

    With no stored edit, or for rows that match none, the map's output is passed on as it is, so the logits stay the
    base model's bit for bit.
    route_prompts: tokens, prompt positions (B, T), activations (B, T, D) -> where whole prompts go; route_turns: turns
    whose questions are known -> the same with their routes and with what the memory reads at their ends.
    """

    def __init__(
        self,
        memory: ResidualMemory,
        route_prompts: Callable[[Tensor, Tensor, Tensor], list[Route]] | None = None,
        questions: Questions | None = None,
        route_turns: Callable[[list[Turn]], list[Turn]] | None = None,
    ):
        self.memory, self.questions = memory, questions
        self._route_prompts, self._route_turns = route_prompts, route_turns

    @property
    def n_edits(self) -> int:
        """How many edits are stored."""
        return self.memory.n_edits

    def release(self) -> None:
        """Let go of the editor, whose own methods would keep it in memory."""
        self._route_prompts = self._route_turns = None

    def turns(self, state: CallState, tokens: Tensor, real: Tensor, past: int, known: list[Turn] | None) -> list[Turn]:
        """As `Policy.turns`; where questions ask, each that begins in these tokens is routed now, as if it stood
        alone."""
        if self.questions is None:
            return super().turns(state, tokens, real, past, known)
        begun = self._begun(state, tokens, real, past)
        if not begun:
            return known or []
        # A pass inside a pass: the questions, and the prompts that answer them, are read alone, by the base model. That
        # is sound because the pass outside has not begun (this runs before its layers do), and the state is put back.
        with state.within():
            return (known or []) + self._route_turns(begun)

    def _begun(self, state: CallState, tokens: Tensor, real: Tensor, past: int) -> list[Turn]:
        """The turns that begin in these tokens; none is routed yet."""
        generated = tokens.shape[1] == 1 if state.prompt is None else past >= state.prompt.shape[1]
        if state.off or self.n_edits == 0 or (past and generated):
            return []
        if tokens.is_floating_point():
            raise ValueError('span="question" reads the tokens that ask: ask with input_ids, not inputs_embeds.')
        if not past or state.text is None:
            prompt = real if past else state.prompt_positions(tokens, real)
            return turns.turns_of(self.questions, tokens, prompt, past, past > 0)
        each = len(tokens) // len(state.text)
        text, prompt = (whole.repeat_interleave(each, dim=0) for whole in (state.text, state.prompt))
        every = turns.turns_of(self.questions, text, prompt, 0, False)
        return [turn for turn in every if past <= turn.start and turn.end <= past + tokens.shape[1]]

    def output(self, activations: Tensor, mapped: Tensor, state: CallState) -> Tensor | None:
        """W0 a_t + W_m (M ⊙ a_t) where an edit answers, None where none does."""
        if state.forced is not None:
            rows = torch.arange(len(mapped), device=mapped.device)
            return self._sum(mapped, rows, self.memory(activations[rows], state.forced))
        if self.n_edits == 0:
            return None
        self._route(activations, state)
        answered, here = turns.answered_turns(state.turns, state.past, activations.shape[1])
        if not answered:
            return None
        rows = torch.tensor([turn.row for turn in answered], dtype=torch.long, device=mapped.device)
        masks = self.memory.masks_of([turn.route for turn in answered])[1]
        read = turns.with_inputs(activations[rows], answered, state.tokens, state.past)
        added = self.memory(read, masks)
        return self._sum(mapped, rows, added if here is None else added * here.to(added.device)[..., None])

    @staticmethod
    def _sum(mapped: Tensor, rows: Tensor, added: Tensor) -> Tensor:
        wide = torch.promote_types(mapped.dtype, added.dtype)  # a bfloat16 sum is rounded once, at the end
        return mapped.to(wide).index_add(0, rows, added.to(wide)).to(mapped.dtype)

    def _route(self, activations: Tensor, state: CallState) -> None:
        """Route prompts that all of their tokens ask, once these are here; questions were routed beforehand."""
        if all(turn.route for turn in state.turns):
            return
        positions = torch.stack([turn.prompt for turn in state.turns])
        if self._route_prompts:
            routes = self._route_prompts(state.tokens, positions, activations)
        else:
            routes = self.memory.route(self.memory.mask_of(activations, positions))
        state.turns = [turn._replace(prompt=None, route=own) for turn, own in zip(state.turns, routes, strict=True)]
