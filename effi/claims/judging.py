"""Judge a paper's claims on results; what is missing, substituted or cut short is said."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from effi.claims import measures, papers, stats
from effi.claims.measures import Unit
from effi.claims.papers import NOT_AVAILABLE, Comparison, Kind, Paper, PaperClaim
from effi.claims.results import Results
from effi.claims.stats import Claim, Direction, State, Verdict
from effi.errors import EffiError

if TYPE_CHECKING:
    from effi.records.store import Record

NOT_RUN = "not run at this scale"
# Scales whose verdicts say something, the smallest first; smoke runs only test invariants.
JUDGED = ("cpu", "hours", "gpu", "paper")


@dataclass(frozen=True)
class Evidence:
    """One test with its arms filled in; `ran` is False when an arm, a seed or a metric is missing."""

    label: str
    verdict: Verdict
    unit: Unit
    ran: bool = True


@dataclass(frozen=True)
class Judgement:
    """All tests of one verdict together; `deciding` is the least favourable of them, None without tests."""

    state: State
    direction: Direction
    why: str
    evidence: tuple[Evidence, ...]
    deciding: Evidence | None

    @property
    def ran(self) -> bool:
        """Whether any test found its arms."""
        return any(each.ran for each in self.evidence)


@dataclass(frozen=True)
class ClaimRow:
    """One judged claim, and the scale at which the judgement holds."""

    claim: PaperClaim
    scale: str
    as_in_the_paper: Judgement
    fair: Judgement

    def judgement(self, kind: Kind) -> Judgement:
        """The judgement of one kind."""
        return self.fair if kind == "fair" else self.as_in_the_paper


class _Missing(Exception):
    """Why a test has no values."""


class _Case(NamedTuple):
    """A test with its placeholders filled, for which data set, and which of them stands in for which."""

    test: Comparison
    dataset: str
    stand_in: str | None


def _present(name: str, test: Comparison, choices: Mapping[str, Sequence[str]], results: Results) -> list[str]:
    """Data sets which, put for the placeholder, name at least one of the test's arms that ran."""
    ran = {(results.dataset(arm), arm) for arm in results.arms}
    arms = [arm for arm in test.arms if arm.startswith(f"{{{name}}}")]
    fillings = _fillings({**choices, name: sorted({dataset for dataset, _ in ran})})
    return sorted(
        {filling[name] for filling in fillings for arm in arms if (filling[name], arm.format(**filling)) in ran}
    )


