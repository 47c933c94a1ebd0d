"""What a tokenizer's chat template writes around the user's messages, learnt from renderings of its own.

Nothing of any template is known beforehand: short conversations of marked words are rendered, and what stands before
and behind the marks is read off. Knows nothing of memories.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

USER, SECOND, REPLY, SYSTEM, TOOL = "okapione", "okapitwo", "quokkaone", "numbatone", "tapirone"
Message = dict[str, str]


@dataclass(frozen=True)
class Template:
    """The texts around a user's message, without the blanks at their ends.

    opening and closing: before and behind it. lead: all between it and the assistant's answer, blanks included.
    folded: between a system prompt and the message, where the template puts both into one turn. tool: what a tool's
    message begins with, where it is rendered as the user's.
    """

    opening: str
    closing: str
    lead: str
    folded: str | None = None
    tool: str | None = None

    def messages(self, text: str) -> list[tuple[int, int]]:
        """Where the contents of the user's messages stand in a rendered text, in characters; tools' are left out."""
        found = []
        for match in re.finditer(f"{re.escape(self.opening)}(.*?)(?={re.escape(self.closing)}|$)", text, re.DOTALL):
            start, stop = match.span(1)
            if self.tool and text[start:stop].lstrip().startswith(self.tool):
                continue
            if self.folded and (fold := text.rfind(self.folded, start, stop)) >= 0:
                start = fold + len(self.folded)
            found.append((start, stop))
        return found


def template_of(tokenizer: PreTrainedTokenizerBase) -> Template | None:
    """The `Template` of a tokenizer; None where it has none, or none that sets the user's messages off."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    user, second = {"role": "user", "content": USER}, {"role": "user", "content": SECOND}
    reply = {"role": "assistant", "content": REPLY}
    whole, asked = _rendered(tokenizer, [user, reply, second]), _rendered(tokenizer, [user], True)
    special = [token.content for token in tokenizer.added_tokens_decoder.values()]
    if whole is None or asked is None or not all(word in whole for word in (USER, REPLY, SECOND)):
        return None
    first, between = whole.partition(USER)[0], _between(whole, REPLY, SECOND)
    opening = "".join(_shared([_units(first, special)[::-1], _units(between, special)[::-1]])[::-1]).strip()
    behind = [_units(_between(whole, USER, REPLY), special), _units(asked.partition(USER)[2], special)]
    alone = (_rendered(tokenizer, [user]) or "").partition(USER)[2]
    closing = "".join(_shared([*behind, _units(alone, special)])).strip() or "".join(_shared(behind)).strip()
    if not opening or not closing:
        return None
    told = _rendered(tokenizer, [{"role": "system", "content": SYSTEM}, user])
    between = _between(told, SYSTEM, USER).strip() if told and SYSTEM in told else ""
    used = _rendered(tokenizer, [user, reply, {"role": "tool", "content": TOOL}], True)
    before = used.partition(TOOL)[0].rpartition(REPLY)[2] if used and TOOL in used else ""
    tool = before.partition(opening)[2].strip() if opening in before else None
    lead = asked.partition(USER)[2]
    return Template(opening, closing, lead, None if opening in between or not between else between, tool or None)


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes behind an assistant's message; "" where that is nothing."""
    user, reply = {"role": "user", "content": USER}, {"role": "assistant", "content": REPLY}
    return (_rendered(tokenizer, [user, reply]) or "").partition(REPLY)[2]


def need_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """ValueError where a tokenizer has no chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "This tokenizer has no chat template: set tokenizer.chat_template, or ask plain prompts with generate."
        )


def turn(question: str, answer: str) -> list[Message]:
    """A turn of a conversation: what the user asks, and what the assistant says."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def rendered(tokenizer: PreTrainedTokenizerBase, conversation: Sequence[Message]) -> str:
    """A conversation as a text that the assistant goes on with: a new message, or its own half-written last one.

    ValueError where the tokenizer has no chat template, or the template refuses the conversation.
    """
    need_template(tokenizer)
    unfinished = conversation[-1]["role"] == "assistant"
    try:
        return tokenizer.apply_chat_template(
            list(conversation), tokenize=False, add_generation_prompt=not unfinished, continue_final_message=unfinished
        )
    except TemplateError as error:
        raise ValueError(f"The chat template refuses this conversation: {error}.") from error


def rendered_ids(tokenizer: PreTrainedTokenizerBase, conversation: Sequence[Message]) -> list[int]:
    """The tokens of a `rendered` conversation; special tokens are those of the template alone."""
    return _ids(tokenizer, rendered(tokenizer, conversation))


def answered(
    tokenizer: PreTrainedTokenizerBase, conversation: Sequence[Message], answer: str, *, end: bool
) -> tuple[list[int], list[int]]:
    """The tokens of a rendered conversation, and of an answer as the assistant's; end: with what ends its turn.

    Where the tokens at the border change with the answer, the answer is taken apart.
    """
    before, said = rendered(tokenizer, conversation), answer.strip()
    whole = _rendered(tokenizer, [*conversation, {"role": "assistant", "content": said}])
    if whole and whole.startswith(before):
        said = whole[len(before) :].partition(said)[0] + said
    said += end_of_turn(tokenizer).strip() if end else ""
    ids, both = _ids(tokenizer, before), _ids(tokenizer, before + said)
    return ids, both[len(ids) :] if both[: len(ids)] == ids else _ids(tokenizer, said)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


def _rendered(tokenizer: PreTrainedTokenizerBase, conversation: list[Message], prompt: bool = False) -> str | None:
    try:
        return tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=prompt)
    except (TemplateError, ValueError):  # a template may know no tools, or no system prompt
        return None


def _units(text: str, special: list[str]) -> list[str]:
    """A text's special tokens, each whole, and its other characters."""
    return re.findall("|".join([*map(re.escape, special), "."]), text, re.DOTALL)


def _shared(texts: list[list[str]]) -> list[str]:
    """What all begin with."""
    return [units[0] for units in takewhile(lambda units: len(set(units)) == 1, zip(*texts, strict=False))]


def _between(text: str, left: str, right: str) -> str:
    return text.partition(left)[2].partition(right)[0]
