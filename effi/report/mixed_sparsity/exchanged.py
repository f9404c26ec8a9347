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
    """Each arm's change of a loss in % of that of the arm `beside` it at the same seed: every seed, mean and interval.

    Shaded is what counts as no change. RecordError when no arm shares a finished seed with it.
    """
    found = {arm: values for arm in arms if arm != beside and (values := changes(results, arm, beside, metric))}
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
    name = results.label(beside)
    axes.set_xlabel(f"{measures.words(metric)}, change beside {name} at the same seed (%); shaded: within {margin:g} %")
    return question(figure, title)


def changes(results: Results, arm: str, beside: str, metric: str) -> list[float]:
    """Of the seeds that both arms have, the change of a metric in %."""
    own, others = results.seeds(arm), results.seeds(beside)
    pairs = [(own[seed]["metrics"], others[seed]["metrics"]) for seed in own if seed in others]
    return [100 * (one[metric] / other[metric] - 1) for one, other in pairs if metric in one and metric in other]


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
