"""The honest table: FLOPs on paper, FLOPs that were made, and the seconds that they took."""

from __future__ import annotations

from effi.claims import Results, stats, uncertainty
from effi.claims.papers import NOT_AVAILABLE
from effi.mixed_sparsity.flops import Convention
from effi.report.costs import cost_table
from effi.report.mixed_sparsity.losses import COUNTED
from effi.report.tables import Table

# Columns of the cost table, as far as it has them, and what they are called beside FLOPs on paper.
MADE = {
    "training FLOPs": "FLOPs that the machine made",
    "seconds": "seconds",
    "time, of steps alone": "time, of steps alone",
}


def seconds_table(results: Results, *, baseline: str, convention: Convention = "causal", timing: str = "") -> Table:
    """Of each arm FLOPs on paper, executed FLOPs and seconds in % of the baseline's; that one in absolute numbers.

    On paper in % of the reference that the arm's ratio is of. `timing` and errors as of `cost_table`.
    """
    whole = cost_table(results, baseline=baseline, price=0.0, metric="test_loss", timing=timing)
    columns = [(place, MADE[name]) for place, name in enumerate(whole.columns) if name in MADE]
    rows = (
        (row[0], _on_paper(results, row[0], convention), *(row[place] for place, _ in columns)) for row in whole.rows
    )
    names = ("arm", f"FLOPs on paper ({COUNTED[convention]})", *(name for _, name in columns))
    title = f"Spent on paper, and by the clock, in % of {baseline}: geometric mean [95 % interval] over seeds"
    note = "On paper only weights that live count; products with masked matrices make all FLOPs, and save no time."
    return Table(title, names, tuple(rows), (note, *whole.notes))


def _on_paper(results: Results, arm: str, convention: Convention) -> str:
    metric = f"flops_ratio/{convention}"
    if not results.holds(arm, metric):
        return NOT_AVAILABLE
    values = [100 * ratio for ratio in results.values(arm, metric)]
    return stats.measured(uncertainty.positive(values), len(values), "%", 1)
