"""The figures are drawn once, from a copy of the results and without a model: what is committed, and well drawn."""

import shutil

import pytest
from matplotlib import pyplot as plt

from memoir import plots
from memoir.lab import notebooks
from memoir.lab.evidence import files
from memoir.lab.report import figures

pytestmark = pytest.mark.slow


def wrong(figure) -> list[str]:
    """Whether something of a figure lies beyond its page, or is smaller than a NeurIPS caption's letters."""
    figure.draw_without_rendering()  # the layout is made when it is drawn
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    off = min(box.x0, box.y0, width - box.x1, height - box.y1) < -0.02
    small = any(text.get_fontsize() < plots.SMALL for text in figure.findobj(plt.Text) if text.get_text().strip())
    return ["cut off"] * int(off) + ["small"] * int(small)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """All figures, made in folders of our own; what was found wrong with each as it was saved; how to make them again,
    where the figures themselves are only named, not drawn anew."""
    place, found, save = tmp_path_factory.mktemp("drawn"), {}, plots.save
    shutil.copytree(files.ROOT / "data" / "results", place / "results")
    shutil.copytree(plots.FIGURES, place / "figures")  # a picture that is the same stays

    def looked_at(figure, name):
        paths = save(figure, name)
        found[name] = wrong(figure)
        return paths

    def named(figure, name):
        return [plots.FIGURES / f"{name}.{kind}" for kind in ("svg", "png")]

    def rebuilt() -> dict[str, bytes]:
        written = figures.rebuild(notebooks.discover())
        assert {path.name for path in plots.FIGURES.iterdir()} <= {path.name for path in written}
        return {path.name: path.read_bytes() for path in written}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "RESULTS", place / "results")
        patch.setattr(plots, "FIGURES", place / "figures")
        patch.setattr(plots, "save", looked_at)
        patch.setattr(figures.readme, "README", shutil.copy(figures.readme.README, place / "README.md"))
        made = rebuilt()
        patch.setattr(plots, "save", named)
        yield made, found, rebuilt


def test_figures_are_made_from_result_files_alone(drawn):
    """The committed bytes; a deleted result takes its own away, and leaves every other as it was."""
    made, _, again = drawn
    committed = [*(files.ROOT / "figures").iterdir(), files.ROOT / "README.md"]
    committed = {path.name: path.read_bytes() for path in committed}
    differ = sorted(name for name in made.keys() | committed.keys() if made.get(name) != committed.get(name))
    assert not differ, "make figures, and commit what it changes"
    (files.RESULTS / "full" / "overlap" / "interference.json").unlink()
    less, whole = again(), {"report.html", "README.md"}
    assert less.keys() == {name for name in made if not name.startswith("02_")}
    assert all(less[name] == made[name] for name in less.keys() - whole)
    assert b"02_interference" in made["report.html"] and b"02_interference" not in less["report.html"]


def test_nothing_that_is_written_is_cut_off_or_too_small(drawn):
    """Every letter of every figure lies on its page, and is as large as a NeurIPS caption's at the least."""
    _, found, _ = drawn
    assert {name: why for name, why in found.items() if why} == {}
    assert found.keys() == {path.stem for path in (files.ROOT / "figures").glob("*.svg")}
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.set_title("a title that is far too long for its figure")
    axes.text(0, 0, "tiny", fontsize=4)
    assert wrong(figure) == ["cut off", "small"]
    plt.close(figure)
