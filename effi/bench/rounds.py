"""One case of a benchmark: each competitor timed beside the reference, round by round, and the rows that come out."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median

from scipy.stats import quantile_test

from effi.bench import load
from effi.cost import measure
from effi.errors import EffiError

# With 9 values the interval of a median leaves out the lowest and the highest.
FEWEST, MOST = 9, 100
CALLS, LONG_S = 10, 3.0  # calls in a round, and the seconds beyond which none is repeated
CONFIDENCE = 0.95
FORM = 2
# Others' share of all cores, a median over the fastest reading, the upper bound of a ratio over the lower. Seconds may
# drift further than ratios, from which drift cancels.
OTHERS, SCATTER, WIDTH = 0.05, 1.5, 1.25
NOISY, FAILED = "noisy: repeat", "failed: "


class Missing(Exception):
    """A competitor that cannot take part; the text says why and how to mend it."""


class FailedError(EffiError):
    """Competitors that should have taken part raised something; all others were timed."""


@dataclass(frozen=True)
class Competitor:
    """What is timed; `flops` are those of one call, `extra_bytes` the memory it needs beside what it is given."""

    step: Callable[[], object]
    parameters: int | None = None
    flops: int | None = None
    extra_bytes: int | None = None


@dataclass(frozen=True)
class Taken:
    """Seconds of a competitor in each round, measured by itself, and the most memory that it held, in bytes."""

    seconds: list[float]
    extra_bytes: int | None = None


@dataclass(frozen=True)
class Case:
    """Competitors by name, made when their case begins; `reference` is the one others are compared with.

    `calls` is how often a competitor's step runs in one call that is timed; `clock` as in `effi.cost.measure`. A case
    whose processes time themselves has no competitors to call: `elsewhere` gives what each took, round by round.
    """

    title: str
    reference: str
    competitors: Mapping[str, Callable[[], Competitor]] = field(default_factory=dict)
    calls: int = 1
    clock: Callable[[Callable[[], object]], float] | None = None
    elsewhere: Callable[[], Mapping[str, Taken]] | None = None


@dataclass(frozen=True)
class Row:
    """A competitor's seconds of a call, one per round, and those of the reference in the same rounds (`beside`).

    `ratio` is the median of their ratios within rounds, `low` and `high` its 95 % interval; the reference, whose
    seconds are those of all rounds, has no interval. `note` says why there is no number. `load` is the system's load
    average before the case, `others` the cores that others kept busy meanwhile. Rows of form 1 lack `beside` and the
    interval: all competitors shared their rounds.
    """

    case: str
    competitor: str
    reference: str
    seconds: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    parameters: int | None = None
    flops: int | None = None
    extra_bytes: int | None = None
    load: float | None = None
    others: float | None = None
    note: str | None = None
    form: int = FORM


def timed(case: Case, budget_s: float) -> list[Row]:
    """A row per competitor in the order given; those missing, and all where the reference is, have a note instead.

    `budget_s` is the time of one competitor and the reference together, but FEWEST rounds are always made.
    """
    if case.elsewhere is not None:
        return _told(case, case.elsewhere)
    gc.collect()  # training loops know themselves, and hold the memory of a case that is over
    average, made = load.average(), {name: _made(make) for name, make in case.competitors.items()}
    steps = {name: competitor.step for name, competitor in made.items() if isinstance(competitor, Competitor)}
    rows = _rounds(case, steps, budget_s) if case.reference in steps else {}
    alone = f"not timed: there is no {case.reference} beside it"
    return [
        _known(rows[name], competitor, average)
        if isinstance(competitor, Competitor) and name in rows
        else Row(case.title, name, case.reference, load=average, note=str(made[name]) if name not in steps else alone)
        for name, competitor in made.items()
    ]


def _rounds(case: Case, steps: Mapping[str, Callable[[], object]], budget_s: float) -> dict[str, Row]:
    """Each competitor in rounds with the reference, and the reference in all of them."""
    # The pass before this reading touches all memory: a virtual machine may have to fetch a new page from its host.
    first = {name: once for name, (once,) in measure(steps, repeats=1, budget_s=0, clock=case.clock).items()}
    rivals = [name for name in steps if name != case.reference] or [case.reference]
    rows = {name: _beside(case, name, steps, first, budget_s) for name in rivals}
    rows[case.reference] = _reference(case, list(rows.values()))
    return rows


def _told(case: Case, elsewhere: Callable[[], Mapping[str, Taken]]) -> list[Row]:
    """Rows of rounds that were measured elsewhere; what runs there are children of this process."""
    average, start = load.average(), load.spent()
    taken = elsewhere()
    others, beside = load.others(start), taken[case.reference].seconds
    rows = {
        name: Row(case.title, name, case.reference, own.seconds, beside, others=others) for name, own in taken.items()
    }
    told = {name: _compared(row) for name, row in rows.items() if name != case.reference}
    told[case.reference] = _reference(case, list(told.values()))
    return [replace(told[name], load=average, extra_bytes=own.extra_bytes) for name, own in taken.items()]


def _made(make: Callable[[], Competitor]) -> Competitor | str:
    """A competitor, or why it cannot take part: where one fails, the others are timed all the same."""
    try:
        return make()
    except Missing as reason:
        return str(reason)
    except Exception as error:
        return f"{FAILED}{type(error).__name__}: {first_words(error)}"


def first_words(error: Exception) -> str:
    """The first sentence of what was raised, some of which is pages long."""
    return (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]


def _known(row: Row, competitor: Competitor, average: float | None) -> Row:
    known = {name: getattr(competitor, name) for name in ("parameters", "flops", "extra_bytes")}
    return replace(row, load=average, **known)


def _beside(
    case: Case, name: str, steps: Mapping[str, Callable[[], object]], first: Mapping[str, float], budget_s: float
) -> Row:
    """A competitor in rounds of its own with the reference; the quicker of the two is called often in each.

    A round gives both alike time, so that what disturbs the machine falls on both, unless one call is long already.
    """
    pair = dict.fromkeys((case.reference, name))
    longest = max(first[each] for each in pair)
    calls = {each: min(CALLS, max(1, int(LONG_S / first[each])), round(longest / first[each])) for each in pair}
    rounds = int(budget_s / sum(calls[each] * first[each] for each in pair))
    start, turns = load.spent(), {each: repeated(steps[each], calls[each]) for each in pair}
    measured = measure(turns, repeats=min(MOST, max(FEWEST, rounds)), budget_s=math.inf, clock=case.clock)
    seconds = {each: [turn / (calls[each] * case.calls) for turn in measured[each]] for each in pair}
    row = Row(case.title, name, case.reference, seconds[name], seconds[case.reference], others=load.others(start))
    return _compared(row)


def repeated(step: Callable[[], object], times: int) -> Callable[[], object]:
    """The step so many times in one call, of which nothing is kept."""

    def all_of_them() -> None:
        for _ in range(times):
            step()

    return all_of_them


def _compared(row: Row) -> Row:
    """The row with its ratio and interval, or why it is worth neither."""
    ratios = [own / other for own, other in zip(row.seconds, row.beside, strict=True)]
    low, high = interval(ratios)
    if why := _noise(row) or (f"the interval is wide: {low:.3g} to {high:.3g}" if high > WIDTH * low else None):
        return replace(row, note=f"{NOISY}: {why}")
    if math.isnan(low):  # of few rounds
        return replace(row, ratio=median(ratios))
    return replace(row, ratio=median(ratios), low=low, high=high)


def _reference(case: Case, rows: Sequence[Row]) -> Row:
    """What was timed beside all others, in one row."""
    seconds = [second for row in rows for second in row.beside]
    others = fmean(row.others for row in rows if row.others is not None)
    row = Row(case.title, case.reference, case.reference, seconds, others=others)
    why = _noise(row)
    return replace(row, note=f"{NOISY}: {why}") if why else replace(row, ratio=1.0)


def _noise(row: Row) -> str | None:
    """What makes seconds worthless: work of others, or a median far above the fastest; None when nothing does."""
    cores = os.cpu_count() or 1
    if row.others is not None and row.others > OTHERS * cores:
        return f"others kept {row.others:.2f} of {cores} cores busy"
    scatter = max(median(each) / min(each) for each in (row.seconds, row.beside) if each)
    return f"the median is {scatter:.2f} times the fastest" if scatter > SCATTER else None


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Order statistics that hold the median with at least 95 % confidence, whatever the distribution of rounds.

    Fewer than 6 values give (nan, nan). Source: Conover, Practical Nonparametric Statistics, section 3.2.
    """
    found = quantile_test(ratios, q=median(ratios), p=0.5).confidence_interval(CONFIDENCE)
    return float(found.low), float(found.high)
