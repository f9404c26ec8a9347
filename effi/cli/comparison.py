"""Two sets of records side by side: every arm and metric that both hold, with Welch's p of equal means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from effi.claims import measures, stats
from effi.claims.measures import Record, Runs
from effi.claims.papers import NOT_AVAILABLE
from effi.errors import RecordError
from effi.records import store
from effi.report import Table

COSTS = ("cost.flops", "cost.seconds", "cost.peak_bytes", "cost.joules")
Group = tuple[str, str]


def compare(a: Path, b: Path, metrics: Sequence[str] = ()) -> Table:
    """A row per paper, scale, arm and metric (default: all): means with intervals over seeds, and p.

    `a` and `b` are folders of results or files of records. Raises RecordError for a place without records, and when
    no arm and metric is in both.
    """
    ours, theirs = read(a), read(b)
    rows = [
        (*group, arm, measures.title(metric), *_cells(first[arm], second[arm], metric))
        for group, first, second in _shared(ours, theirs)
        for arm in first
        if arm in second
        for metric in metrics or _metrics(first[arm], second[arm])
        if _held(first[arm], metric) and _held(second[arm], metric)
    ]
    if not rows:
        raise RecordError(f"{a} and {b} share no arm with {' or '.join(metrics) or 'a metric'}; compare other results.")
    columns = ("paper", "scale", "arm", "metric", "A", "B", "B - A", "p")
    return Table(f"A = {a}, B = {b}: mean [95 % interval] over seeds", columns, tuple(rows))


def read(place: Path) -> dict[Group, Runs]:
    """(paper, scale) -> finished runs of every file of records at or below `place`; RecordError without any."""
    files = sorted(place.rglob("records.jsonl")) if place.is_dir() else [place]
    records = [record for file in files for record in store.records(file) if record["status"] == "done"]
    if not records:
        raise RecordError(f"{place} holds no finished records; name a folder of results or a file of records.")
    key = itemgetter("paper", "scale")
    return {group: measures.by_arm(members) for group, members in groupby(sorted(records, key=key), key)}


def _shared(a: Mapping[Group, Runs], b: Mapping[Group, Runs]) -> Iterator[tuple[Group, Runs, Runs]]:
    return ((group, a[group], b[group]) for group in a if group in b)


def _metrics(a: Mapping[int, Record], b: Mapping[int, Record]) -> list[str]:
    names = dict.fromkeys(name for seeds in (a, b) for record in seeds.values() for name in record["metrics"])
    return [*names, *COSTS]


def _held(seeds: Mapping[int, Record], metric: str) -> bool:
    try:
        return bool(measures.values(seeds, metric))
    except RecordError:
        return False


def _cells(a: Mapping[int, Record], b: Mapping[int, Record], metric: str) -> tuple[str, str, str, str]:
    first, second = measures.values(a, metric), measures.values(b, metric)
    own, gap = measures.unit(metric), measures.unit(metric, difference=True)
    shown = [f"{stats.measured(stats.interval(v), len(v), own.name, own.digits)}, n={len(v)}" for v in (first, second)]
    change = stats.interval(second).mean - stats.interval(first).mean
    p = stats.welch(first, second)
    return *shown, stats.measured(stats.interval([change]), 1, gap.name, gap.digits), _probability(p)


def _probability(p: float) -> str:
    return NOT_AVAILABLE if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"
