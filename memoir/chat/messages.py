"""Is it a conversation? Lists of {"role": ..., "content": ...}, as transformers takes them. Knows no template."""

from collections.abc import Mapping, Sequence

from memoir.chat.template import Message
from memoir.checks import inputs

Conversation = Sequence[Message]


def as_conversations(conversations: object) -> list[Conversation]:
    """A list of conversations; one conversation is a list of one. TypeError or ValueError for what is none."""
    if not isinstance(conversations, Sequence) or isinstance(conversations, str) or not conversations:
        raise TypeError(
            "conversations must be a list of messages {'role': ..., 'content': ...} or a list of such lists, not a "
            f"{type(conversations).__name__}."
        )
    asked = [conversations] if is_one(conversations) else list(conversations)
    for i, conversation in enumerate(asked):
        place = "the conversation" if is_one(conversations) else f"conversations[{i}]"
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


def is_one(conversations: Sequence) -> bool:
    """Whether these are the messages of one conversation."""
    return isinstance(conversations[0], Mapping)
