"""What a cell of parameters says, and values in the types that it asks for."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from effi.errors import ParameterError, did_you_mean

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


class Parameter(NamedTuple):
    """One line of the parameters cell; `type` as written there, for example `list[int]`."""

    type: str
    default: object
    help: str


def parameters(cell: str, file: str) -> dict[str, Parameter]:
    """Name -> type, default and help of every line of a cell of literals; ParameterError, with `file`, for others."""
    comments = _comments(cell)
    return dict(_parameter(statement, comments, file) for statement in ast.parse(cell).body)


def checked(given: Mapping[str, object], known: Mapping[str, Parameter], who: str) -> dict[str, object]:
    """`given` with every value in its parameter's type; text is read as a literal where no text is wanted.

    Raises ParameterError for a name that `who` does not have, and a value of another type.
    """
    for name in given:
        if name not in known:
            raise ParameterError(f"{who} has no parameter {name!r}{did_you_mean(name, known)}")
    return {name: _typed(name, known[name], value) for name, value in given.items()}


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
