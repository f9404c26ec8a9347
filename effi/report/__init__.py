"""Tables and figures, always drawn from records."""

from effi.report.figures import (
    bars_with_intervals,
    colour_of,
    curves,
    pareto,
    save_figure,
    scatter,
    style,
    verdict_bars,
)
from effi.report.summaries import arms_table, claims_table, cost_table, derive, source_tables, tests_table
from effi.report.tables import Table, save_tables

__all__ = [
    "Table",
    "arms_table",
    "bars_with_intervals",
    "claims_table",
    "colour_of",
    "cost_table",
    "curves",
    "derive",
    "pareto",
    "save_figure",
    "save_tables",
    "scatter",
    "source_tables",
    "style",
    "tests_table",
    "verdict_bars",
]
