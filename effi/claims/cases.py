"""From the tests of a paper's file to those of a run: placeholders filled, stand-ins found, lists cut to what ran."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from effi.claims.papers import Comparison, Paper, fillings
from effi.claims.results import Results

# Below three arms a correlation or a slope says nothing.
LEAST = 3
Choices = Mapping[str, Sequence[str]]


# How values of a placeholder are called where fewer ran than the paper has.
_CALLED = {"dataset": "data sets", "p": "ratios"}


class Case(NamedTuple):
    """A test with its placeholders filled, for which data set, and what of it is not as the paper has it.

    One that pools has `cells`, in which the placeholders that it pools are filled, too; in its own arms they are not.
    """

    test: Comparison
    dataset: str
    other: tuple[str, ...]
    cells: tuple[Comparison, ...] = ()

    @property
    def tests(self) -> tuple[Comparison, ...]:
        """The cells, else the test itself."""
        return self.cells or (self.test,)

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that it reads."""
        return tuple(dict.fromkeys(arm for test in self.tests for arm in test.arms))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that it reads."""
        return tuple(dict.fromkeys(metric for test in self.tests for metric in test.metrics))


def cases(test: Comparison, paper: Paper, results: Results, *, stand_ins: bool = True) -> Iterator[Case]:
    """The test for every combination of its placeholders' values; without `stand_ins` of those named alone."""
    choices, other = _choices(test, paper, results, stand_ins)
    apart = {name: values for name, values in choices.items() if name not in test.pool}
    for chosen in _together(test, apart, results):
        case = _pooled(test, chosen, choices, paper, results) if test.pool else _single(test, chosen, paper, results)
        yield case._replace(other=(*case.other, *other))


def _choices(test: Comparison, paper: Paper, results: Results, stand_ins: bool) -> tuple[Choices, list[str]]:
    """Values of each placeholder, and in what they are not the paper's."""
    wanted, known = _wanted(test, paper, results)
    choices, other = dict(wanted), []
    for name, values in wanted.items():
        ran = [value for value in known[name] if _ran(test, known, name, value, results)]
        own = [value for value in values if value in ran]
        if name in test.among and own:
            choices[name] = own
            other += _fewer(name, own, values) if name not in test.pool else []
        elif stand_ins and ran and not own:
            listed = [value for value in ran if any(value in paper.stand_ins.get(one, ()) for one in values)]
            choices[name] = listed[:1] or ran
            other.append(f"{' and '.join(choices[name])} in place of {' and '.join(values)}")
    return choices, other


def _fewer(name: str, ran: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """How many of the values ran, where some of them did."""
    count = len(set(ran) & set(wanted))
    called = _CALLED.get(name, "arms")
    few = called.removesuffix("s") if count == 1 else called
    return [f"{count} {few} of {len(wanted)}"] if 0 < count < len(wanted) else []


def _together(test: Comparison, choices: Choices, results: Results) -> list[dict[str, str]]:
    """Combinations of values; of several placeholders in `among` those that ran together, unfilled where none did."""
    among = [name for name in choices if name in test.among]
    found = list(fillings(choices))
    if len(among) < 2 or test.pool:
        return found
    naming = [arm for arm in test.arms if all(f"{{{name}}}" in arm for name in among)]
    ran = [each for each in found if any(arm.format(**each) in results for arm in naming)]
    kept = {tuple(each[name] for name in among) for each in ran}
    unfilled = {name: [value] for name, value in _unfilled(among).items()}
    return [each for each in found if tuple(each[name] for name in among) in kept] or [
        *fillings({**choices, **unfilled})
    ]


def _unfilled(names: Iterable[str]) -> dict[str, str]:
    """Values that leave placeholders as they are."""
    return {name: f"{{{name}}}" for name in names}


def _single(test: Comparison, chosen: Mapping[str, str], paper: Paper, results: Results) -> Case:
    (filled,), fewer = _narrowed([_filled(test, chosen, paper, results)], results)
    return Case(filled, chosen.get("dataset", ""), fewer)


def _pooled(test: Comparison, chosen: Mapping[str, str], choices: Choices, paper: Paper, results: Results) -> Case:
    """Cells of every value, or where values are `among` others of those whose arms all ran."""
    fills = [{**chosen, **cell} for cell in fillings({name: choices[name] for name in test.pool})]
    whole = {**chosen, **_unfilled(test.pool)}
    (named, *cells), fewer = _narrowed([_filled(test, each, paper, results) for each in (whole, *fills)], results)
    among = [name for name in test.pool if name in test.among]
    kept = _whole(cells, results) if among else range(len(cells))
    for name in among:
        fewer += tuple(_fewer(name, [fills[place][name] for place in kept], test.among[name]))
    failed = dict.fromkeys(arm for cell in cells for arm in cell.arms if arm in results.failures)
    fewer += tuple(f"{arm} failed" for arm in failed)
    return Case(named, chosen.get("dataset", ""), fewer, tuple(cells[place] for place in kept))


def _whole(cells: Sequence[Comparison], results: Results) -> list[int]:
    """Places of the cells whose arms all ran; where none is, of those of which most did, so that the rest is named."""
    ran = [sum(arm in results for arm in cell.arms) / len(cell.arms) for cell in cells]
    return [place for place, share in enumerate(ran) if share == max(ran)]


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


def _filled(test: Comparison, chosen: Mapping[str, str], paper: Paper, results: Results) -> Comparison:
    texts = {name: getattr(test, name).format(**chosen) for name in ("a", "metric", "x", "y")}
    b, over = (tuple(arm.format(**chosen) for arm in arms) for arms in (test.b, test.over))
    dataset = results.dataset(texts["a"]) if texts["a"] in results else chosen.get("dataset", "")
    return replace(test, **{**texts, "metric": paper.score(texts["metric"], dataset)}, b=b, over=over)


def _narrowed(tests: Sequence[Comparison], results: Results) -> tuple[list[Comparison], tuple[str, ...]]:
    """The tests over those of their listed arms that ran in any of them, and how many these are when not all."""
    count = len(tests[0].over)
    kept = [place for place in range(count) if any(_there(test, test.over[place], results) for test in tests)]
    if not count > len(kept) >= LEAST:
        return list(tests), ()
    return [_only(test, kept) for test in tests], (f"{len(kept)} arms of {count}",)


def _only(test: Comparison, kept: Sequence[int]) -> Comparison:
    over = tuple(test.over[place] for place in kept)
    return replace(test, over=over, printed=tuple(test.printed[place] for place in kept if test.printed))


def _there(test: Comparison, part: str, results: Results) -> bool:
    """Whether an arm of a list ran; of a list of parts, whether the record holds both metrics of this one."""
    if not test.a:
        return part in results
    return test.a in results and all(results.holds(test.a, f"{name}/{part}") for name in (test.x, test.y))
