"""Notebooks and their parameters: found, read and checked without starting a kernel."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from effi import paths
from effi.errors import ParameterError, did_you_mean
from effi.workbook import own

if TYPE_CHECKING:
    from effi.spec import Rule

Cell = Mapping[str, Any]
SCALES = ("smoke", "cpu", "hours", "gpu", "paper")
_EXAMPLES = {
    "list": [0, 1],
    "list[int]": [0, 1, 2],
    "list[str]": ["a", "b"],
    "list[float]": [0.1, 0.3],
    "dict": {"a": 1},
    "int": 1,
    "str": "a",
}
_ARTICLES = {"int": "an int", "float": "a float", "str": "text", "bool": "True or False"}


@dataclass(frozen=True)
class Notebook:
    """One notebook of the workbook; `paper` is the id that its records, claims and results go by."""

    paper: str
    path: Path
    title: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names a user may call it by: paper id, file name, number."""
        stem = self.path.stem
        return tuple(dict.fromkeys((self.paper, stem, stem.split("_")[0])))


class Parameter(NamedTuple):
    """One line of the parameters cell; `type` as written there, for example `list[int]`."""

    type: str
    default: object
    help: str


def notebooks(folder: Path | None = None) -> list[Notebook]:
    """Every notebook of `folder` (default: the workbook's) in the order of their file names.

    Raises ParameterError where the package was installed without the workbook.
    """
    if folder is None and not paths.CLONED:
        raise ParameterError(
            "this reads the notebooks, which are in a clone of the repository and not in an installed package: clone "
            "it and run `make setup` there"
        )
    return [open_notebook(path) for path in sorted((folder or paths.notebooks_dir()).glob("*.ipynb"))]


def open_notebook(path: Path) -> Notebook:
    """One notebook of any folder; raises ParameterError if it is no readable notebook."""
    headings = [line for cell in cells(path) if cell["cell_type"] == "markdown" for line in source(cell).splitlines()]
    title = next((line[2:].strip() for line in headings if line.startswith("# ")), path.stem)
    return Notebook(_paper(path.stem), path, title)


def find(names: Sequence[str], folder: Path | None = None) -> list[Notebook]:
    """The notebooks called by `names` (paper id, file name or number); all of them for no names."""
    known = notebooks(folder)
    by_name = {name: notebook for notebook in known for name in notebook.names}
    for name in names:
        if name not in by_name:
            raise ParameterError(f"There is no paper {name!r}{did_you_mean(name, [n.paper for n in known])}")
    return [by_name[name] for name in dict.fromkeys(names)] if names else known


def cells(path: Path) -> list[Cell]:
    """Cells as the notebook's JSON has them; nbformat would take longer to import than every notebook to read."""
    try:
        found: list[Cell] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ParameterError(f"{path} cannot be read as a notebook ({error}); restore it from git.") from error
    return found


def source(cell: Cell) -> str:
    """Text of a cell, which the format keeps as one string or as a list of lines."""
    return "".join(cell["source"])


def tagged(path: Path, tag: str) -> int:
    """Position of the one cell that carries `tag`; raises ParameterError for none or several."""
    found = [i for i, cell in enumerate(cells(path)) if tag in cell.get("metadata", {}).get("tags", ())]
    if len(found) != 1:
        raise ParameterError(f"{path.name} needs one cell tagged {tag!r} and has {len(found)}; tag it in JupyterLab.")
    return found[0]


def parameters(notebook: Notebook) -> dict[str, Parameter]:
    """Name -> type, default and help of every line of the cell tagged `parameters`."""
    text = source(cells(notebook.path)[tagged(notebook.path, "parameters")])
    comments = _comments(text)
    return dict(_parameter(statement, comments, notebook.path.name) for statement in ast.parse(text).body)


def check(notebook: Notebook, given: Mapping[str, object]) -> dict[str, object]:
    """`given` with every value in its parameter's type; text is read as a literal where no text is wanted.

    Raises ParameterError for an unknown name, a value of another type, and a scale that does not exist. What a value
    means is not looked at: that is `hold_to_rules`.
    """
    known = parameters(notebook)
    for name in given:
        if name not in known:
            raise ParameterError(f"{notebook.paper} has no parameter {name!r}{did_you_mean(name, known)}")
    values = {name: _typed(name, known[name], value) for name, value in given.items()}
    if (scale := values.get("scale", SCALES[0])) not in SCALES:
        raise ParameterError(f"There is no scale {scale!r}{did_you_mean(scale, SCALES)}")
    return values


