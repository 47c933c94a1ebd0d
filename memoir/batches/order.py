"""Which edits make a batch. Knows records and the prompts in them."""

from collections.abc import Iterable, Iterator

from memoir.facts.record import EditRecord
from memoir.texts import bare


def together(records: Iterable[EditRecord], size: int) -> Iterator[list[EditRecord]]:
    """The records in their order, at most `size` at a time, and none of one prompt twice: the later edit answers."""
    some: dict[str, EditRecord] = {}
    for record in records:
        if len(some) == size or bare(record.prompt) in some:
            yield list(some.values())
            some = {}
        some[bare(record.prompt)] = record
    if some:
        yield list(some.values())
