"""The plain table of arms and their metrics."""

from __future__ import annotations

from collections.abc import Sequence

from effi.claims import Results, measures, stats
from effi.claims.papers import NOT_AVAILABLE
from effi.errors import RecordError
from effi.report.tables import Table

# Variants that a model must beat before it has learned anything: trained beside it, with no model's cost.
SANITY = {"majority": "the majority class", "logistic": "logistic regression"}


def shown(values: Sequence[float], unit: str = "", digits: int = 3) -> str:
    """Mean, unit and 95 % interval of the values as text."""
    return stats.measured(stats.interval(values), len(values), unit, digits)


def _cell(results: Results, arm: str, metric: str) -> str:
    try:
        return shown(results.values(arm, metric), digits=measures.unit(metric).digits)
    except RecordError:
        return NOT_AVAILABLE


def arms_table(results: Results, metrics: Sequence[str], arms: Sequence[str] | None = None) -> Table:
    """Mean and 95 % interval of metrics, a row per arm (of all that hold the first metric, unless listed).

    Raises ParameterError for a listed arm that is unknown, and RecordError when no arm holds the first metric.
    """
    chosen = results.holding(metrics[0]) if arms is None else results.where(arms=arms)
    rows = ((arm, str(len(chosen.seeds(arm))), *(_cell(chosen, arm, m) for m in metrics)) for arm in chosen.arms)
    columns = ("arm", "n", *map(measures.title, metrics))
    return Table("Every arm: mean [95 % interval] over seeds", columns, tuple(rows))