def _fillings(choices: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Every combination of the placeholders' values."""
    for combination in itertools.product(*choices.values()):
        yield dict(zip(choices, combination, strict=True))


def _leading(test: Comparison) -> set[str]:
    """Placeholders at the beginning of an arm, where its data set stands."""
    return {match[1] for arm in test.arms if (match := re.match(r"\{(\w+)\}", arm))}


def _choices(test: Comparison, paper: Paper, results: Results) -> tuple[dict[str, Sequence[str]], dict[str, str]]:
    """Values of each placeholder, and what those of a data set stand in for when none of those wanted ran."""
    wanted, instead = dict(test.each), {}
    if "dataset" in test.placeholders:
        wanted.setdefault("dataset", paper.datasets)
    choices = dict(wanted)
    for name in sorted(_leading(test) & set(wanted)):
        present = _present(name, test, wanted, results)
        if present and not set(present) & set(wanted[name]):
            listed = (each for one in wanted[name] for each in paper.stand_ins.get(one, ()))
            choices[name] = [each for each in listed if each in present][:1] or present
            instead[name] = " and ".join(wanted[name])
    return choices, instead


def _cases(test: Comparison, paper: Paper, results: Results) -> Iterator[_Case]:
    choices, instead = _choices(test, paper, results)
    for chosen in _fillings(choices):
        a = test.a.format(**chosen)
        b, over = (tuple(arm.format(**chosen) for arm in arms) for arms in (test.b, test.over))
        stand_ins = ", ".join(f"{chosen[name]} in place of {what}" for name, what in instead.items())
        yield _Case(replace(test, a=a, b=b, over=over), chosen.get("dataset", ""), stand_ins or None)


def _narrowed(test: Comparison, results: Results) -> tuple[Comparison, str | None]:
    """The test over those of its listed arms that ran (at least two), and how many that is when not all."""
    b, over = (tuple(arm for arm in listed if arm in results) for listed in (test.b, test.over))
    if len(test.b) > len(b) >= 2:
        return replace(test, b=b), f"{len(b)} arms of {len(test.b)}"
    if len(test.over) > len(over) >= 2:
        return replace(test, over=over), f"{len(over)} arms of {len(test.over)}"
    return test, None


def _one(test: Comparison, at: Mapping[str, Record]) -> float:
    """The test's value at one seed, in its shown unit."""
    if test.over:
        x, y = ([measures.value(at[arm], metric) for arm in test.over] for metric in (test.x, test.y))
        return stats.kendall(x, y) if test.statistic == "kendall" else stats.slope(x, y).mean
    left = measures.value(at[test.a], test.metric)
    if not test.b:
        return left * _unit(test).factor
    others = [measures.value(at[arm], test.metric) for arm in test.b]
    right = max(others) if test.pick == "highest" else min(others)
    if test.compare == "difference":
        return (left - right) * _unit(test).factor
    if right == 0:
        raise _Missing(f"{NOT_AVAILABLE}: {test.metric} of {test.b[0]} is 0")
    return (left / right - (test.compare == "relative")) * _unit(test).factor


def _unit(test: Comparison) -> Unit:
    if test.over:
        return Unit(1.0, "", 3)
    if test.compare != "difference":
        return Unit(100.0, "%", 2)
    return measures.unit(test.metric, difference=bool(test.b))


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


def _setting(record: Record, path: str) -> float | None:
    found: Any = record["settings"]
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _shortfalls(test: Comparison, trained: Sequence[Record], seeds: int) -> Iterator[str]:
    """In what the runs fall short of the protocol, or leave it."""
    changed = sorted({f"{name}={value}" for record in trained for name, value in record.get("parameters", {}).items()})
    if test.full and changed:
        yield f"not the protocol: {', '.join(changed)}"
    for path, wanted in test.full.items():
        name = path.rpartition(".")[2]
        settings = [seeds] if path == "seeds" else [_setting(record, path) for record in trained]
        found = [value for value in settings if value is not None]
        if len(found) < len(settings):
            yield f"{name} not recorded"
        elif wanted is True and not all(found):
            yield f"{path.partition('.')[0]} not {name}"
        elif min(found) < wanted:
            yield f"{min(found):g} {name.removesuffix('s') if min(found) == 1 else name} of {wanted:g}"


def _label(test: Comparison, dataset: str) -> str:
    if test.over:
        lines = f"{measures.words(test.y)} against {measures.words(test.x)} over {len(test.over)} arms"
        return lines + (f" of {dataset}" if dataset else "")
    if not test.b:
        return f"{test.a}, {measures.words(test.metric)}"
    right = test.b[0] if len(test.b) == 1 else f"{test.pick} of {len(test.b)} others"
    return f"{test.a} {'/' if test.compare == 'ratio' else '-'} {right}, {measures.words(test.metric)}"


def _name(test: Comparison) -> str:
    if test.over:
        return {"kendall": "Kendall tau", "slope": "slope"}[test.statistic]
    return test.compare.replace("relative", "relative difference") if test.b else "value"


def _rule(test: Comparison, paper: Paper, dataset: str, cap: str | None) -> Claim:
    margin, target = test.margin, test.target
    if isinstance(margin, str):
        margin = paper.margin(margin, dataset)
    if isinstance(target, str):
        target = paper.numbers[target]["value"]
    shown = _unit(test)
    return Claim(test.rule, test.direction, margin, target, test.refuted, cap, _name(test), shown.name, shown.digits)


def _absence(case: _Case, reason: str) -> Evidence:
    nothing = Verdict("inconclusive", math.nan, math.nan, math.nan, 0, "open", reason)
    return Evidence(_label(case.test, case.dataset), nothing, _unit(case.test), ran=False)


def _evidence(case: _Case, paper: Paper, results: Results) -> Evidence:
    test, fewer = _narrowed(case.test, results)
    try:
        seeds = _seeds(test, results)
        found = [_one(test, {arm: results.seeds(arm)[seed] for arm in test.arms}) for seed in seeds]
    except _Missing as missing:
        return _absence(case._replace(test=test), str(missing))
    except EffiError as missing:
        return _absence(case._replace(test=test), f"{NOT_AVAILABLE}: {missing}")
    trained = [results.seeds(arm)[seed] for arm in test.arms for seed in seeds]
    reasons = [*_shortfalls(test, trained, len(seeds)), *filter(None, (fewer, case.stand_in))]
    claim = _rule(test, paper, results.dataset(test.arms[0]), ", ".join(reasons) or None)
    return Evidence(_label(test, case.dataset), stats.verdict(found, claim), _unit(test))


_SEVERITY: dict[str, int] = {"not reproduced": 0, "inconclusive": 1, "reproduced": 2}
_LEANING: dict[str, int] = {"against": 0, "open": 1, "for": 2}


def _deciding(evidence: Iterable[Evidence]) -> Evidence:
    """The least favourable of all tests, one with numbers before one without."""
    return min(evidence, key=lambda e: (_SEVERITY[e.verdict.state], not e.ran, _LEANING[e.verdict.direction]))


def _tally(evidence: Sequence[Evidence]) -> str:
    if len(evidence) == 1:
        return ""
    counts = Counter(each.verdict.direction if each.ran else "missing" for each in evidence)
    return f" ({', '.join(f'{counts[k]} {k}' for k in ('for', 'against', 'open', 'missing') if counts[k])})"


def combine(evidence: Sequence[Evidence]) -> Judgement:
    """All tests must hold: one that fails decides against, one open or missing leaves the claim open."""
    if not evidence:
        return Judgement("inconclusive", "open", NOT_RUN, (), None)
    deciding = _deciding(evidence)
    leanings = {each.verdict.direction for each in evidence}
    direction: Direction = min(leanings, key=_LEANING.__getitem__)
    why = f"{deciding.label}: {deciding.verdict.why}" if deciding.ran else deciding.verdict.why
    return Judgement(deciding.verdict.state, direction, why + _tally(evidence), tuple(evidence), deciding)


def judge(paper: str | Paper, results: Results) -> list[ClaimRow]:
    """Every claim of the paper, judged on its results. Raises ParameterError for an unknown paper."""
    loaded = paper if isinstance(paper, Paper) else papers.load(paper)

    def judged(tests: Sequence[Comparison]) -> Judgement:
        return combine([_evidence(c, loaded, results) for test in tests for c in _cases(test, loaded, results)])

    return [
        ClaimRow(claim, results.scale, *(judged(claim.tests[kind]) for kind in papers.KINDS)) for claim in loaded.claims
    ]


def count(rows: Iterable[ClaimRow], kind: Kind = "as_in_the_paper") -> dict[State, int]:
    """How many claims are in each state, all three states named."""
    found = Counter(row.judgement(kind).state for row in rows)
    return {state: found[state] for state in stats.STATES}
