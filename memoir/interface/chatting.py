"""A model that is asked in conversations, through its tokenizer's own chat template."""

from abc import ABC
from collections.abc import Mapping, Sequence

import torch

from memoir.checks import inputs
from memoir.conversation.template import Message, answered, rendered_ids
from memoir.interface.asking import Asked, several
from memoir.interface.threads import in_turn
from memoir.metrics import Score

Conversation = Sequence[Message]


class Chatting(Asked, ABC):
    """`generate` and `score` for conversations, lists of {"role": ..., "content": ...} as transformers takes them.

    One conversation gets one answer and a list of them a list. ValueError where the tokenizer has no chat template or
    the template refuses a conversation, where nobody asks, or where the last message of the user is empty.
    """

    @in_turn
    def chat(
        self, conversations: Conversation | Sequence[Conversation], max_new_tokens: int = 50, **kwargs
    ) -> list[str] | str:
        """The assistant's next message of each conversation, or the rest of one that is half written.

        Greedy unless kwargs (those of `model.generate`) differ. `model.generate` and pipelines, asked with
        `tokenizer.apply_chat_template`, answer the same.
        """
        self._need_attached()
        asked = checked(conversations)
        said = self._continued([rendered_ids(self.tokenizer, one) for one in asked], max_new_tokens, kwargs)
        return said[0] if _is_one(conversations) and len(said) == 1 else said

    @in_turn
    @torch.no_grad()
    def score_chat(
        self, conversations: Conversation | Sequence[Conversation], targets: Sequence[str] | str
    ) -> list[Score] | Score:
        """Each target under teacher forcing as the assistant's next message, without the end of its turn."""
        self._need_attached()
        pairs = zip(checked(conversations), several(targets, "targets"), strict=True)
        befores, afters = zip(*(answered(self.tokenizer, *pair, end=False) for pair in pairs), strict=True)
        found = self._scored(list(befores), list(afters))
        return found[0] if _is_one(conversations) else found


def checked(conversations: object) -> list[Conversation]:
    """A list of conversations; one conversation is a list of one. TypeError or ValueError for what is none."""
    if not isinstance(conversations, Sequence) or isinstance(conversations, str) or not conversations:
        raise TypeError(
            "conversations must be a list of messages {'role': ..., 'content': ...} or a list of such lists, not a "
            f"{type(conversations).__name__}."
        )
    asked = [conversations] if _is_one(conversations) else list(conversations)
    for i, conversation in enumerate(asked):
        place = "the conversation" if _is_one(conversations) else f"conversations[{i}]"
        if not isinstance(conversation, Sequence) or isinstance(conversation, str) or not conversation:
            raise TypeError(f"{place} must be a list of messages, not a {type(conversation).__name__}.")
        for j, message in enumerate(conversation):
            if not isinstance(message, Mapping) or not {"role", "content"} & message.keys():
                raise TypeError(f"{place}, message {j}, must be {{'role': ..., 'content': ...}}.")
            inputs.text(message.get("role"), f"{place}, message {j}: role")
            if "tool_calls" not in message:  # an assistant that calls a tool need not say anything
                inputs.text(message.get("content"), f"{place}, message {j}: content")
        asks = [message["content"] for message in conversation if message["role"] == "user"]
        if not asks or not asks[-1].strip():
            raise ValueError(f"{place} asks nothing: its last message of the user is {'empty' if asks else 'missing'}.")
    return asked


def _is_one(conversations: Sequence) -> bool:
    return isinstance(conversations[0], Mapping)
