"""Which code computed a record: a hash of what modules of effi say, and of a notebook's function."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from effi import paths
from effi.errors import ParameterError
from effi.records.identity import digest, identity
from effi.records.remembered import remembered

HOME = paths.PACKAGE.parent
# The rules by which a source is hashed, as this process runs them: who edits them has other hashes.
RULES = tuple(Path(__file__).with_name(name).read_text("utf-8") for name in ("source.py", "identity.py"))


@dataclass(frozen=True)
class Source:
    """Hash of the modules `uses` with all that they import in effi, and of the function outside effi, if there is one.

    What a record keeps of the code that made it. Records of two sources are one's results for the other only where
    `effi adopt` has shown that they compute the same bits.
    """

    effi: str
    function: str | None
    uses: tuple[str, ...]

    @classmethod
    def of(cls, uses: Iterable[str], code: Mapping[str, str] | None = None) -> Source:
        """Source of modules (none: the whole package) and of a function's code by name."""
        named = tuple(sorted(uses))
        return cls(source_hash(named), identity(code) if code else None, named)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Source:
        """What a record, or a line of results/adopted.jsonl, says of its source."""
        return cls(record["effi"], record["function"], tuple(record["uses"]))

    @property
    def key(self) -> str:
        """One hash of both."""
        return identity({"effi": self.effi, "function": self.function})

    def plain(self) -> dict[str, Any]:
        """As a record keeps it."""
        return {**asdict(self), "uses": list(self.uses)}


def source_hash(modules: Iterable[str] = (), root: Path = HOME) -> str:
    """SHA-256 (16 digits) of effi modules and all they import inside effi; without modules, of the whole package."""
    names = closure(modules, root) or _package(root)
    texts = {name: file.read_text("utf-8") for name in names if (file := _file(name, root))}
    return remembered(
        digest([RULES, texts]),
        lambda: identity({name: significant(text) for name, text in texts.items()}),
    )


def closure(modules: Iterable[str], root: Path = HOME) -> list[str]:
    """Sorted names of modules of effi and of every module of effi that they import, directly or not."""
    todo = list(modules)
    unknown = [name for name in todo if _file(name, root) is None]
    if unknown:
        raise ParameterError(f'uses names "{unknown[0]}", which is no module of effi')
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        path = _file(name, root)
        if path is None or name in seen:
            continue
        seen.add(name)
        todo += [name.rpartition(".")[0], *_imports(path.read_text("utf-8"), name, path.stem == "__init__")]
    return sorted(seen)


def is_ours(name: str) -> bool:
    """Whether a module is one of effi."""
    return name.split(".")[0] == "effi"


def imported(source: str) -> list[str]:
    """Modules of effi that are imported inside a function."""
    with suppress(SyntaxError):  # a fragment, such as a lambda in the middle of a call
        return [name for name in _imports(source, "", False) if _file(name, HOME)]
    return []


def _package(root: Path) -> list[str]:
    """Names of all modules of effi."""
    relative = (path.relative_to(root).with_suffix("") for path in (root / "effi").rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in relative)


def _file(name: str, root: Path) -> Path | None:
    """Where a module of effi lies; None for other names."""
    base = root.joinpath(*name.split("."))
    places = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((path for path in places if path.is_file()), None) if is_ours(name) else None


@cache
def _imports(source: str, name: str, is_package: bool) -> list[str]:
    """Names that a module may import; `from a import b` gives a and a.b, because b may be a module."""
    package = name if is_package else name.rpartition(".")[0]
    found: list[str] = []
    for node in _running(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a tree without those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test).removeprefix("typing.") == "TYPE_CHECKING"):
            yield child
            yield from _running(child)


# --- what a text of Python says ------------------------------------------------------------------------------

_Position = tuple[int, int]
_LAYOUT = {"NEWLINE": "\n", "INDENT": "{", "DEDENT": "}"}
_SILENT = ("COMMENT", "NL", "ENCODING", "ENDMARKER")


@cache
def significant(source: str) -> str:
    """Source without comments, docstrings, the package's version and layout; the same on every Python."""
    try:
        skipped = list(_skipped(ast.parse(source)))
    except SyntaxError:  # a fragment, such as a lambda in the middle of a call
        return source
    words = ["\n"]
    for kind, start, text in _tokens(source):
        if kind == "NEWLINE" and words[-1] in _LAYOUT.values():
            continue  # the end of a line that held only a docstring
        if not any(first <= start < last for first, last in skipped):
            words.append(_LAYOUT.get(kind, text))
    return " ".join(words)


def _skipped(tree: ast.AST) -> Iterator[tuple[_Position, _Position]]:
    """Spans of docstrings and of `__version__ = ...`: a release alone makes no record stale."""
    for node in ast.walk(tree):
        skipped: ast.stmt | None = None
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            skipped = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            skipped = node
        if skipped:
            yield (skipped.lineno, skipped.col_offset), (skipped.end_lineno or 0, skipped.end_col_offset or 0)


def _tokens(source: str) -> Iterator[tuple[str, _Position, str]]:
    """Kind, start and text of tokens; an f-string is one token, although Python 3.12 and later split it."""
    lines = io.StringIO(source).readlines()
    opened: list[_Position] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            opened.append(token.start)
        elif kind == "FSTRING_END":
            start = opened.pop()
            if not opened:
                yield "STRING", start, _between(lines, start, token.end)
        elif not opened and kind not in _SILENT:
            yield kind, token.start, token.string


def _between(lines: list[str], start: _Position, end: _Position) -> str:
    """Text from start to end, (line from 1, column from 0) each."""
    held = lines[start[0] - 1 : end[0]]
    held[-1] = held[-1][: end[1]]
    held[0] = held[0][start[1] :]
    return "".join(held)
