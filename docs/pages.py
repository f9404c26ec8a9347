"""Which pages the site has: sources laid out under the repository's own paths, so that its links hold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from docs import executed, reference
from effi import paths
from effi.errors import RecordError
from effi.workbook import Notebook, open_notebook
from effi.workbook.notebook import SCALES

WORDS = Path(__file__).with_name("words.md")
GUIDES = ("CONTRIBUTING.md", "docs/own_loop.md", "docs/scale.md", "effi/kernels/README.md")


class Ran(NamedTuple):
    """A notebook as it ran at one scale."""

    scale: str
    notebook: Notebook

    @property
    def path(self) -> Path:
        """Its place below the root, in the repository as on the site."""
        return self.notebook.path.relative_to(paths.ROOT)


def ran(results_dir: str | Path = "results") -> dict[str, list[Ran]]:
    """Paper -> its executed notebooks, the highest scale first; papers in the order of their numbers."""
    found: dict[str, list[Ran]] = {}
    for scale in reversed(SCALES[1:]):  # smoke shows nothing, and git ignores it
        for path in paths.results(results_dir).glob(f"{scale}/*/*.ipynb"):
            found.setdefault(path.parent.name, []).append(Ran(scale, open_notebook(path)))
    return dict(sorted(found.items(), key=lambda item: item[1][0].notebook.path.name))


def lay(source: Path) -> None:
    """Write the sources of all pages into a folder that is made anew; RecordError where nothing ran."""
    shutil.rmtree(source, ignore_errors=True)
    found, readme = ran(), paths.readme().read_text(encoding="utf-8")
    if not found:
        raise RecordError("No notebook has run: `make reproduce` makes the pages of results/.")
    for runs in found.values():
        for each in runs:
            others = [other for other in runs if other != each]
            paths.replace(source / each.path, executed.prepared(each.notebook.path, _heading(each, others)))
    for name, text in reference.pages().items():
        paths.replace(source / "reference" / f"{name}.rst", text)
    for guide in GUIDES:
        paths.replace(source / guide, (paths.ROOT / guide).read_bytes())
    paths.replace(source / "results/verdicts.png", (paths.results() / "verdicts.png").read_bytes())
    paths.replace(source / "verdicts.md", section(readme, "How a claim is judged") + WORDS.read_text(encoding="utf-8"))
    paths.replace(source / "index.md", first_screen(readme) + _contents(found))


def first_screen(readme: str) -> str:
    """What stands above the first rule of the page."""
    return readme.partition("\n---\n")[0] + "\n"


def section(text: str, heading: str) -> str:
    """A part of a page under a heading of the second level, raised to a page of its own.

    RecordError when it is not there.
    """
    _, found, rest = text.partition(f"\n## {heading}\n")
    if not found:
        raise RecordError(f"README.md has no part {heading!r}: name it so, or change docs/pages.py.")
    return f"# {heading}\n" + rest.partition("\n## ")[0] + "\n"


def _heading(this: Ran, others: Sequence[Ran]) -> tuple[str, str]:
    """What is added to the title of a notebook's page, and the line below it."""
    up = "../" * (len(this.path.parts) - 1)
    links = " and ".join(f"[{other.scale} scale]({up}{other.path.as_posix()})" for other in others)
    also = f" It ran at {links}, too." if links else ""
    return (
        f" ({this.scale} scale)",
        f"*As it ran at {this.scale} scale.*{also} [How a claim is judged]({up}verdicts.md).",
    )


def _contents(found: dict[str, list[Ran]]) -> str:
    """The trees of pages, for the sidebar alone."""
    first = (_entry(runs[0].notebook.title, runs[0]) for runs in found.values())
    rest = (
        _entry(f"{each.notebook.title.partition(' ')[0]} at {each.scale} scale", each)
        for runs in found.values()
        for each in runs[1:]
    )
    guides = (
        "How to read a verdict <verdicts>",
        "In your own loop <docs/own_loop>",
        "How far it scales <docs/scale>",
        "Kernels <effi/kernels/README>",
        "Add a paper <CONTRIBUTING>",
        "Reference <reference/index>",
    )
    return "".join([*_tree("Papers", first), *_tree("At smaller scales", rest), *_tree("Guides", guides)])


def _entry(title: str, page: Ran) -> str:
    return f"{title} <{page.path.with_suffix('').as_posix()}>"


def _tree(caption: str, entries: Iterator[str] | Sequence[str]) -> Iterator[str]:
    lines = "\n".join(entries)
    if lines:
        yield f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"
