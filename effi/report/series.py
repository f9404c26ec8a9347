"""A metric over a number that arms are named by: the pruning ratio, the drawing epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from effi.claims import Results, measures, stats
from effi.claims.measures import bounds
from effi.report.canvas import PALETTE, band, colour_of, label_ends, whiskers


def lines(
    results: Results,
    series: Mapping[str, Mapping[float, str]],
    metric: str,
    *,
    xlabel: str,
    title: str,
    level: str | None = None,
    xscale: str = "linear",
) -> Figure:
    """A line per series (name -> x -> arm): mean, 95 % interval and every seed; `level` is an arm drawn across.

    Arms without finished records of the metric are left out. Raises RecordError when none is left, or when the level
    failed. `xscale` is matplotlib's ("symlog" for epochs that start at 0).
    """
    wanted = [arm for arms in series.values() for arm in arms.values()]
    found = results.where(arms=[arm for arm in wanted if arm in (*results.arms, *results.failures)]).holding(metric)
    shown = {name: {x: arm for x, arm in sorted(arms.items()) if arm in found} for name, arms in series.items()}
    figure, axes = plt.subplots()
    axes.set(xscale=xscale, xlabel=xlabel, ylabel=measures.title(metric), title=title)
    ends = []
    for (name, arms), colour in zip(shown.items(), _colours(shown, found), strict=True):
        samples = [found.values(arm, metric) for arm in arms.values()]
        if samples:
            means = _points(axes, list(arms), samples, colour, bounds(metric))
            ends.append((max(arms), means[-1], name, colour))
    _mark_x(axes, sorted({x for arms in shown.values() for x in arms}))
    if level is not None:
        values, colour = results.values(level, metric), colour_of(results.label(level))
        name = results.where(arms=[level, *found.arms]).labels()[level]
        ends.append((axes.get_xlim()[1], _across(axes, values, colour, bounds(metric)), name, colour))
    label_ends(axes, ends)
    return figure


def _colours(series: Mapping[str, Mapping[float, str]], results: Results) -> list[str]:
    """The arms' own colours where they tell the series apart, else the palette in order."""
    own = [{colour_of(results.label(arm)) for arm in arms.values()} for arms in series.values()]
    if all(len(found) <= 1 for found in own) and len(set().union(*own)) == sum(map(len, own)):
        return [found.pop() if found else PALETTE[0] for found in own]
    return [PALETTE[place % len(PALETTE)] for place in range(len(series))]


def _points(
    axes: Axes, x: Sequence[float], samples: Sequence[Sequence[float]], colour: str, within: tuple[float, float]
) -> list[float]:
    means = band(axes, x, samples, colour, "-", within=within)
    for place, values in zip(x, samples, strict=True):
        axes.plot([place] * len(values), values, "o", color=colour, ms=3, mfc="white", mew=0.7)
    return means


def _across(axes: Axes, values: Sequence[float], colour: str, within: tuple[float, float]) -> float:
    span = stats.interval(values)
    axes.axhline(span.mean, color=colour, ls="--", lw=1.2)
    axes.axhspan(*whiskers(span, within), color=colour, alpha=0.08, lw=0)
    return span.mean


def _mark_x(axes: Axes, places: Sequence[float]) -> None:
    """Ticks where arms are, as long as their numbers do not run together."""
    if len(places) <= 12:
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
