"""Options in a dict, as a notebook takes them, held against the annotations of what they are given to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import is_dataclass
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from effi.errors import ParameterError, did_you_mean

# Whole numbers among the options are counts and sizes, others are rates and shares.
LEAST: Mapping[type, int] = {int: 1, float: 0}
SHARES = ("dropout",)
PLURAL = {int: "whole numbers from 1 on", float: "numbers from 0 on"}
# Arguments of models that the notebook gives itself.
GIVEN = ("classes", "channels", "image_size", "seed")


def choose(what: str, name: str, known: Mapping[str, Any]) -> Any:
    """known[name], or a ParameterError that lists what there is and guesses what was meant."""
    if isinstance(name, Hashable) and name in known:
        return known[name]
    raise ParameterError(f"unknown {what} {name!r}{did_you_mean(name, known)}")


def options(what: type, given: Mapping[str, Any]) -> Any:
    """A dataclass of settings made from a notebook's dict of options.

    Raises ParameterError for a misspelt option, a word that the option does not know, and a value of another type.
    """
    check_options(what.__name__, get_type_hints(what), given)
    return what(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def options_in(what: Callable[..., Any]) -> dict[str, Any]:
    """Option -> type, of a dataclass's fields or of a function's arguments that the notebook does not give itself."""
    hints = get_type_hints(what)
    return {name: hints[name] for name in inspect.signature(what).parameters if name not in GIVEN}


def check_options(what: str, wanted: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """ParameterError for an option that `wanted` lacks, and for a value that does not fit its annotation there."""
    for name, value in given.items():
        hint = choose(f"option of {what}", name, wanted)
        if get_origin(hint) is Literal:
            choose(f"{what} {name}", value, dict.fromkeys(get_args(hint)))
        elif not _is(value, hint):
            raise ParameterError(f"{what} {name} is {value!r}; it wants {_described(hint)}.")
        elif name in SHARES and value >= 1:
            raise ParameterError(f"{what} {name} is {value!r}; it wants a share below 1.")


def _is(value: Any, hint: Any) -> bool:
    """Whether a value fits an annotation: an int passes for a float, a list for a tuple; no option is negative."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_is(value, each) for each in _choices(inner))
    if is_dataclass(hint) and isinstance(value, dict):
        hints = get_type_hints(hint)
        return all(name in hints and _is(each, hints[name]) for name, each in value.items())
    if origin is Literal:
        return value in inner
    if origin is tuple and inner[-1] is not Ellipsis:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(_is, value, inner))
    if origin in (tuple, list, Sequence):
        return isinstance(value, list | tuple) and all(_is(each, inner[0]) for each in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(_is(k, inner[0]) and _is(v, inner[1]) for k, v in value.items())
    if hint in LEAST:
        return is_number(value, hint) and value >= LEAST[hint]
    return type(value) is hint


def _choices(hints: Sequence[Any]) -> list[Any]:
    """Types of a union: where a dict stands for a dataclass, the dataclass says what it may hold."""
    dataclasses = any(map(is_dataclass, hints))
    return [hint for hint in hints if not (dataclasses and get_origin(hint) in (dict, Mapping))]


def is_number(value: Any, kind: type = float) -> bool:
    """Whether a value is a finite number; a bool, which Python counts among the ints, is none."""
    return type(value) in (int, kind) and isfinite(value)


def _described(hint: Any) -> str:
    """An annotation in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_described, _choices(inner)))
    if is_dataclass(hint):
        return f"dicts with {', '.join(get_type_hints(hint))}"
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin in (tuple, list, Sequence):
        count = f"{len(inner)} " if origin is tuple and inner[-1] is not Ellipsis else ""
        return f"a list of {count}{PLURAL.get(inner[0], _described(inner[0]))}"
    if origin in (dict, Mapping):
        return f"a dict of {PLURAL.get(inner[1], _described(inner[1]))}"
    return {
        int: "a whole number from 1 on",
        float: "a number from 0 on",
        str: "text",
        bool: "True or False",
        NoneType: "None",
    }.get(hint, str(hint))
