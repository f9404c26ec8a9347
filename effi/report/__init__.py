"""Tables and figures, always drawn from records."""

from effi.report.arms import arms_table
from effi.report.canvas import colour_of, save_figure, style
from effi.report.checks import check
from effi.report.costs import advice, cost_table, matched_table
from effi.report.derived import derive, source_tables
from effi.report.figures import bars_with_intervals, curves, pareto, scatter, verdict_bars
from effi.report.headline import headline
from effi.report.judgements import claims_table, evidence_table
from effi.report.parts import stacked_parts
from effi.report.phases import cost_bars
from effi.report.recommendation import recommendation
from effi.report.series import lines
from effi.report.tables import Table, save_tables
from effi.report.tickets import distance_curves, heat_maps, layer_bars, stability_curves, survival

__all__ = [
    "Table",
    "advice",
    "arms_table",
    "bars_with_intervals",
    "check",
    "claims_table",
    "colour_of",
    "cost_bars",
    "cost_table",
    "curves",
    "derive",
    "distance_curves",
    "evidence_table",
    "headline",
    "heat_maps",
    "layer_bars",
    "lines",
    "matched_table",
    "pareto",
    "recommendation",
    "save_figure",
    "save_tables",
    "scatter",
    "source_tables",
    "stability_curves",
    "stacked_parts",
    "style",
    "survival",
    "verdict_bars",
]
