"""The report: one static page with every verdict, the paper's tables and every figure, for a reader without Python.

Made from the verdicts, the paper's items and figures/, as they are now: no date and no network, so the bytes repeat.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from memoir import plots
from memoir.lab.evidence.files import ROOT
from memoir.lab.paper import claims, items as paper_items, tables as paper_tables, verdicts
from memoir.lab.report import claims_shown

NAME = "report.html"
SYMBOLS = {  # beside the verdict's words, so that no reader depends on its colour
    claims.TRUE: "✓", claims.PARTLY_TRUE: "◐", claims.NOT_REPRODUCED: "✗", claims.FALSE: "✗",
    claims.UNDECIDED: "?", claims.NOT_TESTED: "–",
}  # fmt: skip
SIDES = {"paper": "in the paper", "law": "by the law", "measured": "measured here"}
HEADINGS = {
    "paper": "By the paper's own numbers",
    "law": "By arithmetic and exact laws",
    "measured": "By what was measured here",
}
DC = "{*}"  # Dublin Core, whatever its namespace is called


def write(layouts: dict[str, pd.DataFrame]) -> Path:
    """Write figures/report.html from the results and the figures that are there; returns its path.

    layouts: the paper's tables as `paper.tables.layout` gives them, by item.
    """
    judged = verdicts.judged()
    items = [
        {"item": item, "state": str(state := paper_items.state(item)), "done": state.size is not None,
         "word": state.word, "table": layouts.get(item.item),
         "caption": paper_tables.caption(item) if item.table else "The paper prints no points of it."}
        for item in paper_items.items().values()
    ]  # fmt: skip
    path = plots.FIGURES / NAME
    path.write_text(_page(judged, items, described()), "utf-8")
    return path


def described() -> dict[str, tuple[str, str]]:
    """Title and description of every figure in figures/, by name, as `plots.save` wrote them into it."""
    found = {}
    for path in sorted(plots.FIGURES.glob("*.svg")):
        head = path.read_text("utf-8")
        work = ElementTree.fromstring(head[head.index("<rdf:RDF") : head.index("</metadata>")])[0]
        found[path.stem] = (work.findtext(f"{DC}title") or path.stem, work.findtext(f"{DC}description") or "")
    return found


def _page(judged: Sequence[claims.Verdict], items: Sequence[dict], figures: dict[str, tuple[str, str]]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"table": _table, "born": _born, "slug": _slug, "powers": _powers}
    environment.filters["commands"] = lambda text: text.split(" && ")
    groups: dict[str, list[claims.Verdict]] = {}
    for one in judged:  # a claim, and the side of it that the paper's own numbers decide, are one row
        groups.setdefault(one.claim.id.removesuffix("-paper"), []).append(one)
    counts = {verdict: sum(one.verdict == verdict for one in judged) for verdict in claims.VERDICTS}
    page = environment.get_template("page.jinja").render(
        groups=groups.values(), sides=SIDES, items=items, figures=figures, counts=counts,
        symbols=SYMBOLS, headings=HEADINGS, holds=claims_shown.HOLDS,
        notebooks={path.stem for path in (ROOT / "notebooks").glob("*.ipynb")},
    )  # fmt: skip
    return re.sub(r"\n\s*\n+", "\n", page)


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text).strip("-").lower()


def _powers(text: str) -> Markup:
    """10^-79 with its exponent raised."""
    return Markup(
        re.sub(r"10\^(-?)(\d+)", lambda found: f"10<sup>{'−' * bool(found[1])}{found[2]}</sup>", escape(text))
    )


def _table(frame: pd.DataFrame) -> Markup:
    """A table whose cells are text, escaped."""
    html = frame.rename_axis(columns=None).to_html(index=False, border=0, escape=True, na_rep="", classes="numbers")
    return Markup(html.replace("<th>", '<th scope="col">'))


def _born(provenance: dict) -> dict[str, str]:
    """A result's provenance as words, name -> value; what is not known is left out."""
    of = provenance.get
    commit = of("commit") and f"{of('commit')[:12]}{', with changes not committed' if of('dirty') else ''}"
    found = {
        "model": of("model") and f"{of('model')} ({of('dtype')}, {of('device')}), sha256 {of('model_sha256', '')[:12]}",
        "data": of("dataset") and f"{of('dataset')}, sha256 {of('data_sha256', '')[:12]}",
        "code": commit,
        "versions": ", ".join(f"{name} {version}" for name, version in of("versions", {}).items()),
        "run": f"{of('began')} to {of('ended')}, {of('threads')} thread{'s' if of('threads') != 1 else ''}",
        "peak memory": of("peak_memory_mib") and f"{of('peak_memory_mib'):,} MiB",
    }
    return {name: value for name, value in found.items() if value}
