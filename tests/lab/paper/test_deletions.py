"""A deleted result takes with it what is made from it and nothing else: figures, verdicts, the paper's items."""

import os
import re
import shutil
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import pandas as pd
import pytest
from planted_results import ALL, BORN, LENGTHS, PLANNED, aged, long_targets, stream, write

from memoir.lab import experiments
from memoir.lab.evidence import files, results
from memoir.lab.experiments.retention import frames as retention
from memoir.lab.paper import items as paper_items, verdicts
from memoir.lab.paper.claims import NOT_TESTED

pytestmark = pytest.mark.slow


def verdict(claim):
    found = verdicts.judge(claim)
    return found.verdict, found.reason


def claims_and_items():
    """What says the verdict on each claim that has results, and the state of each item, by its name."""
    found = {claim.id: partial(verdict, claim) for claim in ALL.values() if claim.results}
    return found | {name: lambda item=item: str(paper_items.state(item)) for name, item in paper_items.items().items()}


@pytest.fixture
def looked_for(monkeypatch):
    """The paths that were asked whether they exist, which is how a result is found to be there, and those of what was
    read earlier and kept."""
    found, exists, stamp = set(), Path.exists, results.stamp

    def noted(path, **options):
        found.add(path)
        return exists(path, **options)

    def stamped(*experiment):
        made_of = stamp(*experiment)
        found.update(path for path, *_ in made_of)
        return made_of

    monkeypatch.setattr(Path, "exists", noted)
    monkeypatch.setattr(results, "stamp", stamped)
    return found


@pytest.fixture
def before_and_read(looked_for, tmp_path, monkeypatch):
    """What each of some functions says, and which results it looked for: what no other function need be asked again.

    That no other file matters to it is seen from its saying the same where nothing but what it looked for is there.
    """

    def ask(functions):
        folder, before, read = files.RESULTS, {}, {}
        for i, (name, say) in enumerate(functions.items()):
            looked_for.clear()
            before[name] = say()
            read[name] = {path for path in looked_for if path.is_relative_to(folder) and path.is_file()}
            alone = tmp_path / f"alone-{i}"
            for path in read[name]:
                copy = alone / path.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, copy)
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(files, "RESULTS", alone)
                assert say() == before[name], name
        return before, read

    return ask


def dependent(name):
    """The claims and items that are made from a result, or from a stream that a table belongs to, by their records."""
    path = files.RESULTS / "full" / name
    owner = {name}
    if path.suffix == ".parquet":
        owner |= {stream for stream, one in PLANNED["full"].items() if path in one.tables.values()}
    of_claims = {c.id for c in ALL.values() for p in c.results.values() if owner & set(results.names("full", p))}
    return of_claims | {item.item for item in paper_items.items().values() if owner & set(item.inputs())}


def check_deletions(paths, before_and_read):
    functions = claims_and_items()
    before, read = before_and_read(functions)
    for path in paths:
        name = str(path.relative_to(files.RESULTS / "full")).removesuffix(".json")
        depend = dependent(name)
        content = path.read_bytes()
        path.unlink()
        after = {key: say() for key, say in functions.items() if path in read[key] or key in depend}
        changed = {key for key in after if after[key] != before[key]}
        fallen = {key for key in depend if before[key][0] != NOT_TESTED}
        assert fallen <= changed <= depend, name
        for key in fallen:
            said = after[key]
            assert said[0] == NOT_TESTED if isinstance(said, tuple) else said.startswith("not run"), (name, key)
        path.write_bytes(content)


