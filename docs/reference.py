"""The reference: a page a room of effi, first what it opens to others, then what else its modules hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from effi import paths

# A text between backticks that may be the name of an object; sphinx links it where it is one.
_NAME = re.compile(r"`([A-Za-z_][\w.]*)`")
_DIRECTIVES = {ast.FunctionDef: ".. autofunction:: {}\n", ast.ClassDef: ".. autoclass:: {}\n   :members:\n"}


def pages(rooms: Sequence[str] = ()) -> dict[str, str]:
    """Name of a page -> its text: of the rooms named, or of all, and `index`, the list of them."""
    found = {path.stem: path for path in sorted(paths.PACKAGE.iterdir()) if _is_room(path)}
    chosen = {name: found[name] for name in rooms or found}
    return {"index": _index(chosen)} | {name: "\n".join(_page(path)) for name, path in chosen.items()}


def restructured(docstring: str) -> str:
    """Our docstrings, paragraphs of plain text with code between backticks, as reStructuredText."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in docstring.split("\n\n"))
    return "\n\n".join(map(_escaped, paragraphs))


def _escaped(paragraph: str) -> str:
    pieces = re.split(r"(`[^`]+`)", paragraph)
    return "".join(_code(piece) if n % 2 else re.sub(r"([\\*|_`])", r"\\\1", piece) for n, piece in enumerate(pieces))


def _code(piece: str) -> str:
    return f"{piece}\\ " if _NAME.fullmatch(piece) else f"`{piece}`\\ "


def _is_room(path: Path) -> bool:
    return (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")


def _index(rooms: dict[str, Path]) -> str:
    rows = "\n".join(f"   * - :doc:`effi.{name} <{name}>`\n     - {_purpose(path)}" for name, path in rooms.items())
    tree = "\n".join(f"   effi.{name} <{name}>" for name in rooms)
    return f"Reference\n=========\n\n.. list-table::\n\n{rows}\n\n.. toctree::\n   :hidden:\n\n{tree}\n"


def _purpose(room: Path) -> str:
    text = ast.get_docstring(_read(room / "__init__.py" if room.is_dir() else room)) or ""
    return restructured(text.partition("\n\n")[0])


def _page(room: Path) -> Iterator[str]:
    files = sorted(room.rglob("*.py"), key=lambda file: (file.stem != "__init__", file)) if room.is_dir() else [room]
    opened = {pair for file in files if file.stem == "__init__" for pair in _imported(file)}
    for n, file in enumerate(files):
        module, mark = _module(file), "-" if n else "="
        heading = f"{module}\n{mark * len(module)}\n"
        if file.stem == "__init__" or file == room:
            yield f"{heading}\n.. automodule:: {module}\n   :members:\n   :exclude-members: {_elsewhere(file)}\n"
        elif rest := [node for node in _documented(file) if (module, node.name) not in opened]:
            # No automodule: the names of some modules are those of functions, too.
            yield f"{heading}\n{_purpose(file)}\n\n.. currentmodule:: {module}\n"
            yield from (_DIRECTIVES[type(node)].format(node.name) for node in rest)


def _elsewhere(package: Path) -> str:
    """Names that a room passes on from other rooms, where they are told."""
    return ", ".join(name for module, name in _imported(package) if not f"{module}.".startswith(f"{_module(package)}."))


def _imported(package: Path) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a package takes from its modules."""
    for node in _read(package).body:
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def _documented(file: Path) -> list[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes of a module that say what they are."""
    found = (node for node in _read(file).body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return [node for node in found if not node.name.startswith("_") and ast.get_docstring(node)]


def _module(file: Path) -> str:
    return ".".join(file.relative_to(paths.ROOT).with_suffix("").parts).removesuffix(".__init__")


def _read(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
