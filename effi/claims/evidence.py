"""One test on the records of a run: its values, what they say of the claim, and that in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from effi.claims import measures, protocol, sentences, stats, uncertainty
from effi.claims.cases import Case
from effi.claims.measures import Unit
from effi.claims.papers import NOT_AVAILABLE, Comparison, Paper
from effi.claims.protocol import Shortfall
from effi.claims.results import Pair, Results
from effi.claims.sentences import Speaker
from effi.claims.stats import ALPHA, Claim, Verdict
from effi.errors import EffiError

if TYPE_CHECKING:
    from effi.records.store import Record

NOT_RUN = "not run"
PLAIN = Unit(1.0, "", 3)


@dataclass(frozen=True)
class Evidence:
    """One test with its arms filled in; without a verdict an arm, a seed or a metric is missing, as `clause` says.

    `clause` is what was measured as a part of a sentence, `shown` its numbers alone, `wanted` what would settle an open
    test if mean and spread stayed ("about 12 seeds"), `lacking` in what it falls short of the paper's protocol.
    `p_holm` is the p against, adjusted for all tests of the reading.
    """

    label: str
    clause: str
    verdict: Verdict | None = None
    claim: Claim | None = None
    unit: Unit = PLAIN
    shown: str = NOT_AVAILABLE
    wanted: str = ""
    lacking: tuple[Shortfall, ...] = ()
    p_holm: float = math.nan

    @property
    def refutes(self) -> bool:
        """Whether it speaks against the claim, also as one of several tests of which any refutes."""
        return self.verdict is not None and self.verdict.direction == "against" and not self.p_holm >= ALPHA

    @property
    def number(self) -> str:
        """How many values it rests on, ", n=3" to end a clause; empty of a count, and where there are none."""
        return "" if self.verdict is None or self.verdict.spread == "count" else f", n={self.verdict.n}"

    @property
    def said(self) -> str:
        """The clause with what is claimed, and how many values it rests on."""
        if self.claim is None:
            return self.clause
        return f"{self.clause} ({sentences.line(self.claim, self.unit)}){self.number}"


class _Missing(Exception):
    """Why a test has no values."""


class _Found(NamedTuple):
    """What a test that has all its values says, its words, its numbers, and what would settle it."""

    verdict: Verdict
    clause: str
    shown: str
    wanted: str = ""


class _Values(NamedTuple):
    """A filled test with the claim that it is of, the seeds that all its arms have, and who says it."""

    test: Comparison
    claim: Claim
    seeds: Sequence[int]
    speaker: Speaker

    def records(self, arm: str) -> list[Record]:
        """Of one arm, seed by seed."""
        return [self.speaker.results.seeds(arm)[seed] for seed in self.seeds]

    def table(self, metric: str) -> np.ndarray:
        """A metric of the listed arms, or of the listed parts of one arm's record: (arms, seeds)."""
        places = [(self.test.a, f"{metric}/{part}") if self.test.a else (part, metric) for part in self.test.over]
        return np.array([[measures.value(record, name) for record in self.records(arm)] for arm, name in places])


def evidence(case: Case, paper: Paper, results: Results) -> Evidence:
    """A filled test on the results; what is missing is said, not raised."""
    test, name = case.test, sentences.label(case.test, case.dataset)
    try:
        claim = _claim(test, paper, results)
        values = _Values(test, claim, _seeds(test, results), Speaker(paper, results))
        found = _ranks(values) if test.rule == "discordance" else _trend(values) if test.over else _mean(values)
    except _Missing as missing:
        return Evidence(name, str(missing))
    except EffiError as missing:
        return Evidence(name, f"{NOT_AVAILABLE}: {missing}".removesuffix("."))
    trained = [record for arm in test.arms for record in values.records(arm)]
    lacking = (*protocol.shortfalls(test, trained, len(values.seeds)), *map(protocol.other, case.other))
    machine = sentences.machine(trained) if any(map(measures.timed, test.metrics)) else ""
    said = found._replace(clause=found.clause + machine)
    return Evidence(name, said.clause, said.verdict, claim, unit(test), said.shown, said.wanted, lacking)


def _seeds(test: Comparison, results: Results) -> list[int]:
    """Seeds that all arms of the test have."""
    absent = [arm for arm in test.arms if arm not in results]
    failed = [f"{arm} failed ({results.failures[arm]})" for arm in absent if arm in results.failures]
    if absent:
        raise _Missing("; ".join(failed) or f"{NOT_RUN}: {', '.join(absent)}")
    seeds = set.intersection(*(set(results.seeds(arm)) for arm in test.arms))
    if not seeds:
        raise _Missing(f"{NOT_AVAILABLE}: no seed that all of {', '.join(test.arms)} have")
    return sorted(seeds)


