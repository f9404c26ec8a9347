"""What the FLOPs of a training consist of, by phase and part of the model, and by how they are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effi.claims import Results, measures, stats
from effi.errors import RecordError
from effi.mixed_sparsity.flops import CONVENTIONS, Convention
from effi.report.canvas import SIZE, question, whiskers
from effi.report.mixed_sparsity.losses import COUNTED
from effi.report.tables import Table

PARTS = {"linears": "#0072B2", "head": "#56B4E9", "attention": "#E69F00", "dense gradients": "#D55E00"}
CLAIMED = 0.25  # of dense training's FLOPs, where three quarters are saved


def ledger_bars(
    results: Results, arms: Sequence[str], *, title: str, conventions: Sequence[Convention] = CONVENTIONS
) -> Figure:
    """FLOPs of each arm by part of the model, stacked, as shares of dense training's; a panel per way of counting.

    Means over seeds; the whole is written at its end, with its 95 % interval as a whisker. Dashed is a quarter.
    RecordError when no arm has FLOP ratios.
    """
    chosen = results.where(arms=arms).holding(*(f"flops_ratio/{each}" for each in conventions))
    size = (SIZE[0], 1.5 + 0.28 * len(chosen.arms))
    figure, grid = plt.subplots(1, len(conventions), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, convention in zip(grid[0], conventions, strict=True):
        for row, arm in enumerate(chosen.arms):
            _stack(axes, row, chosen, arm, convention)
        axes.axvline(CLAIMED, color="black", ls="--", lw=1)
        axes.set(xlabel=f"FLOPs on paper, of dense training's\n({COUNTED[convention]})")
        axes.margins(x=0.15)
        axes.grid(axis="y", visible=False)
    grid[0, 0].set_yticks(range(len(chosen.arms)), chosen.labels().values())
    grid[0, 0].invert_yaxis()
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS), fontsize=8)
    return question(figure, title)


def _stack(axes: Axes, row: int, results: Results, arm: str, convention: Convention) -> None:
    found, left = _ledger(results, arm, convention), 0.0
    for part, colour in PARTS.items():
        width = sum(share for (_, own), share in found.items() if own == part)
        axes.barh(row, width, 0.7, left, color=colour, label=part if row == 0 else None)
        left += width
    metric = f"flops_ratio/{convention}"
    span = stats.interval(results.values(arm, metric))
    low, high = whiskers(span, measures.bounds(metric))
    axes.errorbar(span.mean, row, xerr=[[span.mean - low], [high - span.mean]], color="black", lw=1, capsize=2)
    # The ground keeps the line of a quarter out of a value beside it.
    ground = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 0.6}
    style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7.5, "bbox": ground}
    axes.annotate(stats.number(span.mean, 3), (high, row), (4, 0), **style)


def ledger_table(results: Results, arm: str) -> Table:
    """FLOPs by phase and part in % of dense training's, counted both ways, mean over seeds. RecordError without."""
    square, causal = (_ledger(results, arm, convention) for convention in CONVENTIONS)
    rows = [(*place, _percent(square[place]), _percent(causal[place])) for place in square]
    rows.append(("all", "all", _percent(sum(square.values())), _percent(sum(causal.values()))))
    note = "They are saved on paper: products with masked matrices take as long as with whole ones."
    columns = ("phase", "part", *(COUNTED[each] for each in CONVENTIONS))
    return Table(f"FLOPs of {arm} in % of dense training's", columns, tuple(rows), (note,))


def _ledger(results: Results, arm: str, convention: Convention) -> dict[tuple[str, str], float]:
    """Phase and part -> share of dense training's FLOPs, mean over seeds."""
    begin = f"ledger/{convention}/"
    names = [name for name in next(iter(results.seeds(arm).values()))["metrics"] if name.startswith(begin)]
    if not names:
        raise RecordError(f"{arm} holds no {begin}PHASE/PART: record what `outcome` says of its FLOPs.")
    means = {name: stats.interval(results.values(arm, name)).mean for name in names}
    places = (name.removeprefix(begin).replace("_", " ").partition("/") for name in names)
    return {(phase, part): mean for (phase, _, part), mean in zip(places, means.values(), strict=True)}


def _percent(share: float) -> str:
    return stats.number(100 * share, 2)
