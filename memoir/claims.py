"""Claims of the article about the paper, each with a verdict that is computed from result files and published numbers.

The claims are records in data/claims.yaml; what decides each is a function of `claim_rules.RULES`. Knows no model: a
result that is missing gives "not tested here", with the command that would make it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import yaml

from memoir import evidence, overlap, plots
from memoir.datasets_registry import DATA

CLAIMS = DATA / "claims.yaml"
REPRODUCED, NOT_REPRODUCED, CONTRADICTED = "reproduced", "not reproduced", "contradicted"
ONE_READING, NOT_TESTED = "holds only under a stated reading", "not tested here"
VERDICTS = (REPRODUCED, ONE_READING, NOT_REPRODUCED, CONTRADICTED, NOT_TESTED)
BASES = {"paper": "the paper's printed numbers", "law": "arithmetic and exact laws", "measured": "measured here"}


@dataclass(frozen=True)
class Claim:
    """One record of data/claims.yaml; the meaning of each field stands at the top of that file."""

    id: str
    text: str
    basis: str
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
        if self.basis not in BASES or (self.results and not (self.command and self.fields)):
            raise ValueError(
                f"claims.yaml, claim {self.id}: basis must be one of {', '.join(BASES)}, and a claim with results "
                "needs `fields` and `command`."
            )

    @property
    def number(self) -> int:
        """The claim's number in the list; claims that are parts or sides of one share it."""
        return int(self.id.partition("-")[0])


@dataclass(frozen=True)
class Reading:
    """One way to read a claim, whether the claim holds when read so, and the numbers that say it, name -> value."""

    text: str
    holds: bool
    numbers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it. readings is empty, and reason and command say why, where it was not tested."""

    claim: Claim
    verdict: str
    readings: tuple[Reading, ...] = ()
    sources: tuple[evidence.Source, ...] = ()
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


@cache
def claims() -> dict[str, Claim]:
    """All claims by id, in the order of their file. ValueError or TypeError for a record that is not well formed."""
    found = [Claim(**_lists_to_tuples(record)) for record in yaml.safe_load(CLAIMS.read_text())]
    return {claim.id: claim for claim in found}


def judged() -> list[Verdict]:
    """Every claim with its verdict, from the result files and published numbers as they are now."""
    return [judge(claim) for claim in claims().values()]


def judge(claim: Claim) -> Verdict:
    """One claim's verdict; see `combined` for what its readings make of it."""
    from memoir.claim_rules import RULES  # the rules make readings of this module

    results, sources, missing = evidence.gather(claim.results, claim.paper_size)
    if missing:
        reason = f"These results are not there: {', '.join(missing)}."
        return Verdict(claim, NOT_TESTED, reason=reason, command=claim.command)
    readings = tuple(RULES[claim.id](claim, results))
    if not readings:
        return Verdict(claim, NOT_TESTED, sources=sources, reason=claim.paper.get("unknown", ""), command=claim.command)
    return Verdict(claim, combined((r.holds for r in readings), claim.basis), readings, sources)


def combined(holds: Iterable[bool], basis: str) -> str:
    """The verdict that readings make: all hold, some hold, none does.

    Where none does, a claim about the paper or a law is contradicted; what was measured on another model is only not
    reproduced.
    """
    found = overlap.verdict(holds)
    return NOT_REPRODUCED if found == CONTRADICTED and basis == "measured" else found


def _lists_to_tuples(record: dict) -> dict:
    return record | {"id": str(record["id"]), "figures": tuple(record.get("figures", ()))}
