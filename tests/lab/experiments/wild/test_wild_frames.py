"""What streams say where people ask, as frames: on a planted table of which every share is known."""

import pandas as pd
import pytest

from memoir.lab.experiments.wild import frames, plots


def table(n: int = 4) -> pd.DataFrame:
    """Of n prompts in chat half are said, all are found; one of n irrelevant questions is changed."""
    rows = [{"record": f"r{i}", "form": "chat", "kind": "prompt", "exact": float(i % 2), "begins": 1.0,
             "teacher_forced": 0.75, "overlap": 0.9, "route": "own edit", "n_edits": 7} for i in range(n)]  # fmt: skip
    rows += [{"record": f"r{i}", "form": "chat", "kind": "irrelevant", "exact": float(i > 0), "begins": float(i > 0),
              "teacher_forced": None, "overlap": None, "route": None, "n_edits": 7} for i in range(n)]  # fmt: skip
    return pd.DataFrame(rows)


def test_shares_are_read_with_their_intervals():
    found = pd.DataFrame(frames._read({"wild": table()}, dataset="qaedit", label="rls"))
    value = found.set_index(["kind", "measure"])
    assert value.loc[("prompt", "exact"), "mean"] == 0.5 and value.loc[("prompt", "found"), "mean"] == 1
    assert value.loc[("prompt", "teacher_forced"), "mean"] == pytest.approx(0.75)
    assert value.loc[("irrelevant", "exact"), "mean"] == 0.75
    assert ("irrelevant", "found") not in value.index and ("irrelevant", "teacher_forced") not in value.index
    shares = found[found.measure.isin(["exact", "begins"])]
    assert ((shares.low < shares["mean"]) | (shares["mean"] == 0)).all() and (shares.high <= 1).all()


def test_published_values_stand_beside_ours_and_are_drawn(monkeypatch):
    ours = pd.DataFrame(frames._read({"wild": table()}, dataset="qaedit", label="recommended"))
    alone = ours.assign(n_edits=1, mean=1.0)
    monkeypatch.setattr(frames, "answers", lambda profile, names: pd.concat([alone, ours]))
    beside = frames.beside_published("full")
    published = pd.read_csv(frames.PUBLISHED, comment="#")
    assert len(beside[~beside.method.str.startswith("MEMOIR")]) == len(published)
    own = beside[(beside.method == "MEMOIR, recommended") & (beside.n_edits == 7)].set_index("protocol").value
    assert (beside[(beside.method == "MEMOIR, recommended") & (beside.n_edits == 1)].value == 1).all()
    assert own["synthetic"] == pytest.approx(0.75) and own["wild"] == 0.5
    for figure in (
        plots.beside_published(beside, "reliability", "title"),
        plots.by_form(ours, "prompt", "exact", "title"),
        plots.parts(ours.assign(label="rls"), "title"),
    ):
        figure.draw_without_rendering()


def test_the_wild_results_are_those_that_were_published():
    published = pd.read_csv(frames.PUBLISHED, comment="#").set_index(
        ["dataset", "model", "method", "metric", "protocol"]
    )
    assert len(published) == 204 and published.value.between(0, 1).all()
    assert published.value["zsre", "llama-2-7b-chat", "MEND", "reliability", "wild"] == 0.288


def test_what_later_edits_take_is_read_by_age(monkeypatch):
    rows = pd.DataFrame({"form": "chat", "kind": "prompt", "n_edits": 6, "exact": [0, 0, 1, 0, 1, 1]})
    rows = pd.concat([rows, rows.assign(kind="rephrasing", exact=1)])
    stream = type("Stream", (), {"dataset": "qaedit", "run": "qaedit-rls"})
    planned = type("Planned", (), {"stream": stream})
    monkeypatch.setattr(frames, "_finished", lambda *_: iter([(planned, {}, {"wild": rows})]))
    found = frames.by_age("full").iloc[0]
    assert found[list(frames.AGES)].tolist() == [0, 0.5, 1] and (found.label, found.form) == ("rls", "chat")
