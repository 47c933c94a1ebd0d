"""The style keeps its promises: a NeurIPS paper's width, letters that can be read, colours that can be told apart."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from memoir import plots
from memoir.baselines import METHODS

# how red-green blind eyes see linear RGB: Machado, Oliveira and Fernandes 2009, severity 1
SIGHT = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
SVGS = sorted(plots.FIGURES.glob("*.svg"))


def lab(colour: str, sight: str) -> np.ndarray:
    """CIE Lab (D65) of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    f = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(colours: dict[str, str], sight: str) -> float:
    seen = [lab(colour, sight) for colour in colours.values()]
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_methods_can_be_told_apart(sight):
    assert nearest(plots.METHODS, sight) >= 15
    assert nearest({"red": "#d62728", "green": "#2ca02c"}, "normal") > 100
    assert nearest({"purple": "#a9479f", "blue": "#0166a3"}, "protan") < 15  # what the check is there to find


def test_every_method_of_the_comparison_has_a_colour_that_is_seen_on_white():
    assert set(METHODS) <= plots.METHODS.keys()
    assert all(plots.contrast(colour) > 2.7 for colour in plots.METHODS.values())
    for colour in (*plots.METHODS.values(), *plots.COLOURS.values()):
        assert plots.contrast(plots.ink(colour)) >= 4.5  # letters need more
    assert plots.contrast("white") == pytest.approx(1) and plots.contrast("black") == pytest.approx(21)


def drawing(moved: float = 0.0):
    figure, axes = plt.subplots()
    axes.plot(np.linspace(0, 1, 500) ** 2 + moved, np.cos(np.linspace(0, 7, 500)), "o-")
    axes.set_title("A wave of many coordinates")
    return figure


def test_a_last_digit_of_another_processor_changes_no_byte(tmp_path, monkeypatch):
    """Every coordinate moved by a millionth before it is written gives the file that is there, or one that is new in a
    thousandth here and there; a picture that did change is written."""
    plots.use_style()
    paths = plots.save(drawing(), "wave", tmp_path)
    written = [path.read_bytes() for path in paths]
    assert not re.search(rb' [dxy]="[^"]*\d\.\d{4}', written[0]) and b"scale(0.015625)" in written[0]
    rounded, drawn = plots.rounded, []

    def elsewhere(text: str) -> str:
        drawn.append(rounded(re.sub(r"-?\d+\.\d{4,6}\b(?! *-?[\d.]*\))", lambda n: f"{float(n[0]) + 1e-6:.6f}", text)))
        return drawn[-1]

    with monkeypatch.context() as patch:
        patch.setattr(plots, "rounded", elsewhere)
        plots.save(drawing(), "wave", tmp_path)
    assert [path.read_bytes() for path in paths] == written and plots.same_picture(drawn[0], written[0].decode())
    changed = sum(a != b for a, b in zip(drawn[0].split(), written[0].decode().split(), strict=True))
    assert changed <= 0.01 * written[0].count(b".")
    plots.save(drawing(0.01), "wave", tmp_path)
    assert all(path.read_bytes() != before for path, before in zip(paths, written, strict=True))


@pytest.mark.parametrize("path", SVGS, ids=lambda path: path.stem)
def test_figures_are_as_wide_as_a_paper_lets_them_be_and_say_what_they_show(path):
    head = path.read_text()[:4000]
    assert float(re.search(r'width="([\d.]+)pt"', head)[1]) <= 72 * 5.5
    assert re.search(r"<dc:title>.{8,}</dc:title>", head) and re.search(r"<dc:description>.{8,}</dc:description>", head)


def test_names_at_lines_do_not_touch():
    figure, axes = plt.subplots()
    axes.set_ylim(0, 1)
    plots.end_labels(axes, [(0.99, "a", "red"), (0.98, "b", "red"), (0.97, "c", "red"), (0.1, "d", "red")], gap=0.1)
    places = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert list(places) == ["d", "c", "b", "a"] and places["d"] == pytest.approx(0.1)
    gaps = np.diff(list(places.values()))
    assert (gaps >= 0.1 - 1e-9).all() and max(places.values()) <= 1
    plt.close(figure)


def test_bands_stay_within_shares_and_words_follow_the_figure():
    plots.use_style()  # titles stand on the left
    figure, axes = plt.subplots()
    rows = pd.DataFrame({"n": [10, 1], "mean": [0.99, 1.0], "low": [0.9, 1.0], "high": [1.08, 1.0]})
    plots.curve(axes, rows, "n", "black", label="MEMOIR")
    axes.set(xlabel="edits $N$", ylabel="kept", title="All is kept")
    axes.legend()
    assert axes.collections[0].get_paths()[0].vertices[:, 1].max() <= 1
    assert list(axes.lines[0].get_xdata()) == [1, 10]
    title, words = plots.described(figure)
    assert title == "All is kept" and words == "All is kept; across: edits N; up: kept; named in it: MEMOIR"
    plt.close(figure)


def rows_of(**columns) -> pd.DataFrame:
    about = {"n_edits": [1, 2, 3], "mean": 0.5, "low": 0.4, "high": 0.6, "model": "a", "dataset": "b"}
    return pd.DataFrame(about | {"behaviour": "mask 1", "threshold": 0.5, "targets": "false"} | columns)


@pytest.mark.parametrize("name", plots.ONE_LINE)
def test_a_line_is_of_one_model_data_set_threshold_and_behaviour(name):
    figure, axes = plt.subplots()
    with pytest.raises(ValueError, match=f"One line of a figure is of one {name}, and not of 1, 2"):
        plots.curve(axes, rows_of(**{name: ["1", "1", "2"]}), "n_edits", "black")
    plt.close(figure)


def test_points_whose_edits_write_two_kinds_of_answers_are_hollow_and_the_legend_says_so():
    figure, axes = plt.subplots()
    plots.curve(axes, rows_of(), "n_edits", "black", label="line")
    assert axes.get_legend_handles_labels()[1] == ["line"]
    for label in ("other", "third"):
        plots.curve(
            axes, rows_of(targets=["false", "false and true", "false and true"]), "n_edits", "black", label=label
        )
    assert axes.get_legend_handles_labels()[1] == ["line", "other", plots.MIXED, "third"]
    hollow = axes.lines[-1]
    assert hollow.get_xdata().tolist() == [2, 3] and hollow.get_markerfacecolor() == "white"
    plt.close(figure)