def hold_to_rules(notebook: Notebook, values: Mapping[str, object]) -> None:
    """Hold `values` and the defaults of all others against the rules that the notebook asks, too, in its first cell.

    Raises ParameterError and DataError.
    """
    # torch is imported with it.
    from effi import spec

    defaults = {name: parameter.default for name, parameter in parameters(notebook).items()}
    own.check({**defaults, **values})
    spec.check(_rules(notebook.paper), {**defaults, **values})


def _rules(paper: str) -> Mapping[str, Rule]:
    """Parameter -> rule, of the paper's own room; none where it has no room yet."""
    if not (paths.PACKAGE / paper / "parameters.py").is_file():
        return {}
    if not (claims := paths.paper_file(paper)).is_file():
        raise ParameterError(f"{claims}, which holds the claims of {paper}, is missing; restore it from git.")
    rules: Mapping[str, Rule] = import_module(f"effi.{paper}.parameters").PARAMETERS
    return rules


def _paper(stem: str) -> str:
    """Paper id: the file name without its number, cut to the id of the claims file or the room that it begins with."""
    name = stem.lstrip("0123456789").lstrip("_")
    known = [path.stem for path in paths.paper_file("*").parent.glob("*.toml")]
    known += [path.parent.name for path in paths.PACKAGE.glob("*/parameters.py")]
    return max((paper for paper in known if name.startswith(paper)), key=len, default=name)


def _comments(text: str) -> dict[int, str]:
    """Line number -> trailing comment; a tokenizer, since a `#` may stand inside a string."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _parameter(statement: ast.stmt, comments: Mapping[int, str], file: str) -> tuple[str, Parameter]:
    try:
        name, value, annotation = _assigned(statement)
        default = ast.literal_eval(value)
    except ValueError as error:
        line = ast.unparse(statement)
        raise ParameterError(
            f"{file}: the parameters cell holds literals only, not {line!r}; move it to the next cell."
        ) from error
    kind = ast.unparse(annotation) if annotation else _kind(default)
    return name, Parameter(kind, default, comments.get(statement.end_lineno or 0, ""))


def _assigned(statement: ast.stmt) -> tuple[str, ast.expr, ast.expr | None]:
    """Name, value and annotation of `name = value` or `name: annotation = value`; ValueError for anything else."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value, None
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            return name, value, annotation
    raise ValueError("no assignment to one name")


def _kind(default: object) -> str:
    """Type of a parameter without annotation, as an annotation would say it."""
    if isinstance(default, list) and len({type(value) for value in default}) == 1:
        return f"list[{type(default[0]).__name__}]"
    return type(default).__name__


def _typed(name: str, parameter: Parameter, value: object) -> object:
    value = _read(value, parameter.type) if isinstance(value, str) else value
    if value == parameter.default and type(value) is type(parameter.default):
        return value
    if not _fits(value, parameter.type):
        example = parameter.default or _EXAMPLES.get(parameter.type, parameter.default)
        wanted = f"{_described(parameter.type)}, for example {example!r}"
        raise ParameterError(f"{name} wants {wanted}; got {value!r}.")
    return float(value) if isinstance(value, int) and parameter.type == "float" else value


def _read(text: str, kind: str) -> object:
    """What a terminal says of a parameter; the items of a list may be joined by commas alone."""
    if kind == "str":
        return text
    value = _literal(text)
    if not kind.startswith("list[") or isinstance(value, list):
        return value
    items = [item.strip() for item in text.split(",")]
    return items if kind == "list[str]" else [_literal(item) for item in items]


def _literal(text: str) -> object:
    """Value of `text` as JSON or Python writes it, or `text` itself, which the type check then names."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError):
            return read(text.lower() if text.lower() in ("true", "false") else text)
    return text


def _fits(value: object, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits(item, kind[5:-1]) for item in value)
    # A bool is an int to Python and an int a float to the reader: compare exact types, then let ints pass for floats.
    return type(value).__name__ == kind or (kind == "float" and type(value) is int)


def _described(kind: str) -> str:
    return f"a list of {kind[5:-1]}" if kind.startswith("list[") else _ARTICLES.get(kind, f"a {kind}")
