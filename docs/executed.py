"""An executed notebook as a page: pictures get words, machinery and code that draws fold, the title has the scale."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

PICTURE = "image/png"
# Where alternative texts wait for `rendering`: in the notebook's own metadata, as digest of the picture -> words.
ALT = "alternative_texts"
# What JupyterLab notes at a heading whose cells it shows only when asked.
COLLAPSED = "jp-MarkdownHeadingCollapsed"


def prepared(path: Path, heading: tuple[str, str]) -> str:
    """The notebook as text, ready for the site; `heading` is what is added to its title, and a line below it."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata[ALT] = alternative_texts(notebook, names(path.parent / "figures"))
    _head(notebook, *heading)
    for cell in _folded(notebook):
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    return nbformat.writes(notebook)


def names(figures: Path) -> dict[str, str]:
    """Digest of each saved figure -> its file name in words."""
    return {_digest(path.read_bytes()): path.stem.replace("_", " ") for path in sorted(figures.glob("*.png"))}


def alternative_texts(notebook: NotebookNode, names: Mapping[str, str]) -> dict[str, str]:
    """Digest of each picture -> the question that the text before it asks, and the name of its file."""
    found, question = {}, ""
    for cell in notebook.cells:
        question = _question(cell.source) or question if cell.cell_type == "markdown" else question
        for output in cell.get("outputs", []):
            if PICTURE in output.get("data", {}):
                digest = _digest(base64.b64decode(output.data[PICTURE]))
                found[digest] = f"{question} Figure: {names.get(digest, 'of this run')}.".strip()
    return found


def _question(text: str) -> str:
    """The last of the words in bold, as which our texts ask, else of the headings."""
    bold = re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE)
    return next(reversed(bold or re.findall(r"^#+ (.+)", text, re.MULTILINE)), "")


def _head(notebook: NotebookNode, title: str, line: str) -> None:
    first = notebook.cells[0]
    first.source = re.sub(
        r"^# (.+)$", lambda found: f"# {found[1]}{title}\n\n{line}\n", first.source, count=1, flags=re.M
    )


def _folded(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """Code that draws, and all code below a heading that JupyterLab opens only when asked."""
    collapsed = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            collapsed = cell.metadata.get(COLLAPSED, False)
        if cell.cell_type == "code" and (collapsed or _is_drawn(cell)):
            yield cell


def _is_drawn(cell: NotebookNode) -> bool:
    """Whether a cell's tables and pictures are what is read, or nothing is; of texts, code is the other half."""
    return not cell.outputs or any(each["output_type"] != "stream" for each in cell.outputs)


def _digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()
