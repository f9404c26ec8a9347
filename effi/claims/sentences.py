"""Tests and their outcomes in words: a label for a table, a clause that a person would say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from effi.claims import measures, stats
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
        record = next(iter(self.results.seeds(arm).values()))
        if not record["dataset"]:
            return ""
        return f"on {self.name(record['dataset'])} " + (f"({self.name(record['model'])}) " if record["model"] else "")

    def arm(self, arm: str) -> str:
        """An arm within its group: "the ticket at p = 0.3"."""
        record = next(iter(self.results.seeds(arm).values()))
        ratio = "" if record["ratio"] is None else f" at p = {record['ratio']:g}"
        return self.name(record["variant"]) + ratio if record["variant"] else arm


def label(test: Comparison, dataset: str) -> str:
    """A test as a table names it: "d/new - d/old, test accuracy"."""
    if test.over:
        verb = "ranked as" if test.rule == "discordance" else "against"
        count = f"{len(test.over)} arms" + (f" of {dataset}" if dataset else "")
        return f"{measures.words(test.y)} {verb} {measures.words(test.x)}, over {count}"
    if not test.b:
        return f"{test.a}, {measures.words(test.metric)}"
    return f"{test.a} {'/' if test.compare == 'ratio' else '-'} {test.b}, {measures.words(test.metric)}"


def line(claim: Claim, unit: Unit) -> str:
    """What is claimed, with its threshold: "claimed below 0", "margin 1 point"."""
    limit, margin = _threshold(claim.target, unit), _threshold(claim.margin, unit)
    low, high = (_threshold(each, unit) for each in claim.limits)
    side = "above" if claim.direction == "higher" else "below"
    relation = {"lower": "at most", "higher": "at least", "equal": "exactly"}[claim.direction]
    beyond = "" if claim.refuted is None else f", refuted beyond {_threshold(claim.refuted, unit)}"
    return {
        "ordering": f"claimed {side} {limit}",
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


def clause(test: Comparison, verdict: Verdict, unit: Unit, speaker: Speaker, never: int = 0) -> str:
    """What was measured, as a person would say it: "on CIFAR-10 the minimum loses 4.2 points [3.5, 5.0] of ..."."""
    say = _said_of_many if test.over else _said_of_two if test.b else _said_of_one
    return say(test, verdict, lambda each: shown(each, unit, never), speaker)


Shown = Callable[[Verdict], str]


def _said_of_one(test: Comparison, verdict: Verdict, show: Shown, speaker: Speaker) -> str:
    place = speaker.place(test.a)
    of = f"{place}for {speaker.arm(test.a)} " if place else ""
    return f"{of}the {measures.words(test.metric)} is {show(verdict)}"


def _said_of_two(test: Comparison, verdict: Verdict, show: Shown, speaker: Speaker) -> str:
    place, ours, theirs = speaker.place(test.a), speaker.arm(test.a), speaker.arm(test.b)
    if speaker.place(test.b) != place:
        theirs = f"{theirs} {speaker.place(test.b).strip()}"
    what, size = measures.words(test.metric), show(_size(verdict))
    if test.compare == "ratio":
        return f"{place}{ours} has {show(verdict)} of the {what} of {theirs}"
    if measures.unit(test.metric, difference=True).name == "points" and " - " not in test.metric:
        verb, side = ("loses", "to") if verdict.mean < 0 else ("gains", "over")
        return f"{place}{ours} {verb} {size} of {what} {side} {theirs}"
    return f"{place}the {what} of {ours} is {size} {'below' if verdict.mean < 0 else 'above'} that of {theirs}"


def _size(verdict: Verdict) -> Verdict:
    """The verdict with its mean positive, so that a verb can say the sign."""
    if verdict.mean >= 0:
        return verdict
    return replace(verdict, mean=-verdict.mean, low=-verdict.high, high=-verdict.low)


def _said_of_many(test: Comparison, verdict: Verdict, show: Shown, speaker: Speaker) -> str:
    what = f"of {measures.words(test.y)} on {measures.words(test.x)}"
    if test.a:
        return f"over {len(test.over)} arms the slope {what} is {show(verdict)}"
    name = "the slope" if test.statistic == "slope" else "Kendall's tau"
    return f"{speaker.place(test.over[0])}over {len(test.over)} arms {name} {what} is {show(verdict)}"


def counted(test: Comparison, found: Discordance, speaker: Speaker) -> str:
    """Pairs of arms that two scores rank apart, and alike, in words."""
    scores = f"{measures.words(test.x)} and {measures.words(test.y)}"
    place = speaker.place(test.over[0])
    return f"{place}{scores} surely rank {found.apart} of {found.pairs} pairs of arms apart and {found.alike} alike"


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
