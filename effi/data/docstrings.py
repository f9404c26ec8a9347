"""Which library is this docstring from? Labelled text that every installation of the workbook has."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from effi.data.files import Entry
from effi.data.sources import Texts, TextSource, checksum
from effi.errors import DataError

# Docstrings per library, 3,600 and 900 in all: half of what the smallest has, so that no version changes the sizes.
TRAIN, TEST = 600, 150
SHORTEST, LONGEST = 60, 2000
NAMES = (
    "scikit-learn", "scikit", "sklearn", "numpy", "scipy", "pytorch", "torch", "pandas", "matplotlib", "pyplot",
    "mpl", "plt", "np", "sp", "pd", "ndarray", "dataframe",
)  # fmt: skip
NAMED = re.compile(rf"(?<![a-z])({'|'.join(NAMES)})(?![a-z])", re.IGNORECASE)
MASK = "library"
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def read(entry: Entry, _: Path) -> TextSource:
    """Docstrings of the installed libraries, whose names are masked; no file gives to both train and test.

    They are parsed, never imported. The checksum is of what was read, as it changes with the installed versions.
    """
    seen: set[str] = set()
    found = [_docstrings(library, seen) for library in entry.classes]
    train, test = (_part([each[part] for each in found]) for part in (0, 1))
    return TextSource(train, test, tuple(entry.classes), "as installed", checksum(train, test))


def _docstrings(library: str, seen: set[str]) -> tuple[list[str], list[str]]:
    """(training texts, test texts) of one library, none of them `seen`, from its files in a fixed, shuffled order."""
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        raise DataError(f"docstrings needs {library}, which is not installed: install effi again")
    root = Path(spec.origin).parent
    parts: tuple[list[str], list[str]] = ([], [])
    for file in _files(root):
        # Test files come first, so that a library of fewer docstrings has fewer to train on.
        part, most = (parts[1], TEST) if len(parts[1]) < TEST else (parts[0], TRAIN)
        # A dictionary drops what a file repeats and keeps the order.
        fresh = [text for text in dict.fromkeys(_masked(file)) if text not in seen]
        seen.update(fresh)
        part += fresh[: most - len(part)]
        if len(parts[0]) == TRAIN:
            break
    return parts


def _files(root: Path) -> list[Path]:
    """Sources of a library, its tests aside, by the hash of their names: a mixture that is always the same."""
    names = sorted(file.relative_to(root).as_posix() for file in root.rglob("*.py"))
    kept = (name for name in names if not re.search(r"(^|[/_])tests?([/_.]|$)|(^|/)_?(vendor|externals)/", name))
    return [root / name for name in sorted(kept, key=lambda name: hashlib.sha256(name.encode()).digest())]


def _masked(file: Path) -> Iterator[str]:
    """The docstrings of a file as one line each, names of libraries masked."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # Templates are no Python yet.
    for node in _documented(tree):
        if text := ast.get_docstring(node, clean=False):
            plain = " ".join(NAMED.sub(MASK, text[:LONGEST]).split())
            if len(plain) >= SHORTEST:
                yield plain


def _documented(node: Documented) -> Iterator[Documented]:
    """A module, and the classes, functions and methods that stand in it, one level within another."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for child in node.body:
            if isinstance(child, Documented):
                yield from _documented(child)


def _part(found: list[list[str]]) -> Texts:
    labels = torch.arange(len(found)).repeat_interleave(torch.tensor([len(texts) for texts in found]))
    return Texts([text for texts in found for text in texts], labels)
