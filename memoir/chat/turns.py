"""Turns: which of a row's tokens ask, and from which token on the answer is given by which route.

With the paper's procedure a row is one turn: its whole prompt asks, and all its tokens are answered by its route. Where
the question alone asks (`chat/spans.py`), a conversation has a turn for each of the user's messages, and an
edit acts in the last of them alone: what was asked and answered before is text like any other, which no edit adds to.
It acts from the last token of its question on, behind which the answer begins. Up to the answer it reads there what it
would read if the edit's own prompt stood alone, so that what it says first depends neither on what stood before nor on
how the question is worded. The turns are kept on a key-value cache, and `generate` reads it again from where an earlier
turn was answered by an edit (`crop_stale`): so a row is answered alike with a cache and without.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, StaticLayer

from memoir.chat.spans import Question
from memoir.memory import Route

CACHE_ATTRIBUTE = (
    "_memoir_turns"  # on a key-value cache: how many rows it has, and their turns, which deep copies of it have too
)
PACKED = (
    "Several texts in one row (continuous batching, packed position_ids) would all be answered by one edit. Use "
    "generate with a padded batch, or detach the editor."
)
NOWHERE = Route(None, 0.0)
Questions = Callable[[list[int], bool], list[Question]]


class Turn(NamedTuple):
    """One turn of a row, from the position `start` on (cached tokens counted).

    prompt (T,) bool marks the asking tokens of a forward pass until they are routed; or text is the question, which
    ends before the position `end`, tail the t tokens that follow it up to the answer, and read (1 + t, D) what the
    memory reads at its last token and at these, as if the prompt of the edit that answers stood there alone.
    """

    row: int
    start: int
    prompt: Tensor | None = None
    text: str | None = None
    end: int = 0
    tail: tuple[int, ...] = ()
    route: Route | None = None
    read: Tensor | None = None

    @property
    def acts_from(self) -> int:
        """The position from which on its edit acts: the last token of a question, the first of a whole prompt."""
        return self.end - 1 if self.end else self.start


def padding_mask(tokens: Tensor, attention_mask: Tensor | None, special: Sequence[int] = ()) -> Tensor:
    """(B, T) bool: the tokens that are not padding, as far as a two-dimensional mask tells.

    Without any mask a row's end of nothing but one special token is taken for padding, as evaluation harnesses pad
    rows of unlike length on the right.
    """
    # a static cache's generation makes a mask for each kind of layer, which says nothing of padding
    if isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
        return attention_mask.bool()[:, -tokens.shape[1] :]
    real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    if attention_mask is None and special and len(tokens) > 1 and not tokens.is_floating_point():
        last = tokens[:, -1:]
        ends = (tokens == last).flip(1).cumprod(dim=1).flip(1).bool()  # the run of the last token at a row's end
        padded = torch.isin(last, torch.tensor(special, device=tokens.device)) & ~ends.all(dim=1, keepdim=True)
        real &= ~(ends & padded)
    return real


def need_one_text(places: Tensor, real: Tensor) -> None:
    """ValueError where position_ids (B, T) begin anew within a row."""
    if places.shape == real.shape and ((places.diff(dim=1) <= 0) & real[:, 1:] & real[:, :-1]).any():
        raise ValueError(PACKED)


def length(cache) -> int:
    """How many tokens a key-value cache holds."""
    return 0 if cache is None else int(cache.get_seq_length())


def note(cache, rows: int, turns: list[Turn]) -> None:
    """Note on a cache which turns it holds."""
    setattr(
        cache,
        CACHE_ATTRIBUTE,
        (rows, [turn if turn.route else Turn(turn.row, turn.start, route=NOWHERE) for turn in turns]),
    )


def is_noted(cache) -> bool:
    """Whether turns were noted on a cache: an edited model has filled it."""
    return hasattr(cache, CACHE_ATTRIBUTE)


def noted(cache, rows: int) -> list[Turn] | None:
    """The turns that acted on a cache, without those that were cropped off; None where nobody noted them."""
    found = getattr(cache, CACHE_ATTRIBUTE, None)
    if found is None:
        return None
    if found[0] != rows:
        raise RuntimeError(
            f"This key-value cache was filled for {found[0]} rows and is now used with {rows}: their routes are "
            "unknown. Start again from the prompts."
        )
    return [turn for turn in found[1] if turn.acts_from < length(cache)]


def whole_prompts(prompt: Tensor) -> list[Turn]:
    """The paper's turns, for prompt positions (B, T) bool: one for each row, from its first token on."""
    return [Turn(row, 0, own) for row, own in enumerate(prompt)]


