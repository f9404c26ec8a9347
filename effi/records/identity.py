"""When two runs are the same run: a hash over everything that can change a result, and over nothing else."""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import io
import json
import math
import platform
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from importlib.util import resolve_name
from pathlib import Path, PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch

from effi import paths
from effi.errors import ParameterError

# Parameters that cannot change a result, or that the identity holds in a better form (scale, class of device).
UNCOUNTED = frozenset({"results_dir", "price_per_gpu_hour", "seeds", "dry_run", "scale", "device"})


def identity(parts: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the parts' canonical JSON."""
    text = json.dumps(canonical(parts, "identity"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def canonical(value: Any, name: str = "settings") -> Any:
    """Plain JSON of nested dataclasses, enums, tuples and paths; ParameterError names the key that has none."""
    if isinstance(value, Enum):
        return canonical(value.value, name)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, list | tuple):
        return [canonical(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: canonical(getattr(value, field.name), f"{name}.{field.name}") for field in fields(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: canonical(item, f"{name}.{key}") for key, item in value.items()}
    shown = value if isinstance(value, float) else f"a {type(value).__name__}"
    raise ParameterError(
        f"{name} is {shown}, which has no JSON form; use finite numbers, text, lists, dataclasses, enums, paths "
        "or dicts with text keys"
    )


def non_default(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical parameters that differ from their default and can change a result."""
    given = {name: canonical(value, name) for name, value in parameters.items() if name not in UNCOUNTED}
    usual = {name: canonical(value, name) for name, value in defaults.items() if name in given}
    return {name: value for name, value in given.items() if name not in usual or usual[name] != value}


def device_class(device: str) -> str:
    """Model of the GPU or CPU behind a device: another one computes other bits. ParameterError when it is not there."""
    kind = torch.device(device)
    if kind.type != "cuda":
        return cpu_model() if kind.type == "cpu" else kind.type
    if not torch.cuda.is_available() or (kind.index or 0) >= torch.cuda.device_count():
        raise ParameterError(f'device "{device}" is not there; set device="cpu" or run where torch sees a GPU')
    return torch.cuda.get_device_name(kind)


def cpu_model() -> str:
    """Model of the processor, as the system names it."""
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


# --- source of the package -----------------------------------------------------------------------------------


def source_hash(modules: Iterable[str] = (), root: Path = paths.ROOT) -> str:
    """SHA-256 (16 digits) of effi modules and all they import inside effi; without modules, of the whole package."""
    names = closure(modules, root) or _package(root)
    return identity({name: significant(_file(name, root).read_text("utf-8")) for name in names})


def closure(modules: Iterable[str], root: Path = paths.ROOT) -> list[str]:
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


def _package(root: Path) -> list[str]:
    """Names of all modules of effi."""
    relative = (path.relative_to(root).with_suffix("") for path in (root / "effi").rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in relative)


def _file(name: str, root: Path) -> Path | None:
    """Where a module of effi lies; None for other names."""
    base = root.joinpath(*name.split("."))
    places = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((path for path in places if path.is_file()), None) if name.split(".")[0] == "effi" else None


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
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node = node.body[0]
        elif not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"):
            continue
        yield (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


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


# --- a function of a notebook --------------------------------------------------------------------------------


def function_parts(function: Callable[..., Any]) -> tuple[dict[str, Any], set[str]]:
    """What a function reads outside itself: (name -> source or plain JSON value, names of modules of effi).

    Followed into helpers and classes of the same notebook or file. ParameterError when its source cannot be read.
    """
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType) or not _source(function):
        raise ParameterError(f"the source of {function!r} cannot be read; write it with def in a cell or a file")
    parts: dict[str, Any] = {}
    modules: set[str] = set()
    todo: dict[str, Any] = {function.__name__: function}
    while todo:
        name, value = todo.popitem()
        home = _home(value)
        if home.split(".")[0] == "effi":
            modules.add(home)
        elif home == function.__module__ and name not in parts:
            source = _source(value)
            parts[name] = significant(source)
            modules |= {module for module in _imported(source) if _file(module, paths.ROOT)}
            todo |= _reads(inspect.unwrap(value), name)
        elif not home and name not in UNCOUNTED:
            with suppress(TypeError, ValueError):  # objects (a plan, a data set) count through settings and inputs
                parts[name] = json.loads(json.dumps(value, allow_nan=False))
    return parts, modules


def _home(value: Any) -> str:
    """Module of a module, function or class; empty for any other value."""
    if isinstance(value, ModuleType):
        return value.__name__
    value = inspect.unwrap(value) if callable(value) else value
    return value.__module__ if isinstance(value, FunctionType | type) else ""


def _source(value: Any) -> str:
    """Source of a function; empty for a class (its members speak for it) and for generated functions."""
    if not isinstance(value, type):
        with suppress(OSError, TypeError):
            return textwrap.dedent(inspect.getsource(value))
    return ""


def _imported(source: str) -> list[str]:
    """Names imported inside a function."""
    with suppress(SyntaxError):  # a fragment, such as a lambda in the middle of a call
        return _imports(source, "", False)
    return []


def _reads(value: Any, name: str) -> dict[str, Any]:
    """Name -> value of what a function takes from outside, its defaults included, or of the members of a class."""
    if isinstance(value, type):
        members = ((key, getattr(member, "__func__", member)) for key, member in vars(value).items())
        return {f"{name}.{key}": member for key, member in members if not key.startswith("__") or _home(member)}
    given = inspect.signature(value).parameters.values()
    defaults = {f"{name}({each.name})": each.default for each in given if each.default is not each.empty}
    outside = inspect.getclosurevars(value).nonlocals
    inside = {key: value.__globals__[key] for key in _loaded(value.__code__) if key in value.__globals__}
    return defaults | outside | inside


def _loaded(code: CodeType) -> set[str]:
    """Global names that a function or the functions inside it load."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return names.union(*(_loaded(constant) for constant in inner))
