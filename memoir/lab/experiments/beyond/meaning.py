"""What the map of `routing/meaning.py` is trained on, and made from: questions about one subject, alike and not.

Half of OpenFacts' relations, every second by name, on the calibration records and those of the data set's end, which no
stream edits. The other half is never seen by the map, and tells what it is worth.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable

from safetensors.torch import save_file
from torch import Tensor

from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.routing import meaning

Pairs = list[tuple[str, str]]
CALIBRATION, EDITED = "openfacts-calibration", 7000  # the longest stream edits so many of OpenFacts' records


def records() -> list[EditRecord]:
    """Those that no stream edits."""
    return [*load_records(CALIBRATION), *load_records("openfacts")[EDITED:]]


def seen(records: Iterable[EditRecord]) -> set[str]:
    """The relations that the map is trained on."""
    return set(sorted({record.relation for record in records})[::2])


def pairs(records: Iterable[EditRecord], relations: Collection[str]) -> tuple[Pairs, Pairs]:
    """(question, stored prompt): rephrasings of the prompt, and questions about its subject that ask something else.

    Both of a pair are of these relations.
    """
    about: dict[str, list[EditRecord]] = defaultdict(list)
    for record in records:
        if record.relation in relations:
            about[record.subject].append(record)
    same, other = [], []
    for several in about.values():
        for own in several:
            same += [(question, own.prompt) for question in own.rephrasings]
            for one in several:
                if one.relation != own.relation:
                    other += [(question, own.prompt) for question in (one.prompt, *one.rephrasings)]
    return same, other


def learn() -> Tensor:
    """The map, (E, E) float32, anew from the records; two minutes or three."""
    own = records()
    model, tokenizer = meaning.sentence_model()

    same, other = pairs(own, seen(own))
    texts = {text: i for i, text in enumerate(dict.fromkeys(text for pair in same + other for text in pair))}
    vectors = meaning.embed(model, tokenizer, list(texts))

    def embedded(some: Pairs) -> tuple[Tensor, Tensor]:
        first, second = zip(*some, strict=True)
        return vectors[[texts[text] for text in first]], vectors[[texts[text] for text in second]]

    return meaning.train(embedded(same), embedded(other))


def write() -> None:
    """Write the map that the router reads."""
    meaning.MAP.parent.mkdir(exist_ok=True)
    save_file({"map": learn()}, meaning.MAP)
