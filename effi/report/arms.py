"""Which arms a table or figure shows, and the plain table of their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from effi.claims import measures, stats
from effi.claims.measures import Record, Runs
from effi.claims.papers import NOT_AVAILABLE
from effi.errors import ParameterError, RecordError
from effi.report.tables import Table


def select(records: Iterable[Record], metrics: Sequence[str], arms: Sequence[str] | None = None) -> Runs:
    """Finished runs of the listed arms in that order, or of all arms that hold the metrics at every seed.

    Raises ParameterError for a listed arm without a finished record.
    """
    runs = measures.by_arm(records)
    if arms is None:
        return {arm: s for arm, s in runs.items() if all(_holds(r, m) for r in s.values() for m in metrics)}
    for arm in arms:
        if arm not in runs:
            raise ParameterError(f"Unknown arm {arm!r}: finished ones are {', '.join(runs) or 'none'}.")
    return {arm: runs[arm] for arm in arms}


def _holds(record: Record, metric: str) -> bool:
    try:
        measures.value(record, metric)
    except RecordError:
        return False
    return True


def short(arms: Iterable[str]) -> dict[str, str]:
    """Labels: the variant alone when all arms are of one data set."""
    listed = list(arms)
    same = len({measures.dataset(arm) for arm in listed}) == 1
    return {arm: measures.variant(arm) if same else arm for arm in listed}


def shown(values: Sequence[float], unit: str = "", digits: int = 3) -> str:
    """Mean, unit and 95 % interval of the values as text."""
    return stats.measured(stats.interval(values), len(values), unit, digits)


def _cell(seeds: Mapping[int, Record], metric: str) -> str:
    try:
        return shown(measures.values(seeds, metric), digits=measures.unit(metric).digits)
    except RecordError:
        return NOT_AVAILABLE


def arms_table(records: Iterable[Record], metrics: Sequence[str], arms: Sequence[str] | None = None) -> Table:
    """Mean and 95 % interval of metrics, a row per arm (of all that hold the first metric, unless listed).

    Raises ParameterError for a listed arm without a finished record.
    """
    runs = select(records, metrics[:1], arms)
    rows = ((arm, str(len(runs[arm])), *(_cell(runs[arm], metric) for metric in metrics)) for arm in runs)
    columns = ("arm", "n", *map(measures.title, metrics))
    return Table("Every arm: mean [95 % interval] over seeds", columns, tuple(rows))
