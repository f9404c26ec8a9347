"""From the parameters of a notebook to what it will do: scale, seeds, device and data sets, checked.

A paper's room holds its own rules in `parameters.py`: parameter -> rule. `effi run` asks them before a kernel starts
and the notebook in its first cell, so that a mistake is the same sentence in both places.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from effi import data
from effi.errors import ParameterError, did_you_mean

Rule = Callable[[str, Any], None]
PURPOSES = {"images": "images", "texts": "labelled texts", "corpus": "a corpus without labels"}


@dataclass(frozen=True)
class Spec:
    """What one run of a notebook does. `row` is the scale's own row of the notebook's table of scales."""

    scale: str
    seeds: tuple[int, ...]
    device: str
    datasets: tuple[str, ...]
    row: Mapping[str, Any]
    notices: tuple[str, ...]

    @property
    def together(self) -> int:
        """Seeds trained side by side in one process: all on a GPU, which small models do not fill; one on a CPU."""
        return 1 if self.device == "cpu" else len(self.seeds)


def resolve(
    scale: str, seeds: Sequence[int], device: str, dataset: str, scales: Mapping[str, Mapping[str, Any]]
) -> Spec:
    """The parameters all notebooks share, resolved against the notebook's own table of scales.

    Each row of `scales` holds `seeds` and `datasets` for when none are given. On a CPU torch is set to one thread, so
    that the same machine computes the same bits. Raises ParameterError and DataError.
    """
    row = choose("scale", scale, scales)
    wanted = seeds or row["seeds"]
    check({}, {"seeds": wanted, "device": device})
    found = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if found == "cpu":
        torch.set_num_threads(1)
    names, notice = data.resolve(dataset, row["datasets"])
    return Spec(scale, tuple(wanted), found, names, row, (notice,) if notice else ())


def check(rules: Mapping[str, Rule], values: Mapping[str, Any]) -> None:
    """Hold every value that has a rule, one of `rules` or of those that all notebooks share, against it.

    `values` may hold more, such as a notebook's globals(). Raises ParameterError and DataError.
    """
    for name, rule in {**SHARED, **rules}.items():
        if name in values:
            rule(name, values[name])


def choose(what: str, name: str, known: Mapping[str, Any]) -> Any:
    """known[name], or a ParameterError that lists what there is and guesses what was meant."""
    if isinstance(name, Hashable) and name in known:
        return known[name]
    raise ParameterError(f"unknown {what} {name!r}{did_you_mean(name, known)}")


def options(what: type, given: Mapping[str, Any]) -> Any:
    """A dataclass of settings made from a notebook's dict of options.

    Raises ParameterError for a misspelt option, a word that the option does not know, and a value of another type.
    """
    _check_options(what.__name__, get_type_hints(what), given)
    return what(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


# --- rules: (parameter, value) -> None, or ParameterError ----------------------------------------------------


def one_of(*known: str) -> Rule:
    """One of these words."""

    def rule(name: str, value: Any) -> None:
        choose(name, value, dict.fromkeys(known))

    return rule


def between(low: float, high: float) -> Rule:
    """A number inside an open interval."""

    def rule(name: str, value: Any) -> None:
        if not (_number(value) and low < value < high):
            raise ParameterError(f"{name} is {value!r}; give a number between {low:g} and {high:g}, both left out.")

    return rule


def at_least(least: float, kind: type = float) -> Rule:
    """A finite number, of type `kind`, not below `least`."""
    noun = "whole number" if kind is int else "number"

    def rule(name: str, value: Any) -> None:
        if not (_number(value, kind) and value >= least):
            raise ParameterError(f"{name} is {value!r}; give a {noun} of at least {least:g}.")

    return rule


def several(rule: Rule) -> Rule:
    """A list, perhaps empty, of different values that each keep `rule`."""

    def each(name: str, values: Any) -> None:
        if not isinstance(values, list | tuple):
            raise ParameterError(f"{name} is {values!r}; give a list.")
        for value in values:
            rule(name, value)
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ParameterError(f"{name} holds {twice[0]!r} more than once; give each value once.")

    return each


def text(name: str, value: Any) -> None:
    """Words."""
    if not isinstance(value, str) or not value:
        raise ParameterError(f"{name} is {value!r}; give text.")


def options_of(what: Callable[..., Any], *more: str, base: Mapping[str, Any] | None = None) -> Rule:
    """A dict of options of a dataclass or of a function's keyword arguments.

    `more` names numbers that are read beside them. With `base`, options that the notebook gives itself, the dataclass
    is made, so that what it refuses is refused.
    """
    wanted = {name: hint for name, hint in _options(what).items() if name not in _GIVEN} | dict.fromkeys(more, float)

    def rule(name: str, given: Any) -> None:
        if not isinstance(given, dict):
            raise ParameterError(
                f"{name} is {given!r}; give a dict of options, for example {{{next(iter(wanted))!r}: ...}}."
            )
        _check_options(name, wanted, given)
        if base is not None:
            what(**{**base, **given})

    return rule


def per(rules: Mapping[str, Rule]) -> Rule:
    """A dict whose keys are these names and whose values keep the rule of their key."""

    def rule(name: str, given: Any) -> None:
        if not isinstance(given, dict):
            raise ParameterError(f"{name} is {given!r}; give a dict with {' or '.join(rules)}.")
        for key, value in given.items():
            choose(f"key of {name}", key, rules)(f"{name}[{key!r}]", value)

    return rule


def holding(*kinds: str) -> Rule:
    """A data set of one of these kinds, "images", "texts" or "corpus", that is here or can be downloaded; or "auto"."""

    def rule(name: str, value: Any) -> None:
        text(name, value)
        if value != "auto" and (found := data.holds(value)) not in kinds:
            wanted = " or ".join(PURPOSES[each] for each in kinds)
            fitting = ", ".join(data.listed(*kinds))
            raise ParameterError(f"{name}={value} holds {PURPOSES[found]}, and {wanted} are wanted: give {fitting}.")
        _available(name, value)

    return rule


def _available(name: str, value: Any) -> None:
    text(name, value)
    data.resolve(value, ())


def _device(name: str, value: Any) -> None:
    one_of("auto", "cpu", "cuda")(name, value)
    if value == "cuda" and not torch.cuda.is_available():
        raise ParameterError("device='cuda' was asked for, but torch sees no GPU here; use device='auto' or 'cpu'.")


def _seeds(name: str, value: Any) -> None:
    whole = isinstance(value, list | tuple) and all(_number(seed, int) and seed >= 0 for seed in value)
    if not whole or len(set(value)) < len(value):
        given = list(value) if isinstance(value, tuple) else value
        raise ParameterError(f"{name}={given} must be different whole numbers from 0 on, for example [0, 1, 2].")


# --- types, as annotations say them --------------------------------------------------------------------------

SHARED: Mapping[str, Rule] = {
    "seeds": _seeds,
    "device": _device,
    "dataset": _available,
    "price_per_gpu_hour": at_least(0),
}
# Whole numbers among the options are counts and sizes, others are rates and shares.
_LEAST: Mapping[type, int] = {int: 1, float: 0}
SHARES = ("dropout",)
# Arguments of models that the notebook gives itself.
_PLURAL = {int: "whole numbers from 1 on", float: "numbers from 0 on"}
_GIVEN = ("classes", "channels", "image_size", "seed", "return")


def _options(what: Callable[..., Any]) -> dict[str, Any]:
    """Option -> type, of a dataclass's fields or of a function's keyword arguments."""
    hints = get_type_hints(what)
    return hints if isinstance(what, type) else {name: hints[name] for name in inspect.signature(what).parameters}


def _check_options(what: str, wanted: Mapping[str, Any], given: Mapping[str, Any]) -> None:
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
    if hint in _LEAST:
        return _number(value, hint) and value >= _LEAST[hint]
    return type(value) is hint


def _choices(hints: Sequence[Any]) -> list[Any]:
    """Types of a union: where a dict stands for a dataclass, the dataclass says what it may hold."""
    dataclasses = any(map(is_dataclass, hints))
    return [hint for hint in hints if not (dataclasses and get_origin(hint) in (dict, Mapping))]


def _number(value: Any, kind: type = float) -> bool:
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
        return f"a list of {count}{_PLURAL.get(inner[0], _described(inner[0]))}"
    if origin in (dict, Mapping):
        return f"a dict of {_PLURAL.get(inner[1], _described(inner[1]))}"
    return {
        int: "a whole number from 1 on",
        float: "a number from 0 on",
        str: "text",
        bool: "True or False",
        NoneType: "None",
    }.get(hint, str(hint))
