"""Tests and their outcomes in words: a label for a table, a clause that a person would say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from effi.claims import measures, stats
from effi.claims.cases import Case
from effi.claims.measures import Unit
from effi.claims.papers import Comparison, Paper
from effi.claims.results import Results
from effi.claims.stats import Claim, Discordance, Interval, Verdict

if TYPE_CHECKING:
    from effi.records.store import Record


class Speaker(NamedTuple):
    """Says things of one run with the names of one paper's file."""

    paper: Paper
    results: Results

    def name(self, word: str | None) -> str:
        """A data set, model or variant in words."""
        return self.paper.names.get(word or "", word or "")

    def place(self, arm: str) -> str:
        """Where an arm was trained: "on CIFAR-10 (ViT) "; empty for a check."""
        return self.places([arm]) and f"on {self.places([arm])} "

    def places(self, arms: Iterable[str]) -> str:
        """Data sets of arms, and their models: "CIFAR-10 and MNIST (ViT)"; empty for checks."""
        found = [self._record(arm) for arm in arms]
        sets, models = (list(dict.fromkeys(each[key] for each in found if each[key])) for key in ("dataset", "model"))
        within = f" ({_listed([self.name(model) for model in models])})" if sets and models else ""
        return _listed([self.name(one) for one in sets]) + within

    def arm(self, arm: str) -> str:
        """An arm within its group: "the ticket at p = 0.3"."""
        return self.kind([arm])

    def kind(self, arms: Sequence[str]) -> str:
        """What arms of several groups or ratios are: "the ticket", with the ratio where they have the same."""
        found = [self._record(arm) for arm in arms]
        ratios = {each["ratio"] for each in found}
        ratio = f" at p = {ratios.pop():g}" if len(ratios) == 1 and None not in ratios else ""
        return self.name(found[0]["variant"]) + ratio if found[0]["variant"] else arms[0]

    def _record(self, arm: str) -> Record:
        return next(iter(self.results.seeds(arm).values()))


def _listed(names: Sequence[str], word: str = "and") -> str:
    """Names in a row: "a, b and c"; empty without any."""
    *most, last = names or [""]
    return f"{', '.join(most)} {word} {last}" if most else last


def _best(names: Sequence[str]) -> str:
    """One name, or which of several counts."""
    return names[0] if len(names) == 1 else f"the {'better' if len(names) == 2 else 'best'} of {_listed(names)}"


def _what(case: Case) -> str:
    """The metric of a case in words, or those of its cells."""
    return _listed(list(dict.fromkeys(measures.words(test.metric) for test in case.tests)), "or")


def _against(test: Comparison) -> str:
    return "what the paper prints" if test.printed else measures.words(test.x)


def label(case: Case) -> str:
    """A test as a table names it: "d/new - d/old, test accuracy"."""
    test, dataset = case.test, case.dataset
    name = "slope on p" if test.statistic and not test.over else "mean"
    cells = f", {name} over {len(case.cells)} cell{'s' * (len(case.cells) > 1)}" if case.cells else ""
    if test.over:
        verb = "ranked as" if test.rule == "discordance" else "against"
        count = f"{len(test.over)} arms" + (f" of {dataset}" if dataset and not case.cells else "")
        return f"{measures.words(test.y)} {verb} {_against(test)}, over {count}{cells}"
    if not test.b:
        return f"{test.a}, {_what(case)}{cells}"
    return f"{test.a} {'/' if test.compare == 'ratio' else '-'} {_best(test.b)}, {_what(case)}{cells}"


def line(claim: Claim, unit: Unit) -> str:
    """What is claimed, with its threshold: "claimed below 0", "margin 1 point"."""
    limit, margin = _threshold(claim.target, unit), _threshold(claim.margin, unit)
    low, high = (_threshold(each, unit) for each in claim.limits)
    side = "above" if claim.direction == "higher" else "below"
    relation = {"lower": "at most", "higher": "at least", "equal": "exactly"}[claim.direction]
    second = "" if claim.refuted is None else _threshold(claim.refuted, unit)
    beyond = second and f", refuted beyond {second}"
    short = second and f", refuted {'below' if claim.direction == 'higher' else 'above'} {second}"
    return {
        "ordering": f"claimed {side} {limit}{short}",
        "gain": f"claimed {side} 0, a tie within ±{margin}",
        "no_loss": f"margin {margin}",
        "equivalence": f"claimed within ±{margin}",
        "within": f"claimed from {low} to {high}",
        "bound": f"claimed {relation} {limit}{beyond}",
        "discordance": "claimed at least one",
    }[claim.rule]


def _threshold(value: float, unit: Unit) -> str:
    """Text of a threshold: exact where `number` would only give a bound or round it away."""
    text = stats.number(value) if abs(value) >= 1000 else f"{round(value, 3) if abs(value) >= 1e-3 else value:g}"
    name = unit.name.removesuffix("s") if abs(value) == 1 and unit.name == "points" else unit.name
    return f"{text} {name}".strip() if value else text


def shown(verdict: Verdict, unit: Unit, never: int = 0) -> str:
    """A verdict's numbers: "-4.2 points [-5.0, -3.5]", of a bound its range, in words how many seeds never."""
    if verdict.spread == "range":
        return _range(verdict, unit, never)
    return stats.measured(Interval(verdict.mean, verdict.low, verdict.high), verdict.n, unit.name, unit.digits)


