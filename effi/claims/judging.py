"""Judge a paper's claims on results; what is missing, substituted or cut short is said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from effi.claims import measures, papers, protocol, sentences, stats, uncertainty
from effi.claims.cases import Case, cases
from effi.claims.measures import Unit
from effi.claims.papers import NOT_AVAILABLE, READINGS, Comparison, Finding, Kind, Paper, PaperClaim, Reading
from effi.claims.protocol import Shortfall
from effi.claims.results import Pair, Results
from effi.claims.sentences import Speaker
from effi.claims.stats import ALPHA, Claim, Verdict
from effi.errors import EffiError

if TYPE_CHECKING:
    from effi.records.store import Record

Here = Literal["for", "against", "open", "not run"]
HERE: tuple[Here, ...] = ("for", "against", "open", "not run")
AtProtocol = Literal["reproduced", "not reproduced", "open", "not reached"]
NOT_RUN = "not run"
# Scales whose trainings and timings say something, the smallest first; smoke runs only test invariants.
JUDGED = ("cpu", "hours", "gpu", "paper")
PLAIN = Unit(1.0, "", 3)
UNJUDGED = "{} scale only tests that everything runs"


@dataclass(frozen=True)
class Evidence:
    """One test with its arms filled in; without a verdict an arm, a seed or a metric is missing, as `clause` says.

    `clause` is what was measured as a part of a sentence, `shown` its numbers alone, `lacking` in what it falls short
    of the paper's protocol. `p_holm` is the p against, adjusted for all tests of the reading.
    """

    label: str
    clause: str
    verdict: Verdict | None = None
    claim: Claim | None = None
    unit: Unit = PLAIN
    shown: str = NOT_AVAILABLE
    lacking: tuple[Shortfall, ...] = ()
    p_holm: float = math.nan

    @property
    def refutes(self) -> bool:
        """Whether it speaks against the claim, also as one of several tests of which any refutes."""
        return self.verdict is not None and self.verdict.direction == "against" and not self.p_holm >= ALPHA

    @property
    def said(self) -> str:
        """The clause with what is claimed, and how many values it rests on."""
        if self.verdict is None or self.claim is None:
            return self.clause
        number = "" if self.verdict.spread == "count" else f", n={self.verdict.n}"
        return f"{self.clause} ({sentences.line(self.claim, self.unit)}){number}"


@dataclass(frozen=True)
class Judgement:
    """All tests of one reading together: what they say here, and at the paper's protocol.

    `lacking` is what is missing of the protocol, `why` a sentence; `deciding` is the test that the sentence is about,
    None without tests.
    """

    here: Here
    protocol: AtProtocol
    lacking: str
    why: str
    evidence: tuple[Evidence, ...] = ()
    deciding: Evidence | None = None

    @property
    def reached(self) -> bool:
        """Whether the paper's protocol is."""
        return self.protocol != "not reached"


@dataclass(frozen=True)
class ClaimRow:
    """One judged claim, and the scale at which it was."""

    claim: PaperClaim
    scale: str
    as_in_the_paper: Judgement
    fair: Judgement

    def judgement(self, reading: Reading) -> Judgement:
        """The judgement of one reading."""
        return self.fair if reading == "fair" else self.as_in_the_paper


class _Missing(Exception):
    """Why a test has no values."""


# --- one test ----------------------------------------------------------------------------------------------------


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


def _unit(test: Comparison) -> Unit:
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


def _one(test: Comparison, at: dict[str, Record]) -> float:
    """The test's value at one seed, in its shown unit."""
    left = measures.value(at[test.a], test.metric)
    if test.b:
        right = measures.value(at[test.b], test.metric)
        if test.compare == "difference":
            left -= right
        else:
            left = measures.ratio(left, right, f"{test.metric} of {test.b}") - (test.compare == "relative")
    return left * _unit(test).factor


def _table(test: Comparison, metric: str, results: Results, seeds: Sequence[int]) -> np.ndarray:
    """A metric of the listed arms, or of the listed parts of one arm's record: (arms, seeds)."""
    places = [(test.a, f"{metric}/{part}") if test.a else (part, metric) for part in test.over]
    return np.array([[measures.value(results.seeds(arm)[seed], name) for seed in seeds] for arm, name in places])


def _of_examples(test: Comparison) -> bool:
    """Whether the examples of a test set tell of the test's value."""
    return uncertainty.is_accuracy(test.metric) and test.compare == "difference" and test.rule != "bound"


