"""The site: what its sources become, what its checks see, and that a browser reads it all from the file system."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from PIL import Image
from playwright.sync_api import Browser, Page
from sphinx.domains.python import ObjectEntry, PythonDomain

from docs import building, checks, executed, pages, reference, rendering
from docs.rendering import mathml
from effi import paths
from effi.claims import papers
from effi.errors import EffiError, RecordError
from effi.workbook import notebooks
from tests.chromium import chromium


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(buffer, "png")
    return buffer.getvalue()


def small_notebook(folder: Path) -> Path:
    """A title, a formula, a wide table, two pictures of which one is saved under a name, and a printed line."""
    saved, other = picture(30, 20), picture(40, 10)
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "loss_flops.png").write_bytes(saved)
    shown = [{"image/png": base64.b64encode(each).decode()} for each in (saved, other)]
    table = {"text/html": f"<table><tr>{'<td>0.1234</td>' * 60}</tr></table>"}
    cells = [
        v4.new_markdown_cell("# 9 · Does it?\n*Someone.*"),
        v4.new_markdown_cell("Of $p \\le 1$:\n\n$$d = \\frac{1}{N} \\Big(\\sum_i m_i\\Big)$$"),
        v4.new_markdown_cell("## Pictures\n\n**What does a FLOP buy?** Much."),
        v4.new_code_cell("draw()", outputs=[v4.new_output("display_data", each) for each in [*shown, table]]),
        v4.new_code_cell("print(1)", outputs=[v4.new_output("stream", text="1\n")]),
        v4.new_markdown_cell("## Machinery", metadata={executed.COLLAPSED: True}),
        v4.new_code_cell("built = 1", outputs=[v4.new_output("stream", text="1\n")]),
        v4.new_markdown_cell("## Results"),
        v4.new_code_cell("print(2)", outputs=[v4.new_output("stream", text="2\n")]),
    ]
    path = folder / "9_small.ipynb"
    nbformat.write(v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of one page, and the folder it is in."""
    folder = tmp_path_factory.mktemp("tiny")
    path = small_notebook(folder / "results")
    paths.replace(folder / "source/index.ipynb", executed.prepared(path, (" (cpu scale)", "*As it ran.*")))
    building.build(folder / "source", folder / "site")
    return folder / "site"


def test_a_notebook_becomes_a_page(tiny: Path) -> None:
    text = (tiny / "index.html").read_text()
    assert re.search(r"<h1>9 · Does it\? \(cpu scale\)<", text) and "<em>As it ran.</em>" in text
    assert checks.Page(tiny / "index.html").names >= {"pictures"}
    assert text.count("<math ") == 2 and 'display="block"' in text and "MathJax" not in text


def test_pictures_have_words_and_size(tiny: Path) -> None:
    found = [(each["alt"], each["width"], each["height"]) for each in checks.Page(tiny / "index.html").pictures]
    question = "What does a FLOP buy? Figure:"
    assert found == [(f"{question} loss flops.", "30", "20"), (f"{question} of this run.", "40", "10")]


def test_code_that_draws_or_builds_is_folded_and_code_that_prints_is_not(tiny: Path) -> None:
    folded = re.findall(r"<details class=\"[^\"]*hide.*?</details>", (tiny / "index.html").read_text(), re.DOTALL)
    assert len(folded) == 2 and "draw" in folded[0] and "built" in folded[1] and "print" not in "".join(folded)


@pytest.mark.parametrize("text", ["[a link](nowhere.md)", "$\\nosuch{x}$"])
def test_a_warning_fails_the_build(tmp_path: Path, text: str) -> None:
    paths.replace(tmp_path / "source/index.md", f"# A page\n\n{text}\n")
    with pytest.raises(EffiError, match="was not built"):
        building.build(tmp_path / "source", tmp_path / "site")


def test_what_is_wrong_with_pages_is_named(tmp_path: Path) -> None:
    paths.replace(tmp_path / "b.html", '<p id="here">')
    paths.replace(tmp_path / "s/a.css", "@import 'https://c.example/x.css'; p {background: url(//c.example/y.png)}")
    good = '<a href="b.html#here"></a><a href="https://a.example"></a><img src="b.html" alt="b" width="1" height="1">'
    bad = '<a href="c.html"></a><a href="b.html#there"></a><img src="b.html"><script src="https://c.example/m.js"></script>'
    paths.replace(tmp_path / "a.html", good)
    loaded = [f"s/a.css: loads {address} from outside" for address in ("https://c.example/x.css", "//c.example/y.png")]
    assert checks.faults(tmp_path) == loaded
    paths.replace(tmp_path / "a.html", bad)
    assert checks.faults(tmp_path) == [
        "a.html: 'c.html' leads nowhere",
        "a.html: 'b.html#there' leads nowhere",
        "a.html: loads https://c.example/m.js from outside",
        *(f"a.html: the picture b.html has no {name}" for name in ("alt", "width", "height")),
        *loaded,
    ]


