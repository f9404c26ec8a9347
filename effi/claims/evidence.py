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
# Of what is pooled of several metrics, correlations among them as GLUE tells them.
POINTS = Unit(100.0, "points", 1)
# A slope is told for so much of an arm's ratio.
STEP = 0.1


@dataclass(frozen=True)
class Evidence:
    """One test with its arms filled in; without a verdict an arm, a seed or a metric is missing, as `clause` says.

    `clause` is what was measured as a part of a sentence, `shown` its numbers alone, `wanted` what would settle an open
    test if mean and spread stayed ("about 12 seeds"), `lacking` in what it falls short of the paper's protocol.
    `p_holm` is the p against, adjusted for all tests of the reading, `condition` that of its Comparison.
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
    condition: bool = False

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
    """A case with the claim that it is of, the seeds that all its arms have, and who says it."""

    case: Case
    claim: Claim
    seeds: Sequence[int]
    speaker: Speaker

    @property
    def test(self) -> Comparison:
        """The case's test."""
        return self.case.test

    def records(self, arm: str) -> list[Record]:
        """Of one arm, seed by seed."""
        return [self.speaker.results.seeds(arm)[seed] for seed in self.seeds]

    def rivals(self, test: Comparison) -> list[Record]:
        """What a test's first arm is compared with, seed by seed; of several arms the best at that seed."""
        best = min if measures.lower_is_better(test.metric) else max
        sides = zip(*map(self.records, test.b), strict=True)
        return [best(records, key=lambda record: measures.value(record, test.metric)) for records in sides]

    def table(self, metric: str) -> np.ndarray:
        """A metric of the listed arms, or of the listed parts of one arm's record, (arms, seeds); a mean over cells."""
        return np.mean([self._table(test, metric) for test in self.case.tests], axis=0)

    def _table(self, test: Comparison, metric: str) -> np.ndarray:
        places = [(test.a, f"{metric}/{part}") if test.a else (part, metric) for part in test.over]
        return np.array([[measures.value(record, name) for record in self.records(arm)] for arm, name in places])


def evidence(case: Case, paper: Paper, results: Results) -> Evidence:
    """A filled test on the results; what is missing is said, not raised."""
    test, name = case.test, sentences.label(case)
    if results and test.scales and results.scale not in test.scales:
        return Evidence(name, f"{name} is not judged at {results.scale} scale")
    try:
        claim = _claim(case, paper, results)
        values = _Values(case, claim, _seeds(case, results), Speaker(paper, results))
        found = _ranks(values) if test.rule == "discordance" else _trend(values) if test.over else _mean(values)
    except _Missing as missing:
        return Evidence(name, str(missing))
    except EffiError as missing:
        return Evidence(name, f"{NOT_AVAILABLE}: {missing}".removesuffix("."))
    trained = [record for arm in case.arms for record in values.records(arm)]
    lacking = (*protocol.shortfalls(test, trained, len(values.seeds)), *map(protocol.other, case.other))
    machine = sentences.machine(trained) if any(map(measures.timed, case.metrics)) else ""
    said = found._replace(clause=found.clause + machine)
    return Evidence(
        name,
        said.clause,
        said.verdict,
        claim,
        unit(case),
        said.shown,
        said.wanted,
        lacking,
        condition=test.condition,
    )


def _seeds(case: Case, results: Results) -> list[int]:
    """Seeds that all arms of the case have, and those that its metrics are about."""
    absent = [arm for arm in case.arms if arm not in results]
    failed = [f"{arm} failed ({results.failures[arm]})" for arm in absent if arm in results.failures]
    if absent:
        named = absent if len(absent) < len(case.arms) else case.test.arms
        raise _Missing("; ".join(failed) or f"{NOT_RUN}: {', '.join(named)}")
    named = [*case.arms, *results.about(*case.metrics)]
    seeds = set.intersection(*(set(results.seeds(arm)) for arm in named))
    if not seeds:
        raise _Missing(f"{NOT_AVAILABLE}: no seed that all of {', '.join(case.test.arms)} have")
    return sorted(seeds)


def _claim(case: Case, paper: Paper, results: Results) -> Claim:
    test = case.test
    margin, target = test.margin, test.target
    if isinstance(margin, str):
        first = case.arms[0]
        margin = paper.margin(margin, results.dataset(first) if first in results else "")
    if isinstance(target, str):
        target = paper.numbers[target]["value"]
    low, high = test.limits
    return Claim(test.rule, test.direction, margin, target, (low, high), test.refuted)


def unit(case: Case) -> Unit:
    """How the case's value is shown."""
    if case.test.over:
        return PLAIN
    units = {_unit(test) for test in case.tests}
    found = units.pop() if len(units) == 1 else POINTS
    return found._replace(name=f"{found.name} per {STEP:g}".strip()) if case.test.statistic else found


def _unit(test: Comparison) -> Unit:
    if test.compare != "difference":
        return Unit(100.0, "%", 2)
    return measures.unit(test.metric, difference=bool(test.b))


def _bounds(case: Case) -> tuple[float, float]:
    """What the case's value can be, in its shown unit."""
    test = case.test
    if test.statistic:
        return stats.ANYWHERE
    if test.compare != "difference":
        return (0.0 if test.compare == "ratio" else -100.0), math.inf
    ends = {measures.bounds(each.metric, difference=bool(test.b)) for each in case.tests}
    return ends.pop() if len(ends) == 1 else (-100.0, 100.0)