def turns_of(questions: Questions, tokens: Tensor, prompt: Tensor, past: int, visibly: bool) -> list[Turn]:
    """Each row's last turn whose question stands in tokens (B, P) at prompt (B, P) bool; none is routed yet.

    The first token is at the position `past` of its row; visibly: as in `spans.Questions`. A row that asks nothing has
    no turn.
    """
    found = []
    for row, (ids, own) in enumerate(zip(tokens.cpu(), prompt.cpu(), strict=True)):
        places = own.nonzero()[:, 0] + past
        for one in questions(ids[own].tolist(), visibly)[-1:]:
            found.append(
                Turn(row, int(places[one.first]), text=one.text, end=int(places[one.stop - 1]) + 1, tail=one.tail)
            )
    return found


def last_turns(questions: Questions | None, tokens: Tensor | None, prompt: Tensor | None) -> list[Turn] | None:
    """`turns_of` of whole prompts; None where it cannot be told: without `questions`, or not all tokens are here."""
    known = questions is not None and tokens is not None and prompt is not None and tokens.shape == prompt.shape
    return turns_of(questions, tokens, prompt, 0, False) if known else None


def crop_stale(cache, rows: int, last: list[Turn]) -> None:
    """Take off a cache what is not as it would be without it, for prompts with these last turns.

    That is all from where an edit answered a turn that is not the last one any more, or where the last one was read
    when it was not. It is read anew; so is all of a cache that cannot be shortened (static ones, sliding windows).
    """
    acted = noted(cache, rows) or []
    wanted, known = ({(turn.row, turn.start) for turn in some} for some in (last, acted))
    ends = [turn.acts_from for turn in acted if turn.route.edit is not None and (turn.row, turn.start) not in wanted]
    ends += [turn.acts_from for turn in last if (turn.row, turn.start) not in known]
    stale = length(cache) - min([length(cache), *ends])
    if stale and any(type(layer) is not DynamicLayer for layer in cache.layers):
        empty(cache)
    elif stale:
        cache.crop(-stale)


def empty(cache) -> None:
    """Take all tokens off a cache, of whatever kind its layers are."""
    for layer in cache.layers:
        if isinstance(layer, StaticLayer):
            layer.reset()
        elif layer.is_initialized:
            layer.keys, layer.values = layer.keys[..., :0, :], layer.values[..., :0, :]
            if hasattr(layer, "cumulative_length"):  # of a sliding window: what it has seen
                layer.cumulative_length = 0
    if hasattr(cache, CACHE_ATTRIBUTE):
        delattr(cache, CACHE_ATTRIBUTE)


def otherwise(cache, rows: int, routes: list[Route] | None) -> bool:
    """Whether a cache holds what other routes than these have answered; None: the base model."""
    then = latest_routes(noted(cache, rows) or [], rows)
    now = routes or [NOWHERE] * rows
    return [route.edit for route in then] != [route.edit for route in now]


def crosses_cache(cache, rows: int, last: list[Turn]) -> bool:
    """Whether prompts with these last turns have to be read as a whole to be routed, because the question of one lies
    across the border between a cache and the tokens to come, or in a cache that nobody noted turns on."""
    past, known = length(cache), {turn.row for turn in noted(cache, rows) or ()}
    return any(turn.start < past and (turn.row not in known or turn.end > past) for turn in last)


def latest_routes(turns: list[Turn], rows: int) -> list[Route]:
    """The route of each row's last turn."""
    return list(({row: NOWHERE for row in range(rows)} | {turn.row: turn.route or NOWHERE for turn in turns}).values())


def answered_turns(turns: list[Turn], past: int, n: int) -> tuple[list[Turn], Tensor | None]:
    """Each row's last turn, where an edit answers it, among n tokens from the position `past` on, and its tokens of
    these, (m, n) bool.

    None in place of the tokens where every turn has all of its row's.
    """
    last = {turn.row: turn for turn in sorted(turns, key=lambda turn: turn.start)}
    found = [turn for _, turn in sorted(last.items()) if turn.route.edit is not None and turn.acts_from < past + n]
    if all(turn.acts_from <= past for turn in found):
        return found, None
    return found, torch.arange(n) >= torch.tensor([[turn.acts_from - past] for turn in found])


def with_inputs(activations: Tensor, turns: list[Turn], tokens: Tensor, past: int) -> Tensor:
    """Activations (m, n, D) of m turns in tokens (B, n), from the position `past` on, with what the memory reads from a
    question's last token to its answer; they are changed in place."""
    for row, turn in enumerate(turns):
        for i, read in enumerate(turn.read if turn.read is not None else ()):
            place = turn.acts_from + i - past
            if 0 <= place < activations.shape[1] and (i == 0 or tokens[turn.row, place] == turn.tail[i - 1]):
                activations[row, place] = read
    return activations
