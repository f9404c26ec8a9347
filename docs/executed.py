"""An executed notebook as a page: pictures get words, code that is long or draws is folded, the title has the scale."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

PICTURE = "image/png"
# Where alternative texts wait for `rendering`: in the notebook's own metadata, as digest of the picture -> words.
ALT = "alternative_texts"
LONG = 10  # lines of code that are folded whatever they do


def prepared(path: Path, heading: tuple[str, str]) -> str:
    """The notebook as text, ready for the site; `heading` is what is added to its title, and a line below it."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata[ALT] = alternative_texts(notebook, names(path.parent / "figures"))
    _head(notebook, *heading)
    for cell in notebook.cells:
        if _is_drawn(cell) or len(cell.source.splitlines()) > LONG:
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


def _is_drawn(cell: NotebookNode) -> bool:
    """Whether a cell's tables and pictures are what is read, or nothing is; of texts, code is the other half."""
    outputs = cell.get("outputs", []) if cell.cell_type == "code" else [{"output_type": "stream"}]
    return not outputs or any(each["output_type"] != "stream" for each in outputs)


def _digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()