def _range(verdict: Verdict, unit: Unit, never: int) -> str:
    suffix = f" {unit.name}" if unit.name else ""
    whole = not suffix and verdict.low.is_integer() and verdict.high.is_integer()
    digits = 0 if whole else unit.digits
    if never == verdict.n:
        return f'"never" at {never} of {verdict.n} seeds'
    if never:
        return f'from {stats.number(verdict.low, unit.digits)}{suffix} on, "never" at {never} of {verdict.n} seeds'
    if verdict.low == verdict.high:
        return stats.number(verdict.low, digits) + suffix + (" at every seed" if verdict.n > 1 else "")
    low, high = (stats.rounded(each, digits) for each in (verdict.low, verdict.high))
    mean = stats.rounded(verdict.mean, unit.digits)
    return f"{mean}{suffix}, range {low} to {high}"


def clause(case: Case, verdict: Verdict, unit: Unit, speaker: Speaker, never: int = 0) -> str:
    """What was measured, as a person would say it: "on CIFAR-10 the minimum loses 4.2 points [3.5, 5.0] of ..."."""
    test = case.test
    say = _said_of_many if test.over else _said_of_slope if test.statistic else _said_of_two if test.b else _said_of_one
    return say(case, verdict, lambda each: shown(each, unit, never), speaker)


Shown = Callable[[Verdict], str]


def _place(case: Case, speaker: Speaker) -> str:
    """Where the first arms of a case were trained, "on CIFAR-10 (ViT) "; over how many cells where it pools."""
    if not case.cells:
        return speaker.place(case.test.arms[0])
    count, places = len(case.cells), speaker.places(cell.arms[0] for cell in case.cells)
    return f"over {count} cell{'s' * (count > 1)}{places and f' of {places}'} "


def _ours(case: Case, speaker: Speaker) -> str:
    return speaker.kind([test.a for test in case.tests])


def _theirs(case: Case, speaker: Speaker) -> str:
    """What the first arm is compared with, and where that was trained elsewhere."""
    names = [speaker.kind(arms) for arms in zip(*(test.b for test in case.tests), strict=True)]
    here, there = (speaker.places(arms) for arms in zip(*((test.a, test.b[0]) for test in case.tests), strict=True))
    return _best(names) + (f" on {there}" if there != here and there else "")


def _said_of_one(case: Case, verdict: Verdict, show: Shown, speaker: Speaker) -> str:
    place = _place(case, speaker)
    of = f"{place}for {_ours(case, speaker)} " if place else ""
    return f"{of}the {_what(case)} is {show(verdict)}"


def _said_of_slope(case: Case, verdict: Verdict, show: Shown, speaker: Speaker) -> str:
    """How a difference, or a metric, moves with the ratio."""
    verb, theirs = "falls" if verdict.mean < 0 else "grows", _theirs(case, speaker) if case.test.b else ""
    lead = f"the lead of {_ours(case, speaker)} over {theirs} in {_what(case)}"
    what = lead if theirs else f"the {_what(case)} of {_ours(case, speaker)}"
    return f"{_place(case, speaker)}{what} {verb} with p by {show(_size(verdict))}"


def _said_of_two(case: Case, verdict: Verdict, show: Shown, speaker: Speaker) -> str:
    test, place, ours, theirs = case.test, _place(case, speaker), _ours(case, speaker), _theirs(case, speaker)
    what, size = _what(case), show(_size(verdict))
    if test.compare == "ratio":
        return f"{place}{ours} has {show(verdict)} of the {what} of {theirs}"
    if all(_in_points(each.metric) for each in case.tests) or len({each.metric for each in case.tests}) > 1:
        verb, side = ("loses", "to") if verdict.mean < 0 else ("gains", "over")
        return f"{place}{ours} {verb} {size} of {what} {side} {theirs}"
    return f"{place}the {what} of {ours} is {size} {'below' if verdict.mean < 0 else 'above'} that of {theirs}"


def _in_points(metric: str) -> bool:
    return measures.unit(metric, difference=True).name == "points" and " - " not in metric


def _size(verdict: Verdict) -> Verdict:
    """The verdict with its mean positive, so that a verb can say the sign."""
    if verdict.mean >= 0:
        return verdict
    return replace(verdict, mean=-verdict.mean, low=-verdict.high, high=-verdict.low)


def _said_of_many(case: Case, verdict: Verdict, show: Shown, speaker: Speaker) -> str:
    test = case.test
    what = f"of {measures.words(test.y)} on {_against(test)}"
    if test.a:
        return f"over {len(test.over)} arms the slope {what} is {show(verdict)}"
    name = "the slope" if test.statistic == "slope" else "Kendall's tau"
    place, count = _place(case, speaker), f"{len(test.over)} arms"
    return f"{place}{f'for {count}' if case.cells else f'over {count}'} {name} {what} is {show(verdict)}"


def counted(case: Case, found: Discordance, speaker: Speaker) -> str:
    """Pairs of arms that two scores rank apart, and alike, in words."""
    scores = f"{measures.words(case.test.x)} and {measures.words(case.test.y)}"
    pairs = f"{found.apart} of {found.pairs} pairs of arms apart and {found.alike} alike"
    return f"{_place(case, speaker)}{scores} surely rank {pairs}"


def machine(records: Iterable[Record]) -> str:
    """On what a clock measured, a GPU or a CPU: " on AMD EPYC"; empty where records do not say."""
    made = [record.get("provenance", {}) for record in records]
    named = sorted({(each.get("gpu") or {}).get("name") or each.get("cpu") or "" for each in made} - {""})
    return f" on {' and '.join(named)}" if named else ""


def counts(said: Iterable[str], order: Sequence[str]) -> str:
    """How often each word was said, but for those that never were: "5 for, 2 against"."""
    found = Counter(said)
    return ", ".join(f"{found[word]} {word}" for word in order if found[word])


def significant(value: float) -> str:
    """Six significant digits for a machine; empty where there is no number."""
    return "" if math.isnan(value) else f"{value:.6g}"
