"""The report in a real browser, from its file: every claim opens, nothing is missing, nothing leaves the machine."""

import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from memoir import plots
from memoir.lab import notebooks
from memoir.lab.evidence import files
from memoir.lab.experiments.beyond import figures as beyond_figures
from memoir.lab.experiments.lasting import figures as lasting_figures
from memoir.lab.paper import claims, items as paper_items, verdicts
from memoir.lab.report import page, readme

CHROMIUM = shutil.which("chromium")
KEPT = files.ROOT / "runs" / "report"  # the screenshots; git ignores it
PAGE = plots.FIGURES / page.NAME
SEVERE = ("serious", "critical")  # of what axe-core finds
PHONE, DESKTOP = {"width": 380, "height": 800}, {"width": 1200, "height": 900}

BROKEN = """async () => {
  const found = [];
  for (const image of document.images) {
    image.loading = "eager";
    await image.decode().catch(() => null);
    if (!image.naturalWidth) found.push(image.getAttribute("src"));
  }
  return found;
}"""


class Reader(HTMLParser):
    """What a screen reader goes by: tags, links, alternative texts, the levels of headings."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.links, self.alts, self.levels, self.ids = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [attrs[name] for name in ("href", "src") if name in attrs]
        self.alts += [attrs.get("alt", "")] if tag == "img" else []
        self.levels += [int(tag[1])] if re.fullmatch(r"h[1-6]", tag) else []
        self.ids += [attrs["id"]] if "id" in attrs else []


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; see tests/SKIPS.md")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; see tests/SKIPS.md")
    with sync_api.sync_playwright() as browsers:
        started = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield started
        started.close()


def opened(browser, path: Path, viewport: dict, scheme: str = "light"):
    """The page, and the list that what goes wrong while it is read is put into."""
    page, wrong = browser.new_page(viewport=viewport, color_scheme=scheme), []
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"not loaded: {request.url}"))
    page.on("request", lambda request: request.url.startswith("file://") or wrong.append(f"leaves: {request.url}"))
    page.goto(path.as_uri())
    return page, wrong


def faults(page, wrong: list[str]) -> list[str]:
    """All that is wrong once everything is open."""
    page.evaluate("document.querySelectorAll('details').forEach(row => row.open = true)")
    wrong = [*wrong, *(f"no image: {source}" for source in page.evaluate(BROKEN))]
    wide = page.evaluate("document.documentElement.scrollWidth")
    wrong += [f"scrolls sideways: {wide}"] if wide > page.viewport_size["width"] else []
    found = Axe().run(page).response["violations"]
    return wrong + [f"{one['id']}: {one['nodes'][0]['html'][:80]}" for one in found if one["impact"] in SEVERE]


@pytest.mark.parametrize(
    ("name", "viewport", "scheme"),
    [
        ("desktop", DESKTOP, "light"),
        ("phone", PHONE, "light"),
        ("dark", DESKTOP, "dark"),
        ("phone-dark", PHONE, "dark"),
    ],
)
def test_the_page_reads_well(browser, name, viewport, scheme):
    page, wrong = opened(browser, PAGE, viewport, scheme)
    KEPT.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=KEPT / f"{name}.png")
    rows = page.locator("details.claim")
    titles = page.locator("details.claim > summary > h3").all()
    assert min(title.bounding_box()["width"] for title in titles) > 0.4 * viewport["width"]  # none is squeezed
    assert rows.count() == len({claim.removesuffix("-paper") for claim in claims.claims()})
    for row in rows.all():
        row.locator("> summary").click()
        inside = row.locator("> .inside")
        assert inside.is_visible() and inside.locator("pre").first.is_visible()
        assert re.search("reading holds when", inside.inner_text())
    assert faults(page, wrong) == []
    page.screenshot(path=KEPT / f"{name}-open.png", full_page=True)
    page.close()


def test_a_keyboard_is_enough(browser):
    page, _ = opened(browser, PAGE, DESKTOP)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the verdicts"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # seen once it has the focus
    while page.evaluate("document.activeElement.tagName") != "SUMMARY":
        page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2
    page.keyboard.press("Enter")
    assert page.locator("details.claim").first.locator("> .inside").is_visible()
    page.close()


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ('<img src="no-such.svg" alt="">', "no image: no-such.svg"),
        ('<div style="width: 500px">wide</div>', "scrolls sideways"),
        ('<p style="color: #ccc; background: #fff">pale</p>', "color-contrast"),
        ("<button></button>", "button-name"),
        ("<script>1</script>", "console"),
        ('<img src="http://127.0.0.1:9/x.png" alt="">', "127.0.0.1"),
    ],
)
def test_a_fault_that_is_planted_is_found(browser, tmp_path, planted, found):
    bare = re.sub(r"<main>.*</main>", f"<main>{planted}</main>", PAGE.read_text(), flags=re.DOTALL)
    (tmp_path / "page.html").write_text(bare)
    page, wrong = opened(browser, tmp_path / "page.html", PHONE)
    assert any(found in fault for fault in faults(page, wrong))
    page.close()


# ------------------------------------------------------------------------------------------------ without a browser


def test_a_screen_reader_finds_its_way():
    page = Reader(PAGE.read_text())
    assert {tag: page.tags.count(tag) for tag in ("h1", "main", "header", "nav", "footer")} == dict.fromkeys(
        ("h1", "main", "header", "nav", "footer"), 1
    )
    assert page.alts and min(map(len, page.alts)) >= 30
    assert all(below <= above + 1 for above, below in zip(page.levels, page.levels[1:], strict=False))
    assert len(page.ids) == len(set(page.ids))
    assert '<html lang="en">' in PAGE.read_text() and "<script" not in page.tags


def test_every_link_leads_to_a_file_of_the_repository_or_to_a_part_of_the_page():
    page = Reader(PAGE.read_text())
    for link in page.links:
        target = link[1:] in page.ids if link.startswith("#") else (PAGE.parent / link).resolve().exists()
        assert target, link
    assert not re.search(r"https?://", PAGE.read_text())


def test_every_claim_every_item_of_the_paper_and_every_figure_is_on_the_page():
    text = PAGE.read_text()
    for one in verdicts.judged():
        assert f'id="side-{one.claim.id}"' in text
        assert all(f"data/results/full/{name}.json" in text for name in one.claim.results.values() if one.sources
                   and not name.endswith(("*", ".parquet")))  # fmt: skip
    assert all(f">{item} ·<" in text for item in paper_items.items())
    assert all(f'<img src="{path.name}"' in text for path in plots.FIGURES.glob("*.svg"))


def test_what_is_written_into_the_page_stays_text():
    assert str(page._powers("<b>10^-79</b>")) == "&lt;b&gt;10<sup>−79</sup>&lt;/b&gt;"
    born = page._born({"commit": "a" * 40, "dirty": True, "began": "x", "ended": "y", "threads": 1})
    assert born["code"] == "aaaaaaaaaaaa, with changes not committed" and "model" not in born


def test_the_readme_says_what_the_results_say(monkeypatch):
    text, titles = readme.README.read_text(), notebooks.discover()
    parts = list(readme._parts(titles))
    monkeypatch.setattr(readme, "_parts", lambda _: parts)  # they are the same every time
    assert readme.rendered(text, titles) == text, "`python -m memoir figures` writes it anew"
    for part in ("retention", "verdicts", "notebooks"):
        stale = re.sub(rf"(<!-- {part} -->\n)", r"\1| 1 | 2 |\n", text)
        assert stale != text and readme.rendered(stale, titles) == text
        with pytest.raises(ValueError, match=f"lacks the markers <!-- {part} -->"):
            readme.rendered(text.replace(f"<!-- {part} -->", ""), titles)


def test_a_missing_result_says_so_instead_of_a_number(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    assert dict(beyond_figures.readme())["retention"].startswith("Not run: `python -m memoir stream")
    assert not list(lasting_figures.figures())
