"""From the tests of a paper's file to those of a run: placeholders filled, stand-ins found, lists cut to what ran."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from effi.claims.papers import Comparison, Paper, fillings
from effi.claims.results import Results

# Below three arms a correlation or a slope says nothing.
LEAST = 3
Choices = Mapping[str, Sequence[str]]


class Case(NamedTuple):
    """A test with its placeholders filled, for which data set, and what of it is not as the paper has it."""

    test: Comparison
    dataset: str
    other: tuple[str, ...]


def cases(test: Comparison, paper: Paper, results: Results, *, stand_ins: bool = True) -> Iterator[Case]:
    """The test for every combination of its placeholders' values; without `stand_ins` of those named alone."""
    wanted, known = _wanted(test, paper, results)
    choices, other = dict(wanted), []
    for name, values in wanted.items():
        ran = [value for value in known[name] if _ran(test, known, name, value, results)]
        own = [value for value in values if value in ran]
        if name in test.among and own:
            choices[name] = own
            other += [f"{len(own)} arms of {len(values)}"] if len(own) < len(values) else []
        elif stand_ins and ran and not own:
            listed = [value for value in ran if any(value in paper.stand_ins.get(one, ()) for one in values)]
            choices[name] = listed[:1] or ran
            other.append(f"{' and '.join(choices[name])} in place of {' and '.join(values)}")
    for chosen in fillings(choices):
        filled, fewer = _narrowed(_filled(test, chosen), results)
        yield Case(filled, chosen.get("dataset", ""), (*fewer, *other))


def _wanted(test: Comparison, paper: Paper, results: Results) -> tuple[dict[str, Sequence[str]], Choices]:
    """Values of each placeholder, and with them all that may stand in."""
    wanted: dict[str, Sequence[str]] = {**test.each, **test.among}
    if "dataset" in test.placeholders:
        wanted.setdefault("dataset", paper.datasets)
    present = sorted({results.dataset(arm) for arm in results.arms} - {""})
    known = {}
    for name, values in wanted.items():
        listed = [each for one in values for each in paper.stand_ins.get(one, ())]
        known[name] = list(dict.fromkeys([*values, *listed, *(present if name in _leading(test) else ())]))
    return wanted, known


def _leading(test: Comparison) -> set[str]:
    """Placeholders that stand where a data set does, at the beginning of an arm."""
    return {"dataset"} | {match[1] for arm in test.arms if (match := re.match(r"\{(\w+)\}", arm))}


def _ran(test: Comparison, known: Choices, name: str, value: str, results: Results) -> bool:
    """Whether an arm or a metric that the value fills is there, whatever fills the other placeholders."""
    return any(_held(test, filling, name, results) for filling in fillings({**known, name: [value]}))


def _held(test: Comparison, filling: Mapping[str, str], name: str, results: Results) -> bool:
    named = [arm.format(**filling) for arm in test.arms if f"{{{name}}}" in arm]
    metrics = [metric.format(**filling) for metric in test.metrics if f"{{{name}}}" in metric]
    checked = [arm.format(**filling) for arm in test.arms] if metrics else []
    return any(arm in results for arm in named) or any(
        results.holds(arm, metric) for arm in checked if arm in results for metric in metrics
    )


def _filled(test: Comparison, chosen: Mapping[str, str]) -> Comparison:
    texts = {name: getattr(test, name).format(**chosen) for name in ("a", "b", "metric", "x", "y")}
    return replace(test, **texts, over=tuple(arm.format(**chosen) for arm in test.over))


def _narrowed(test: Comparison, results: Results) -> tuple[Comparison, tuple[str, ...]]:
    """The test over those of its listed arms that ran, and how many that is when not all."""
    over = tuple(part for part in test.over if _there(test, part, results))
    if len(test.over) > len(over) >= LEAST:
        return replace(test, over=over), (f"{len(over)} arms of {len(test.over)}",)
    return test, ()


def _there(test: Comparison, part: str, results: Results) -> bool:
    """Whether an arm of a list ran; of a list of parts, whether the record holds both metrics of this one."""
    if not test.a:
        return part in results
    return test.a in results and all(results.holds(test.a, f"{name}/{part}") for name in (test.x, test.y))