def _over_examples(test: Comparison, results: Results, seeds: Sequence[int]) -> uncertainty.Estimate:
    """An accuracy or a difference of two, over seeds and test examples."""
    ours = [results.seeds(test.a)[seed] for seed in seeds]
    if not test.b:
        return uncertainty.score(ours, test.metric)
    theirs = [results.seeds(test.b)[seed] for seed in seeds]
    return uncertainty.change([Pair(*each) for each in zip(ours, theirs, strict=True)], test.metric)


def _weighed(test: Comparison, claim: Claim, results: Results, seeds: Sequence[int], speaker: Speaker) -> Evidence:
    """The verdict of a test that has all its values, and its words."""
    unit, never = _unit(test), 0
    if test.over:
        x, y = (_table(test, metric, results, seeds) for metric in (test.x, test.y))
        if test.rule == "discordance":
            first, second = (-1 if measures.lower_is_better(metric) else 1 for metric in (test.x, test.y))
            found = stats.discordance(first * x, second * y)
            text = f"{found.apart} of {found.pairs} pairs"
            return Evidence("", sentences.counted(test, found, speaker), found.verdict, claim, unit, text)
        estimate = stats.kendall(x, y) if test.statistic == "kendall" else stats.slope(x.mean(1), y.mean(1))
        verdict = stats.weigh(estimate, claim)
    else:
        values = [_one(test, {arm: results.seeds(arm)[seed] for arm in test.arms}) for seed in seeds]
        if _of_examples(test):
            verdict = stats.weigh(_over_examples(test, results, seeds), claim)
        else:
            verdict = stats.verdict(values, claim, within=_bounds(test), counted=measures.counted(test.metric))
        never = sum(value == measures.never(test.metric) for value in values)
        # "Never" is no number to take a mean of.
        verdict = replace(verdict, mean=math.nan, sd=math.nan, high=math.inf) if never else verdict
    said = sentences.clause(test, verdict, unit, speaker, never)
    return Evidence("", said, verdict, claim, unit, sentences.shown(verdict, unit, never))


def _claim(test: Comparison, paper: Paper, dataset: str) -> Claim:
    margin, target = test.margin, test.target
    if isinstance(margin, str):
        margin = paper.margin(margin, dataset)
    if isinstance(target, str):
        target = paper.numbers[target]["value"]
    low, high = test.limits
    return Claim(test.rule, test.direction, margin, target, (low, high), test.refuted)


def _evidence(case: Case, paper: Paper, results: Results) -> Evidence:
    test, name = case.test, sentences.label(case.test, case.dataset)
    try:
        seeds = _seeds(test, results)
        claim = _claim(test, paper, results.dataset(test.arms[0]))
        found = _weighed(test, claim, results, seeds, Speaker(paper, results))
    except _Missing as missing:
        return Evidence(name, str(missing))
    except EffiError as missing:
        return Evidence(name, f"{NOT_AVAILABLE}: {missing}".removesuffix("."))
    trained = [results.seeds(arm)[seed] for arm in test.arms for seed in seeds]
    lacking = (*protocol.shortfalls(test, trained, len(seeds)), *map(protocol.other, case.other))
    machine = sentences.machine(trained) if any(map(measures.timed, test.metrics)) else ""
    return replace(found, label=name, clause=found.clause + machine, lacking=lacking)


# --- all tests of a reading --------------------------------------------------------------------------------------


