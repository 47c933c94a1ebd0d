"""Verdicts to read: the table of the README, and each claim's page. Made from what `paper/verdicts.py` decides."""

import textwrap

import pandas as pd
from PIL import Image

from memoir import plots
from memoir.lab.evidence.results import Source
from memoir.lab.paper import claims, verdicts
from memoir.lab.paper.claims import Reading, Verdict
from memoir.plots import markdown

SIDES = {True: "does the paper say so?", False: "does it hold here?"}
REASON = 100  # characters at most, of a number and its name
HOLDS = {True: "holds", False: "does not hold", None: "is undecided"}


def summary(verdicts: list[Verdict]) -> pd.DataFrame:
    """A row per claim: columns claim, the article says, whether the paper says so, whether it holds here; "–": no side.

    A claim and its side "-paper", which has the article's wording, share a row.
    """
    rows = {}
    for one in verdicts:
        row = rows.setdefault(one.claim.id.removesuffix("-paper"), {})
        row[SIDES[one.claim.basis == "paper"]] = _short(one)
        row.setdefault("claim", one.claim.number)
        row.setdefault("the article says", one.claim.text)
    columns = ["claim", "the article says", SIDES[True], SIDES[False]]
    return pd.DataFrame(list(rows.values()), columns=columns).fillna("–")


def _short(verdict: Verdict) -> str:
    """The verdict and its reason: of one that is partly true the first reading that holds and the first that does not,
    of others that are not true a number of the first reading that made them so, the paper's where there is one."""
    deciding = [one for one in verdict.readings if not one.beside]
    holds = [one for one in deciding if one.holds]
    open_ = [one for one in deciding if one.holds is None]
    fails = [one for one in deciding if one not in (*holds, *open_)]
    if verdict.verdict in (claims.FALSE, claims.NOT_REPRODUCED, claims.UNDECIDED):
        numbers = (open_ if verdict.verdict == claims.UNDECIDED else fails)[0].numbers
        name = next((name for name in numbers if "the paper" in name), list(numbers)[-1])
        return f"{verdict.verdict}. {textwrap.shorten(f'{name}: {numbers[name]}', REASON, placeholder=' …')}"
    if verdict.verdict != claims.PARTLY_TRUE:
        return verdict.verdict
    return f"{verdict.verdict}. Yes: {_first(holds)}. No: {_first(fails)}"


def _first(readings: list[Reading]) -> str:
    return readings[0].text + (f" (and {len(readings) - 1} more)" if len(readings) > 1 else "")


def counts(verdicts: list[Verdict]) -> str:
    """How many records have each verdict, as a sentence's part: "9 false, 3 true, …"."""
    found = [one.verdict for one in verdicts]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in claims.VERDICTS if verdict in found)


def readme_section(verdicts: list[Verdict]) -> str:
    """What stands in the README between the markers."""
    return (
        f"{markdown(summary(verdicts))}\nWritten by `make figures` from the committed results: {counts(verdicts)}. "
        "*Yes* and\n*No* name the first reading in which a claim holds and in which it does not. It has two verdicts "
        "where it can be held against the paper's print and\nagainst a result here; “–” is a side that it does not "
        "have. Every reading, its numbers, their sources, and the commands for what is not tested:\n"
        "[14_claims](notebooks/14_claims.ipynb).\n"
    )


def page(verdict: Verdict) -> str:
    """One claim as markdown: what is claimed, how it is read and tested, the numbers, where they come from."""
    claim = verdict.claim
    lines = [f"### {claim.id} · {verdict.verdict}", f"*“{claim.text}”*", ""]
    lines += [f"**Tested by** {claims.BASES[claim.basis]}. {claim.test} **A reading holds when:** {claim.accept}", ""]
    for reading in verdict.readings:
        numbers = "; ".join(f"{name}: **{value}**" for name, value in reading.numbers.items())
        said = f"decides nothing, as {reading.beside}" if reading.beside else HOLDS[reading.holds]
        lines.append(f"- {reading.text}: {said}. {numbers}")
    if verdict.reason:
        command = f" `{verdict.command}`" if verdict.command else ""
        lines += ["", f"**Not tested:** {verdict.reason}{command}"]
    places = f"In the article: {claim.place}. In the paper: {claim.stands}. Notebook: {claim.notebook}."
    lines += ["", places + _sources(verdict.sources)]
    return "\n".join(lines) + "\n"


def lines(name: str) -> str:
    """One claim, by its id, as plain text for a notebook: the verdict, then each reading with its numbers."""
    found = verdicts.judge(claims.claims()[name])
    shown = [f"claim {name}: {found.verdict}"]
    for reading in found.readings:
        shown.append(f"  {'beside' if reading.beside else HOLDS[reading.holds]}: {reading.text}")
        shown += [f"      {number}: {value}" for number, value in reading.numbers.items()]
    return "\n".join(shown + ([f"  {found.reason}"] if found.reason else []))


def picture(name: str, width: int = 900) -> Image.Image:
    """A figure of figures/ to look at in a notebook: few pixels and colours, so that it stays small."""
    whole = Image.open(plots.FIGURES / f"{name}.png").convert("RGB")
    return whole.resize((width, round(whole.height * width / whole.width)), Image.Resampling.LANCZOS).quantize(64)


def _sources(sources: tuple[Source, ...]) -> str:
    if not sources:
        return ""
    shown = [f"`{source.path}` ({_born(source.provenance)})" for source in sources[:4]]
    return f" From {', '.join(shown)}{f' and {len(sources) - 4} more' if len(sources) > 4 else ''}."


def _born(born: dict) -> str:
    about = [born.get("model"), born.get("device"), f"code {(born.get('commit') or 'unknown')[:7]}", born["ended"][:10]]
    return ", ".join(part for part in about if part)