# --- over arms ---------------------------------------------------------------------------------------------------


def _ranks(values: _Values) -> _Found:
    """Pairs of arms that two scores rank apart."""
    x, y = values.test.x, values.test.y
    first, second = (values.table(metric) * (-1 if measures.lower_is_better(metric) else 1) for metric in (x, y))
    found = stats.discordance(first, second)
    clause = sentences.counted(values.case, found, values.speaker)
    return _Found(found.verdict, clause, f"{found.apart} of {found.pairs} pairs")


def _trend(values: _Values) -> _Found:
    """A rank correlation or a slope."""
    y = values.table(values.test.y)
    printed = np.tile(np.array(values.test.printed)[:, None], len(values.seeds))
    x = printed if values.test.printed else values.table(values.test.x)
    kendall = values.test.statistic == "kendall"
    verdict = stats.weigh(stats.kendall(x, y) if kendall else stats.slope(x.mean(1), y.mean(1)), values.claim)
    return _worded(values, verdict)


def _worded(values: _Values, verdict: Verdict, never: int = 0, wanted: str = "") -> _Found:
    own = unit(values.case)
    clause = sentences.clause(values.case, verdict, own, values.speaker, never)
    return _Found(verdict, clause, sentences.shown(verdict, own, never), wanted)


# --- over seeds --------------------------------------------------------------------------------------------------


def _mean(values: _Values) -> _Found:
    """A mean over seeds, of accuracies over the examples of the test set, too, or a bound on every seed."""
    test, claim = values.test, values.claim
    if test.rule == "bound":
        return _bound(values)
    if values.case.cells:
        known: uncertainty.Estimate = _pooled(values)
        verdict = stats.weigh(known, claim)
    elif uncertainty.is_accuracy(test.metric) and test.compare == "difference":
        known = _accuracy(values)
        verdict = stats.weigh(known, claim)
    else:
        exact = measures.counted(test.metric)
        verdict = stats.verdict(_each(values, test), claim, within=_bounds(values.case), counted=exact)
        known = uncertainty.Estimate(verdict.mean, verdict.n, verdict.sd, exact=exact)
    tells = verdict.direction == "open" and verdict.n > 1
    return _worded(values, verdict, wanted=known.wanted(verdict.mean - stats.gap(verdict.mean, claim)) if tells else "")


def _accuracy(values: _Values) -> uncertainty.Estimate:
    """An accuracy, or a difference of two."""
    test = values.test
    if not test.b:
        return uncertainty.score(values.records(test.a), test.metric)
    return uncertainty.change(_pairs(values, test), test.metric)


def _pairs(values: _Values, test: Comparison) -> list[Pair]:
    return [Pair(*each) for each in zip(values.records(test.a), values.rivals(test), strict=True)]


def _pooled(values: _Values) -> uncertainty.Pooled:
    """A mean over cells, or a slope on the ratios of their arms."""
    exact = all(map(measures.counted, values.case.metrics))
    return uncertainty.pooled(_cells(values), _bounds(values.case), exact=exact)


def _cells(values: _Values) -> list[uncertainty.Cell]:
    """Every cell with its values and its weight."""
    results, tests = values.speaker.results, values.case.tests
    weights = np.full(len(tests), 1 / len(tests))
    if values.test.statistic:
        weights = STEP * stats.slope_weights(
            [_ratio(values, test) for test in tests], [results.group(t.a) for t in tests]
        )
    return [
        uncertainty.Cell(_each(values, test), weight, results.dataset(test.a), _sample(values, test))
        for test, weight in zip(tests, weights.tolist(), strict=True)
    ]


def _ratio(values: _Values, test: Comparison) -> float:
    ratio = values.records(test.a)[0]["ratio"]
    if ratio is None:
        raise _Missing(f"{NOT_AVAILABLE}: {test.a} has no ratio, on which a slope could be told")
    return float(ratio)


def _sample(values: _Values, test: Comparison) -> uncertainty.Sample:
    """What a cell's accuracies tell of the test set."""
    if test.compare != "difference":
        return uncertainty.NOTHING
    if not test.b:
        return uncertainty.sample(values.records(test.a), test.metric)
    return uncertainty.sample_of_pairs(_pairs(values, test), test.metric)


def _bound(values: _Values) -> _Found:
    """What must hold at every seed; "never" is no number to take a mean of."""
    cells = _cells(values) if values.case.cells else []
    found = uncertainty.summed(cells).tolist() if cells else _each(values, values.test)
    never = sum(value == measures.never(values.test.metric) for value in found)
    verdict = stats.verdict(found, values.claim)
    return _worded(values, replace(verdict, mean=math.nan, sd=math.nan, high=math.inf) if never else verdict, never)


def _each(values: _Values, test: Comparison) -> list[float]:
    """The value of a case's test, or of one of its cells, at each seed, in the shown unit."""
    ours = [measures.value(record, test.metric) for record in values.records(test.a)]
    if test.b:
        theirs = [measures.value(record, test.metric) for record in values.rivals(test)]
        ours = [_beside(test, *pair) for pair in zip(ours, theirs, strict=True)]
    return [value * unit(values.case).factor for value in ours]


def _beside(test: Comparison, ours: float, theirs: float) -> float:
    """Difference, ratio or relative difference, as stored."""
    if test.compare == "difference":
        return ours - theirs
    return measures.ratio(ours, theirs, f"{test.metric} of {' or '.join(test.b)}") - (test.compare == "relative")
