"""What becomes of the loss when one part of the method is exchanged, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effi.claims import Results, measures, stats
from effi.errors import RecordError
from effi.report.canvas import SIZE, colour_of, question, whiskers


def exchanged(
    results: Results, arms: Sequence[str], beside: str, *, title: str, metric: str = "test_loss", margin: float = 1.0
) -> Figure:
    """Each arm's change of a loss in % of that of its group's variant `beside` at the same seed, mean and interval.

    Shaded is what counts as no change. RecordError when no arm shares a finished seed with it; else errors as of
    `Results.pairs`.
    """
    pairs = {arm: own for arm, own in results.pairs(beside).items() if arm in arms and own}
    told = {arm: [[measures.value(each, metric) for each in pair] for pair in own] for arm, own in pairs.items()}
    found = {arm: [100 * (own / other - 1) for own, other in each] for arm, each in told.items()}
    if not found:
        raise RecordError(f"No arm shares a finished seed with {beside}: run some of them.")
    figure, axes = plt.subplots(figsize=(SIZE[0], 1.3 + 0.24 * len(found)))
    axes.axvspan(-margin, margin, color="#E8E8E8", lw=0)
    axes.axvline(0, color="#333333", lw=1)
    for row, (arm, values) in enumerate(found.items()):
        _row(axes, row, values, colour_of(results.label(arm)))
    axes.set_yticks(range(len(found)), [results.label(arm) for arm in found])
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.6 / len(found))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(
        f"{measures.words(metric)}, change beside {beside} at the same seed (%); shaded: within {margin:g} %"
    )
    return question(figure, title)


def _row(axes: Axes, row: int, values: Sequence[float], colour: str) -> None:
    span = stats.interval(values)
    low, high = whiskers(span)
    axes.errorbar(
        span.mean, row, xerr=[[span.mean - low], [high - span.mean]], fmt="o", color=colour, ms=6, lw=1.6, capsize=3
    )
    axes.plot(values, [row] * len(values), "o", color="black", ms=2.5, mfc="white", mew=0.6)
    axes.annotate(
        f"{span.mean:+.1f}", (max(high, *values), row), (5, 0), textcoords="offset points", va="center", size=7.5
    )