def test_a_command_that_is_not_known_keeps_its_backslash() -> None:
    assert "\\nosuch" in mathml(r"\nosuch{x}") and "\\" not in mathml(
        r"X \in \mathbb{R}^{T \times N}, \lfloor pN \rfloor"
    )


def test_docstrings_become_restructured_text() -> None:
    text = "One *line* of `fit`,\n- 1 |w| of `a b`.\n\nAnother_ paragraph."
    wanted = "One \\*line\\* of `fit`\\ , - 1 \\|w\\| of ``a b``\\ .\n\nAnother\\_ paragraph."
    assert reference.restructured(text) == wanted


def test_the_front_page_is_the_first_screen_and_a_part_is_a_page() -> None:
    assert pages.first_screen("# A\nb\n\n---\n\n## C\nd\n") == "# A\nb\n\n"
    assert pages.section("# A\n\n## C\nd\n\n## E\nf\n", "C") == "# C\nd\n\n"
    with pytest.raises(RecordError, match="no part 'D'"):
        pages.section("# A\n", "D")


def test_every_paper_is_a_page_at_its_highest_scale_first() -> None:
    found = pages.ran()
    assert list(found) == [each.paper for each in notebooks()]
    for paper, runs in found.items():
        scales = [run.scale for run in runs]
        assert scales == sorted(scales, key=["paper", "gpu", "hours", "cpu"].index) and scales
        assert all(run.path.parts[:3] == ("results", run.scale, paper) for run in runs)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site of this repository, as `make site` builds it."""
    folder = tmp_path_factory.mktemp("whole") / "site"
    words = [sys.executable, "-m", "docs", str(folder)]
    done = subprocess.run(words, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def opened(browser: Browser, width: int, scheme: str) -> tuple[Page, list[str]]:
    """A page of a browser, and the list of complaints and of requests beyond the file system that it will fill."""
    page, heard = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme), []
    page.set_default_timeout(180_000)  # a busy machine is no fault of a page
    page.on("console", lambda said: heard.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else heard.append(request.url)
    )
    return page, heard


PICTURES = """async () => {
    const all = [...document.querySelectorAll("img")];
    await Promise.all(all.map(each => { each.loading = "eager"; return each.decode(); }));
    return all.filter(each => !each.alt || !each.naturalWidth || !each.clientHeight).map(each => each.src);
}"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_site_holds_what_it_should(site: Path) -> None:
    front = checks.Page(site / "index.html")
    for runs in pages.ran().values():
        assert str(runs[0].path.with_suffix(".html")) in front.links
        assert all((site / run.path.with_suffix(".html")).is_file() for run in runs)
    assert {"verdicts.html", "CONTRIBUTING.html", "reference/index.html"} <= set(front.links)
    told = {name for path in site.glob("reference/*.html") for name in checks.Page(path).names}
    assert {"effi.masks.distance", "effi.training.fit", "effi.claims.papers.load", "effi.seeds.seeded"} <= told
    assert papers.load("ligo").title in (site / pages.ran()["ligo"][0].path.with_suffix(".html")).read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_every_page_loads_whole_and_from_here(site: Path, browser: Browser, width: int, scheme: str) -> None:
    page, heard = opened(browser, width, scheme)
    found = sorted(site.rglob("*.html"))
    for path in found:
        page.goto(path.as_uri())
        assert page.evaluate(PICTURES) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert heard == [], path
    shade = sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]))
    assert len(found) > 20 and (shade < 150) is (scheme == "dark")
    page.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_search_finds_mask_distance_from_the_file_system(site: Path, browser: Browser) -> None:
    page, heard = opened(browser, 1280, "light")
    page.goto((site / "index.html").as_uri())
    page.locator("input[name=q]").first.fill("mask distance")
    page.keyboard.press("Enter")
    page.get_by_text("Search finished").wait_for()
    found = [each.get_attribute("href") for each in page.locator("#search-results li a").all()]
    bare = {address.partition("#")[0].partition("?")[0] for address in found}
    assert found[0].endswith("reference/masks.html#effi.masks.distance") and heard == []
    assert {"verdicts.html", str(pages.ran()["early_bird"][0].path.with_suffix(".html"))} <= bare
    page.locator("#search-results li a").first.click()
    page.wait_for_url("file:**/reference/masks.html*")
    assert page.locator("h1").first.inner_text().startswith("effi.masks")
    page.close()


def test_a_name_is_looked_up_once_for_as_many_names_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    entry = ObjectEntry("effi.a", "node", "class", False)

    def found(self: object, env: object, module: str, name: str) -> list[tuple[str, ObjectEntry]]:
        asked.append(name)
        return [(name, entry)] * (2 if name == "twice" else 1)

    monkeypatch.setattr(PythonDomain, "find_obj", found)
    names = object.__new__(rendering.Names)
    names.data = {"objects": {}}
    assert [names.find_obj(None, "effi", name) for name in ("a", "twice", "a")] == [[("a", entry)], [], [("a", entry)]]
    names.data["objects"]["effi.b"] = entry
    names.find_obj(None, "effi", "a")
    assert asked == ["a", "twice", "a"]
