"""How a verdict is decided: the rule of a claim gives readings, and these make the verdict."""

from collections.abc import Iterable

from memoir.lab.evidence.results import gather
from memoir.lab.paper import claims, claims_capacity, claims_measured, claims_printed  # noqa: F401, their rules register themselves
from memoir.lab.paper.claims import Claim, Verdict


def judged() -> list[Verdict]:
    """Every claim with its verdict, from the result files and published numbers as they are now."""
    return [judge(claim) for claim in claims.claims().values()]


def judge(claim: Claim) -> Verdict:
    """One claim's verdict: what its readings, those that are decided, make of it."""
    results, sources, missing = gather(claim.results, claim.paper_size)
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        reason = f"There is no result of {', '.join(missing[:4])}{more}."
        return Verdict(claim, claims.NOT_TESTED, reason=reason, command=claim.command)
    try:
        readings = tuple(claims.RULES[claim.id](claim, results))
    except claims.Untested as why:
        return Verdict(claim, claims.NOT_TESTED, sources=sources, reason=f"{why}.", command=claim.command)
    deciding = [reading.holds for reading in readings if not reading.beside]
    if not deciding:
        return Verdict(claim, claims.NOT_TESTED, readings, sources, command=claim.command)
    return Verdict(claim, combined(deciding, claim.basis), readings, sources)


def combined(holds: Iterable[bool | None], basis: str) -> str:
    """The verdict that readings make: true when all hold, partly true when some hold and some do not.

    Where none holds and one does not, a claim about the paper or a law is false; what was measured, most often on
    another model, is only not reproduced here. What is left hangs on readings that the data do not decide.
    """
    holds = list(holds)
    if not holds:
        raise ValueError("A verdict needs at least one reading.")
    if True in holds:
        return claims.PARTLY_TRUE if False in holds else claims.UNDECIDED if None in holds else claims.TRUE
    if False not in holds:
        return claims.UNDECIDED
    return claims.NOT_REPRODUCED if basis == "measured" else claims.FALSE
