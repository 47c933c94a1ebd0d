"""Claims of the article about the paper, each with a verdict that is computed from result files and published numbers.

The claims are records of data/claims.yaml; what decides each is a function that registers itself with `rule`, in
`claims_printed` and `claims_measured`. A result that is missing gives "not tested", with the command that would
make it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import yaml

from memoir import plots
from memoir.checks import inputs
from memoir.checks.places import DATA
from memoir.lab.evidence.results import Source

CLAIMS = DATA / "claims.yaml"
TRUE, PARTLY_TRUE, FALSE = "true", "partly true", "false"
NOT_REPRODUCED, UNDECIDED, NOT_TESTED = "not reproduced here", "undecided", "not tested"
VERDICTS = (TRUE, PARTLY_TRUE, FALSE, NOT_REPRODUCED, UNDECIDED, NOT_TESTED)
BASES = {"paper": "the paper's printed numbers", "law": "arithmetic and exact laws", "measured": "measured here"}
RULES: dict[str, Callable] = {}  # claim's id -> function of the claim and its results that yields readings


@dataclass(frozen=True)
class Claim:
    """One record of data/claims.yaml; the meaning of each field stands at the top of that file."""

    id: str
    text: str
    basis: str
    place: str
    stands: str
    notebook: str
    test: str
    accept: str
    results: dict[str, str] = field(default_factory=dict)
    paper_size: dict[str, str] = field(default_factory=dict)
    fields: str = ""
    command: str = ""
    article: dict = field(default_factory=dict)
    paper: dict = field(default_factory=dict)
    figures: tuple[str, ...] = ()

    def __post_init__(self):
        inputs.one_of(self.basis, f"claims.yaml, claim {self.id}: basis", tuple(BASES))
        if (self.results or self.paper_size) and not (self.command and self.fields):
            raise ValueError(f"claims.yaml, claim {self.id}: a claim with results needs `fields` and `command`.")

    @property
    def number(self) -> int:
        """The claim's number in the list; claims that are parts or sides of one share it."""
        return int(self.id.partition("-")[0])


@dataclass(frozen=True)
class Reading:
    """One way to read a claim, whether the claim holds when read so, and the numbers that say it, name -> value.

    holds is None where the data do not decide: the claimed number lies within the interval, or is not to be had.
    beside: why a reading is shown and decides nothing: nobody would draw it from the claim's own sentence.
    """

    text: str
    holds: bool | None
    numbers: dict[str, str] = field(default_factory=dict)
    beside: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it; reason and command say why, and what would test it, where it was not tested."""

    claim: Claim
    verdict: str
    readings: tuple[Reading, ...] = ()
    sources: tuple[Source, ...] = ()
    reason: str = ""
    command: str = ""

    @property
    def numbers(self) -> dict[str, str]:
        """The numbers of all readings, name -> value."""
        return {name: value for reading in self.readings for name, value in reading.numbers.items()}

    @property
    def figures(self) -> tuple[str, ...]:
        """The claim's figures that are there, as names in figures/ without their ending."""
        return tuple(name for name in self.claim.figures if (plots.FIGURES / f"{name}.svg").exists())


class Untested(Exception):
    """A rule's result is there, but lacks the number that decides. The message says which, as a sentence."""


def reaches(row: Mapping, value: float) -> bool | None:
    """Whether a mean, with its interval low to high, is at least a value: True when the whole interval is, False when
    none of it is, None when the value lies within. More data decides; less never makes a claim truer."""
    return True if row["low"] >= value else False if row["high"] < value else None


def stays_below(row: Mapping, value: float) -> bool | None:
    """Whether a mean is at most a value, in the same way."""
    return True if row["high"] <= value else False if row["low"] > value else None


def rule(*ids: str):
    """Register a function (claim, results by role) -> readings as what decides the claims of these ids."""

    def register(function):
        RULES.update(dict.fromkeys(ids, function))
        return function

    return register


@cache
def claims() -> dict[str, Claim]:
    """All claims by id, in the order of their file. ValueError or TypeError for a record that is not well formed."""
    records = yaml.safe_load(CLAIMS.read_text("utf-8"))
    found = [Claim(**record | {"figures": tuple(record.get("figures", ()))}) for record in records]
    return {claim.id: claim for claim in found}
