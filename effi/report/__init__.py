"""Tables and figures, always drawn from results; what only one paper shows is in the folder of its name."""

from effi.report import early_bird, instant_soup, ligo, minimal, mixed_sparsity
from effi.report.arms import arms_table
from effi.report.canvas import colour_of, save_figure, style
from effi.report.checks import check
from effi.report.costs import cost_table, matched_table
from effi.report.derived import derive, source_tables
from effi.report.figures import bars_with_intervals, changes, curves, pareto, scatter, verdict_bars
from effi.report.findings import findings
from effi.report.headline import headline, opening
from effi.report.judgements import claims_table, evidence_table
from effi.report.listing import source
from effi.report.page import Page
from effi.report.phases import cost_bars
from effi.report.series import lines
from effi.report.tables import Table, save_tables
from effi.report.trades import Recommendation, Trade, advice, choose, trades

__all__ = [
    "Page",
    "Recommendation",
    "Table",
    "Trade",
    "advice",
    "arms_table",
    "bars_with_intervals",
    "changes",
    "check",
    "choose",
    "claims_table",
    "colour_of",
    "cost_bars",
    "cost_table",
    "curves",
    "derive",
    "early_bird",
    "evidence_table",
    "findings",
    "headline",
    "instant_soup",
    "ligo",
    "lines",
    "matched_table",
    "minimal",
    "mixed_sparsity",
    "opening",
    "pareto",
    "save_figure",
    "save_tables",
    "scatter",
    "source",
    "source_tables",
    "style",
    "trades",
    "verdict_bars",
]