def _adjusted(evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """With p against by Holm over the tests that have one: any of them refutes, so their errors add up."""
    adjusted = stats.holm([math.nan if each.verdict is None else each.verdict.p_against for each in evidence])
    return tuple(replace(each, p_holm=p) for each, p in zip(evidence, adjusted, strict=True))


def _here(evidence: Sequence[Evidence]) -> Here:
    """All must hold, without a correction; any refutes, with one; a test that did not run leaves the rest open."""
    if all(each.verdict is None for each in evidence):
        return "not run"
    if any(each.refutes for each in evidence):
        return "against"
    held = all(each.verdict is not None and each.verdict.direction == "for" for each in evidence)
    return "for" if held else "open"


def _at_protocol(evidence: Sequence[Evidence], here: Here) -> AtProtocol:
    """A test at the protocol refutes alone; for more, every test must be."""
    reached = [each for each in evidence if each.verdict is not None and not each.lacking]
    if any(each.refutes for each in reached):
        return "not reproduced"
    if len(reached) < len(evidence) or not reached:
        return "not reached"
    return "reproduced" if here == "for" else "open"


def _lacking(evidence: Sequence[Evidence]) -> str:
    absent = sum(each.verdict is None for each in evidence)
    missing = [protocol.other(f"{absent} of {len(evidence)} tests not run")] if absent else []
    return protocol.told([*(lack for each in evidence for lack in each.lacking), *missing])


def _deciding(evidence: Sequence[Evidence], here: Here) -> Evidence:
    """The test that the sentence is about: the surest against, else the least sure, with numbers if one has any."""

    def rank(each: Evidence) -> tuple[bool, bool, float]:
        if each.verdict is None:
            return here == "against", True, 0.0
        if here == "against":
            return not each.refutes, False, 0.0 if math.isnan(each.p_holm) else each.p_holm
        sure = 0.0 if math.isnan(each.verdict.p_for) else each.verdict.p_for
        return each.verdict.direction == "for", False, -sure

    return min(evidence, key=rank)


def _tally(evidence: Sequence[Evidence]) -> str:
    if len(evidence) == 1:
        return ""
    counts = Counter(each.verdict.direction if each.verdict else NOT_RUN for each in evidence)
    told = [f"{counts[here]} {here}" for here in HERE if counts[here]]
    return f"; of {len(evidence)} tests {', '.join(told)}"


def _sentence(here: Here, deciding: Evidence, evidence: Sequence[Evidence]) -> str:
    if here == "not run":
        return f"{deciding.clause[0].upper()}{deciding.clause[1:]}{_tally(evidence)}."
    alone = deciding.verdict is not None and deciding.verdict.direction == "against" and here == "open"
    holm = f", p = {deciding.p_holm:.2g} by Holm, so that it does not refute as one of several tests" if alone else ""
    return f"{here.capitalize()}: {deciding.said}{holm}{_tally(evidence)}."


def combine(tests: Sequence[Evidence]) -> Judgement:
    """What all tests of a reading say together."""
    if not tests:
        return Judgement("not run", "not reached", "no test", "Not run: no arm of this workbook tests it.")
    evidence = _adjusted(tests)
    here = _here(evidence)
    at, deciding = _at_protocol(evidence, here), _deciding(evidence, here)
    lacking = "" if at != "not reached" else _lacking(evidence)
    return Judgement(here, at, lacking, _sentence(here, deciding, evidence), evidence, deciding)


def _judged(claim: PaperClaim, tests: Sequence[Comparison], paper: Paper, results: Results) -> Judgement:
    judged = combine([_evidence(case, paper, results) for test in tests for case in cases(test, paper, results)])
    if results.scale in JUDGED or claim.kind == "arithmetic" or judged.here == "not run":
        return judged
    unjudged = UNJUDGED.format(results.scale)
    return replace(judged, here="open", protocol="not reached", lacking=unjudged, why=f"Open: {unjudged}.")


def judge(paper: str | Paper, results: Results) -> list[ClaimRow]:
    """Every claim of the paper, judged on its results. Raises ParameterError for an unknown paper."""
    loaded = paper if isinstance(paper, Paper) else papers.load(paper)
    return [
        ClaimRow(claim, results.scale, *(_judged(claim, claim.tests[name], loaded, results) for name in READINGS))
        for claim in loaded.claims
    ]


def look(finding: Finding, paper: Paper, results: Results) -> Judgement:
    """What a run says of a finding, by the same rules: "for" where it is seen."""
    return combine([_evidence(case, paper, results) for test in finding.tests for case in cases(test, paper, results)])


class Tally(NamedTuple):
    """What claims are counted by."""

    kind: Kind
    here: Here
    reached: bool


def tally(rows: Iterable[ClaimRow], reading: Reading = "as_in_the_paper") -> Counter[Tally]:
    """How many claims of each kind say what here, and whether the paper's protocol is reached."""
    return Counter(Tally(r.claim.kind, r.judgement(reading).here, r.judgement(reading).reached) for r in rows)


def count(rows: Iterable[ClaimRow], reading: Reading = "as_in_the_paper") -> dict[Here, int]:
    """How many claims say what here, all four words named."""
    found = Counter(row.judgement(reading).here for row in rows)
    return {here: found[here] for here in HERE}
