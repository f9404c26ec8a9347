"""What a parameter may be: rules, (parameter, value) -> None or an error that names the mend.

A paper's room holds its own in `parameters.py`: parameter -> rule. `effi run` asks them before a kernel starts and the
notebook in its first cell, so that a mistake is the same sentence in both places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from effi import data
from effi.errors import ParameterError
from effi.spec.options import check_options, choose, is_number, options_in

Rule = Callable[[str, Any], None]
PURPOSES = {"images": "images", "texts": "labelled texts", "corpus": "a corpus without labels"}


def check(rules: Mapping[str, Rule], values: Mapping[str, Any]) -> None:
    """Hold every value that has a rule, one of `rules` or of those that all notebooks share, against it.

    `values` may hold more, such as a notebook's globals(). Raises ParameterError and DataError.
    """
    for name, rule in {**SHARED, **rules}.items():
        if name in values:
            rule(name, values[name])


def one_of(*known: str) -> Rule:
    """One of these words."""

    def rule(name: str, value: Any) -> None:
        choose(name, value, dict.fromkeys(known))

    return rule


def between(low: float, high: float) -> Rule:
    """A number inside an open interval."""

    def rule(name: str, value: Any) -> None:
        if not (is_number(value) and low < value < high):
            raise ParameterError(f"{name} is {value!r}; give a number between {low:g} and {high:g}, both left out.")

    return rule


def at_least(least: float, kind: type = float) -> Rule:
    """A finite number, of type `kind`, not below `least`."""
    noun = "whole number" if kind is int else "number"

    def rule(name: str, value: Any) -> None:
        if not (is_number(value, kind) and value >= least):
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


def options_of(
    what: Callable[..., Any],
    *more: str,
    base: Mapping[str, Any] | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> Rule:
    """A dict of options of a dataclass or of a function's keyword arguments.

    `more` names numbers that are read beside them. With `base`, options that the notebook gives itself, the dataclass
    is made, so that what it refuses is refused. `elsewhere` says of options which other parameter sets them.
    """
    wanted = options_in(what) | dict.fromkeys(more, float)

    def rule(name: str, given: Any) -> None:
        if not isinstance(given, dict):
            raise ParameterError(
                f"{name} is {given!r}; give a dict of options, for example {{{next(iter(wanted))!r}: ...}}."
            )
        check_options(name, wanted, given)
        for key in set(given) & set(elsewhere or ()):
            raise ParameterError(f"{name} sets {key!r}, which {(elsewhere or {})[key]} does; give it there.")
        if base is not None:
            what(**{**base, **given})

    return rule


def in_epochs(rule: Rule) -> Rule:
    """Options of a training that the notebook counts in epochs, which its figures and tables need."""

    def counted(name: str, given: Any) -> None:
        if isinstance(given, dict) and (given.get("steps") is not None or given.get("epochs", 1) is None):
            raise ParameterError(f"{name} is counted in epochs here; give epochs instead of steps.")
        rule(name, given)

    return counted


def in_steps(rule: Rule) -> Rule:
    """Options of a training that the notebook counts in steps, of which arms take shares."""

    def counted(name: str, given: Any) -> None:
        if isinstance(given, dict) and given.get("epochs") is not None:
            raise ParameterError(f"{name} is counted in steps here; give steps instead of epochs.")
        rule(name, given)

    return counted


def per(rules: Mapping[str, Rule]) -> Rule:
    """A dict whose keys are these names and whose values keep the rule of their key."""

    def rule(name: str, given: Any) -> None:
        if not isinstance(given, dict):
            raise ParameterError(f"{name} is {given!r}; give a dict with {' or '.join(rules)}.")
        for key, value in given.items():
            choose(f"key of {name}", key, rules)(f"{name}[{key!r}]", value)

    return rule


def holding(*kinds: str) -> Rule:
    """Data sets of these kinds, "images", "texts" or "corpus", that are here or can be downloaded; or "auto"."""

    def rule(name: str, value: Any) -> None:
        text(name, value)
        for each in data_sets(value):
            if each != "auto" and (found := data.holds(each)) not in kinds:
                wanted = " or ".join(PURPOSES[kind] for kind in kinds)
                fitting = ", ".join(data.listed(*kinds))
                raise ParameterError(f"{name}={each} holds {PURPOSES[found]}, and {wanted} are wanted: give {fitting}.")
        _available(name, value)

    return rule


def data_sets(dataset: str) -> tuple[str, ...]:
    """The data sets that a parameter names: several are joined by commas, which a path may hold, too."""
    return (dataset,) if ":" in dataset else tuple(dict.fromkeys(each.strip() for each in dataset.split(",")))


def _available(name: str, value: Any) -> None:
    text(name, value)
    for each in data_sets(value):
        data.resolve(each, ())


def _device(name: str, value: Any) -> None:
    one_of("auto", "cpu", "cuda")(name, value)
    if value == "cuda" and not torch.cuda.is_available():
        raise ParameterError("device='cuda' was asked for, but torch sees no GPU here; use device='auto' or 'cpu'.")


def _seeds(name: str, value: Any) -> None:
    whole = isinstance(value, list | tuple) and all(is_number(seed, int) and seed >= 0 for seed in value)
    if not whole or len(set(value)) < len(value):
        given = list(value) if isinstance(value, tuple) else value
        raise ParameterError(f"{name}={given} must be different whole numbers from 0 on, for example [0, 1, 2].")


SHARED: Mapping[str, Rule] = {
    "seeds": _seeds,
    "device": _device,
    "dataset": _available,
    "price_per_gpu_hour": at_least(0),
}