def test_deleting_a_planted_result_turns_exactly_what_depends_on_it(tmp_path, monkeypatch, before_and_read):
    folder = tmp_path / "results"
    monkeypatch.setattr(files, "RESULTS", folder)
    monkeypatch.setattr(retention, "readings", lambda profile, n_edits: None)
    rows = [dict(dataset="counterfact", label=label, tau=0.5, n_edits=n, set="OpenFacts", known=9, kept=1.0, low=1.0,
                 high=1.0) for label, n in (("MEMOIR, τ", 1000), ("FT", 100))]  # fmt: skip
    monkeypatch.setattr(retention, "shares", lambda _: pd.DataFrame(rows))
    names = {n for c in ALL.values() for p in c.results.values() for n in results.names("full", p)}
    names |= {name for item in paper_items.items().values() for name in item.inputs()}
    for n, name in ((600, "hallucination/all-600-stop-0.1"), (75, "temporal/stop-0.1")):
        write("full", f"{name}-questions.parquet", long_targets(0.1, n=n))
    law = pd.DataFrame({"model": "m", "N": [1, 9999], "reliability": [1.0, 0.5]})
    write("full", "overlap/interference-capacity.parquet", law)
    write("full", "overlap/real_masks-histograms.parquet", law)
    exposures, questions = aged()
    for dataset in ("zsre", "openfacts"):
        write("full", f"exposure/lasting-{dataset}-edits.parquet", exposures)
        write("full", f"lasting/{dataset}-questions.parquet", questions)
    for dataset in ("openfacts", "counterfact"):
        kinds = pd.DataFrame({"kind": ["negated", "chinese"], "n_edits": 9, "route": "own edit", "target": 1.0})
        write("full", f"limits/{dataset}-paper-around.parquet", kinds)
    write(
        "full", "beyond/routing", {"metrics": [dict(way="masks (the paper)", tau=0.5, negated=1.0)], "provenance": BORN}
    )
    for name in ("simulation", "real_masks"):
        shutil.copy(files.ROOT / f"data/results/full/overlap/{name}.json", folder / "full/overlap")
    for i, name in enumerate(sorted(names)):
        if not name.endswith(".parquet") and not (folder / "full" / f"{name}.json").exists():
            lengths = (75,) if name.startswith("temporal/") else LENGTHS
            write(
                "full", name, stream(lengths=lengths, editor={"layer": i % 30}, stream={"profile": "full", "at": [9]})
            )
    found = {one.claim.id: (one.verdict, one.reason) for one in verdicts.judged() if one.claim.results}
    assert not [about for about in found.items() if about[1][0] == NOT_TESTED]
    assert all(s.size == "full" for s in map(paper_items.state, paper_items.items().values()) if s.planned)
    seen, some = set(), []  # one layer, or ablation, is like another
    for name in sorted(names | {"lasting/zsre-edits.parquet", "lasting/zsre-untouched.parquet"}):
        kind = re.sub(r"^(layers|layers-zsre|scale-layers|ablations)/.*", r"\1", name)
        some += [name] if kind not in seen else []
        seen.add(kind)
    paths = [folder / "full" / (name if name.endswith(".parquet") else f"{name}.json") for name in some]
    check_deletions(paths, before_and_read)


@pytest.fixture
def undrawn(monkeypatch):
    """The experiments, whose figures are made up to the drawing."""
    found = experiments.discover()
    assert len(found) >= 9
    for where in found:
        for module in [name for name in vars(where) if name.endswith("plots")]:
            monkeypatch.setattr(where, module, MagicMock())
    return found


def names(experiment):
    """The names of the figures that can be made."""
    return {name for name, _ in experiment.figures()}


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """A copy of the committed results, which are now read from there."""
    folder = tmp_path / "results"
    shutil.copytree(files.RESULTS, folder)
    monkeypatch.setattr(files, "RESULTS", folder)
    return folder


@pytest.fixture
def few(committed, tmp_path):
    """Without most ablations, layers and data sets: few stand for all while figures are made anew for each deletion."""
    kept = r"(none|default|whole|k-878|layer-2[4-7])-seed-0|qwen2\.5-0\.5b-(none|of-24-layer-2[0-3])"
    kept += r"|qaedit|(counterfact|knowedit)-(paper|rls)[-.]|[a-z]+(-edits)?\."
    for wide in ("ablations*/*", "layers*/*", "scale-layers/*", "wild*/*", "limits/*"):
        for path in (committed / "full").glob(wide):
            if not re.match(kept, path.name):
                path.unlink()
    return committed


def kinds(folder):
    """A file of each kind: one stream's result, or table of questions, is like another's."""
    found = {}
    for path in sorted((folder / "full").rglob("*.json")):
        planned = f"{path.parent.name}/{path.stem}" in PLANNED["full"]
        found.setdefault((path.parent.name, "stream" if planned else path.stem), path)
    for path in sorted((folder / "full").rglob("*.parquet")):
        found.setdefault((path.parent.name, path.stem.rpartition("-")[2]), path)
    return list(found.values())


def test_deleting_a_committed_result_leaves_all_other_figures(few, tmp_path, undrawn, before_and_read):
    functions = {one.__name__: partial(names, one) for one in undrawn}
    before, read = before_and_read(functions)
    # notebook 13 has no figure before its streams have ended
    assert {name for name, found in before.items() if not found} <= {"memoir.lab.experiments.wild.figures"}
    for path in kinds(few):
        aside = path.rename(tmp_path / path.name)
        for name, say in functions.items():
            if path in read[name]:
                assert say() <= before[name], (name, path.name)
        aside.rename(path)
    assert {name: say() for name, say in functions.items()} == before


def test_deleting_a_committed_result_turns_exactly_what_depends_on_it(committed, before_and_read):
    check_deletions(kinds(committed), before_and_read)
