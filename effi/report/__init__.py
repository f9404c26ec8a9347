"""Tables and figures, always drawn from records."""

from effi.report.arms import arms_table
from effi.report.checks import check
from effi.report.costs import advice, cost_table, matched_table
from effi.report.derived import derive, source_tables
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
from effi.report.headline import headline
from effi.report.judgements import claims_table, evidence_table
from effi.report.parts import stacked_parts
from effi.report.tables import Table, save_tables

__all__ = [
    "Table",
    "advice",
    "arms_table",
    "bars_with_intervals",
    "check",
    "claims_table",
    "colour_of",
    "cost_table",
    "curves",
    "derive",
    "evidence_table",
    "headline",
    "matched_table",
    "pareto",
    "save_figure",
    "save_tables",
    "scatter",
    "source_tables",
    "stacked_parts",
    "style",
    "verdict_bars",
]