def _claim(test: Comparison, paper: Paper, results: Results) -> Claim:
    margin, target = test.margin, test.target
    if isinstance(margin, str):
        first = test.arms[0]
        margin = paper.margin(margin, results.dataset(first) if first in results else "")
    if isinstance(target, str):
        target = paper.numbers[target]["value"]
    low, high = test.limits
    return Claim(test.rule, test.direction, margin, target, (low, high), test.refuted)


def unit(test: Comparison) -> Unit:
    """How the test's value is shown."""
    if test.over:
        return PLAIN
    if test.compare != "difference":
        return Unit(100.0, "%", 2)
    return measures.unit(test.metric, difference=bool(test.b))


def _bounds(test: Comparison) -> tuple[float, float]:
    """What the test's value can be, in its shown unit."""
    if test.compare != "difference":
        return (0.0 if test.compare == "ratio" else -100.0), math.inf
    return measures.bounds(test.metric, difference=bool(test.b))


# --- over arms ---------------------------------------------------------------------------------------------------


def _ranks(values: _Values) -> _Found:
    """Pairs of arms that two scores rank apart."""
    x, y = values.test.x, values.test.y
    first, second = (values.table(metric) * (-1 if measures.lower_is_better(metric) else 1) for metric in (x, y))
    found = stats.discordance(first, second)
    clause = sentences.counted(values.test, found, values.speaker)
    return _Found(found.verdict, clause, f"{found.apart} of {found.pairs} pairs")


def _trend(values: _Values) -> _Found:
    """A rank correlation or a slope."""
    x, y = values.table(values.test.x), values.table(values.test.y)
    kendall = values.test.statistic == "kendall"
    verdict = stats.weigh(stats.kendall(x, y) if kendall else stats.slope(x.mean(1), y.mean(1)), values.claim)
    return _worded(values, verdict)


def _worded(values: _Values, verdict: Verdict, never: int = 0, wanted: str = "") -> _Found:
    own = unit(values.test)
    clause = sentences.clause(values.test, verdict, own, values.speaker, never)
    return _Found(verdict, clause, sentences.shown(verdict, own, never), wanted)


# --- over seeds --------------------------------------------------------------------------------------------------


def _mean(values: _Values) -> _Found:
    """A mean over seeds, of accuracies over the examples of the test set, too, or a bound on every seed."""
    test, claim = values.test, values.claim
    if test.rule == "bound":
        return _bound(values)
    if uncertainty.is_accuracy(test.metric) and test.compare == "difference":
        known = _accuracy(values)
        verdict = stats.weigh(known, claim)
    else:
        exact = measures.counted(test.metric)
        verdict = stats.verdict(_each(values), claim, within=_bounds(test), counted=exact)
        known = uncertainty.Estimate(verdict.mean, verdict.n, verdict.sd, exact=exact)
    tells = verdict.direction == "open" and verdict.n > 1
    return _worded(values, verdict, wanted=known.wanted(verdict.mean - stats.gap(verdict.mean, claim)) if tells else "")


def _accuracy(values: _Values) -> uncertainty.Estimate:
    """An accuracy, or a difference of two."""
    test, ours = values.test, values.records(values.test.a)
    if not test.b:
        return uncertainty.score(ours, test.metric)
    pairs = zip(ours, values.records(test.b), strict=True)
    return uncertainty.change([Pair(*each) for each in pairs], test.metric)


def _bound(values: _Values) -> _Found:
    """What must hold at every seed; "never" is no number to take a mean of."""
    found = _each(values)
    never = sum(value == measures.never(values.test.metric) for value in found)
    verdict = stats.verdict(found, values.claim)
    return _worded(values, replace(verdict, mean=math.nan, sd=math.nan, high=math.inf) if never else verdict, never)


def _each(values: _Values) -> list[float]:
    """The test's value at each seed, in its shown unit."""
    test, metric = values.test, values.test.metric
    ours = [measures.value(record, metric) for record in values.records(test.a)]
    if test.b:
        theirs = [measures.value(record, metric) for record in values.records(test.b)]
        ours = [_beside(test, *pair) for pair in zip(ours, theirs, strict=True)]
    return [value * unit(test).factor for value in ours]


def _beside(test: Comparison, ours: float, theirs: float) -> float:
    """Difference, ratio or relative difference, as stored."""
    if test.compare == "difference":
        return ours - theirs
    return measures.ratio(ours, theirs, f"{test.metric} of {test.b}") - (test.compare == "relative")
