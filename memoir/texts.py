"""Prompts and targets as padded token rows, and the self-generated prefixes put before an edit's prompt; what of two
answers is the same."""

import re
import string
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEEDS = ("I", "You", "Because", "Yes", "Q: ")
SPACES = " \t"  # taken off the end of a prompt, which its target follows after one space
OPENING = ("$", "€", "£", "#", "@", "(", "[", "{", "“")
LENGTHS = (5, 10)  # new tokens: the authors' code makes five of each; the paper says ten of 10


class Verbatim(str):
    """A target that follows its prompt without a space: edit("The ticket costs $", Verbatim("75"))."""


@dataclass(frozen=True)
class Rows:
    """B padded rows. input_ids and attention_mask (B, T) int64; prompt and target (B, T) bool mark their tokens."""

    input_ids: Tensor
    attention_mask: Tensor
    prompt: Tensor
    target: Tensor

    def of(self, rows: Tensor | slice) -> "Rows":
        """Some of the rows, (b,) int64 or a slice."""
        return Rows(*(getattr(self, field.name)[rows] for field in fields(self)))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Tokens of a prompt without the spaces at its end, with whatever special tokens the tokenizer puts in front.

    A line break at the end, such as a chat template writes, is part of the prompt. ValueError when it is empty.
    """
    ids = _ids(tokenizer, bare(prompt)) if prompt.strip() else []
    if not ids:
        raise ValueError(f"The prompt {prompt!r} is empty: an edit or a query needs at least one token.")
    return ids


def target_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, target: str) -> list[int]:
    """Tokens of the target as it follows the prompt, see `joined`.

    ValueError when there are none, or the border between the two is lost.
    """
    before = prompt_ids(tokenizer, prompt)
    ids = _ids(tokenizer, joined(prompt, target)) if target.strip() else before
    if ids[: len(before)] != before:
        raise ValueError(f"The tokens of {prompt!r} change when {target!r} follows: the border between them is lost.")
    if len(ids) == len(before):
        raise ValueError(f"The target {target!r} of {prompt!r} has no tokens: there is nothing to learn.")
    return ids[len(before) :]


def bare(prompt: str) -> str:
    """A prompt without the spaces at its end: prompts that differ in nothing else are the same."""
    return prompt.rstrip(SPACES)


def joined(prompt: str, target: str) -> str:
    """The text that a prompt and its target make: one space between them, and none behind a line break.

    A target that begins with a space or is `Verbatim` stands as it is.
    """
    prompt = bare(prompt)
    as_it_is = isinstance(target, Verbatim) or prompt[-1:].isspace() or target[:1].isspace()
    return prompt + ("" if as_it_is else " ") + target.rstrip()


def spaced_oddly(prompt: str, target: str) -> bool:
    """Whether a space was put where seldom one is: behind "$", an opening bracket or quote, or before "'s"."""
    return joined(prompt, target) != joined(prompt, Verbatim(target)) and (
        bare(prompt).endswith(OPENING) or target.startswith(("'s", "’s", ",", ".", ";", ")"))
    )


def normalised(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces: SQuAD's normalisation."""
    text = "".join(c for c in text.casefold() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a text, without an end token that the tokenizer may put behind it: the text goes on there."""
    ids = tokenizer(text).input_ids
    if ids and ids[-1] == tokenizer.eos_token_id and tokenizer("a").input_ids[-1] == tokenizer.eos_token_id:
        return ids[:-1]
    return ids


def rows_of(
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    targets: list[list[int]],
    *,
    side: str,
    limit: int | None,
    device: torch.device,
) -> Rows:
    """Pad prompt + target tokens on `side`, "left" or "right". ValueError for a row of more than `limit` tokens."""
    rows = [before + after for before, after in zip(prompts, targets, strict=True)]
    longest = max(map(len, rows))
    if limit is not None and longest > limit:
        raise ValueError(f"A prompt with its target has {longest} tokens; the model's context holds {limit}.")
    padded = tokenizer.pad({"input_ids": rows}, padding_side=side, return_tensors="pt")
    attention_mask = padded.attention_mask
    order = attention_mask.cumsum(dim=1) * attention_mask  # 1, 2, ... along the real tokens
    borders = torch.tensor([len(before) for before in prompts])[:, None]
    prompt = (order > 0) & (order <= borders)
    parts = (padded.input_ids, attention_mask, prompt, order > borders)
    return Rows(*(part.to(device) for part in parts))


def self_generated_prefixes(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, n: int, seed: int
) -> tuple[str, ...]:
    """The first n of ten short texts of the model's own, put before an edit's prompt (paper, A.4.3).

    From five seed words: the first five texts of 5 new tokens, the others of 10.

    Sampling (the five likeliest tokens) uses a random state of its own; the caller's is left as it was.
    """
    wanted = [(length, word) for length in LENGTHS for word in SEEDS]
    if not 0 <= n <= len(wanted):
        raise ValueError(f"n_prefixes = {n} is out of range: there are {len(wanted)} self-generated prefixes.")
    prefixes = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for length, word in wanted[:n]:
            ids = torch.tensor([prompt_ids(tokenizer, word)], device=model.device)
            asked = dict(input_ids=ids, attention_mask=torch.ones_like(ids), pad_token_id=tokenizer.pad_token_id)
            text = model.generate(**asked, do_sample=True, top_k=5, min_new_tokens=length, max_new_tokens=length)
            prefixes.append(tokenizer.decode(text[0], skip_special_tokens=True).strip())
    return tuple(prefixes)
