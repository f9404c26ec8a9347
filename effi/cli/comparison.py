"""Two sets of records side by side: every arm and metric that both hold, with Welch's p of equal means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from effi.claims import Results, measures, stats
from effi.claims.papers import NOT_AVAILABLE
from effi.claims.results import holds
from effi.errors import RecordError
from effi.records import names, store
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
        (*group, arm, measures.title(metric), *_cells(*both, metric))
        for group in ours
        if group in theirs
        for arm in ours[group].arms
        if arm in theirs[group]
        for both in [(ours[group].where(arms=[arm]), theirs[group].where(arms=[arm]))]
        for metric in metrics or _metrics(*both)
        if all(holds(record, metric) for results in both for record in results.records)
    ]
    if not rows:
        known = {name for group in ours.keys() & theirs.keys() for name in _metrics(ours[group], theirs[group])}
        close = [each for metric in metrics if metric not in known for each in get_close_matches(metric, known, 1)]
        mend = f"did you mean {' and '.join(close)}?" if close else "compare other results."
        raise RecordError(f"{a} and {b} share no arm with {' or '.join(metrics) or 'a metric'}; {mend}")
    columns = ("paper", "scale", "arm", "metric", "A", "B", "B - A", "p")
    return Table(f"A = {a}, B = {b}: mean [95 % interval] over seeds", columns, tuple(rows))


def read(place: Path) -> dict[Group, Results]:
    """(paper, scale) -> results of every file of records at or below `place`; RecordError without any.

    Records of older versions, without checksums and names in fields, are compared, too: that is how a change is judged.
    """
    found = [record for record in store.below(place) if record["status"] == "done"]
    records = [{**names.fields(record["arm"]), **record} for record in found]
    if not records:
        raise RecordError(f"{place} holds no finished records; name a folder of results or a file of records.")
    key = itemgetter("paper", "scale")
    return {group: Results(members) for group, members in groupby(sorted(records, key=key), key)}


def _metrics(a: Results, b: Results) -> list[str]:
    return [
        *dict.fromkeys(name for results in (a, b) for record in results.records for name in record["metrics"]),
        *COSTS,
    ]


def _cells(a: Results, b: Results, metric: str) -> tuple[str, str, str, str]:
    """Both sides of the one arm that each holds, their difference, and p."""
    first, second = (results.values(results.arms[0], metric) for results in (a, b))
    own, gap = measures.unit(metric), measures.unit(metric, difference=True)
    spans = [measures.interval(values, metric) for values in (first, second)]
    one, other = (
        f"{stats.measured(span, len(values), own.name, own.digits)}, n={len(values)}"
        for span, values in zip(spans, (first, second), strict=True)
    )
    change = spans[1].mean - spans[0].mean
    difference = f"{stats.number(change, gap.digits)} {gap.name}".strip()
    return one, other, difference, _probability(stats.welch(first, second))


def _probability(p: float) -> str:
    return NOT_AVAILABLE if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"
