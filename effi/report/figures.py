"""Figures of metrics and histories: the question as title, units on axes, labels at the data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from effi.claims import measures, stats
from effi.claims.measures import Record, Runs
from effi.claims.stats import STATES, Interval, State
from effi.errors import ParameterError
from effi.report.arms import select, short
from effi.report.canvas import SIZE, band, bounds, colour_of, label, label_ends, whiskers
from effi.report.tables import STATE_COLOURS, STATE_MARKS

# How up to three metrics of one arm differ: line and opacity of a curve and a bar.
_LINES = ("-", "--", ":")
_ALPHAS = (0.9, 0.45, 0.25)


def _few(metrics: Sequence[str]) -> None:
    if not 1 <= len(metrics) <= len(_LINES):
        raise ParameterError(f"A figure shows one to three metrics, not {len(metrics)}: draw several figures.")


def _drawn(records: Iterable[Record], metrics: Sequence[str], arms: Sequence[str] | None) -> Runs:
    """Runs to draw. Raises ParameterError when none holds the metrics or a listed arm has not finished."""
    _few(metrics)
    runs = select(records, metrics, arms)
    if not runs:
        raise ParameterError(f"No finished arm holds {' and '.join(metrics)}: nothing to draw.")
    return runs


def _spans(runs: Runs, metric: str) -> dict[str, Interval]:
    return {arm: stats.interval(measures.values(seeds, metric)) for arm, seeds in runs.items()}


def bars_with_intervals(
    records: Iterable[Record], metrics: Sequence[str], *, title: str, arms: Sequence[str] | None = None
) -> Figure:
    """A bar per arm and metric with its 95 % interval, value and every seed; up to three metrics of one unit."""
    runs = _drawn(records, metrics, arms)
    figure, axes = plt.subplots(figsize=(SIZE[0], 0.9 + 0.27 * len(runs) * len(metrics)))
    height = 0.84 / len(metrics)
    for (row, (arm, seeds)), (place, metric) in itertools.product(enumerate(runs.items()), enumerate(metrics)):
        values = measures.values(seeds, metric)
        span, y = stats.interval(values), row + (place - (len(metrics) - 1) / 2) * height
        axes.barh(y, span.mean, height * 0.92, color=colour_of(arm), alpha=_ALPHAS[place])
        low, high = whiskers(span, bounds(metric))
        axes.errorbar(span.mean, y, xerr=[[span.mean - low], [high - span.mean]], color="black", lw=1, capsize=2)
        axes.plot(values, [y] * len(values), "o", color="black", ms=2.5, mfc="white", mew=0.6)
        text = stats.number(span.mean, measures.unit(metric).digits)
        name = f"{metric.replace('_', ' ')} " if len(metrics) > 1 else ""
        right = max(high, *values)
        axes.annotate(f"{name}{text}", (right, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.set_yticks(range(len(runs)), short(runs).values())
    axes.margins(x=0.22, y=0.3 / len(runs))
    axes.invert_yaxis()
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]) if axes.dataLim.x0 < 0 else 0.0)
    axes.set(xlabel=", ".join(map(measures.title, metrics)), title=title)
    axes.grid(axis="y", visible=False)
    return figure


def _frontier(points: Sequence[tuple[float, float]], lower: bool) -> list[tuple[float, float]]:
    """Points that no other beats: from the smallest x on, each better in y than all before."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda p: (p[0], p[1] if lower else -p[1])):
        if not kept or (y < kept[-1][1] if lower else y > kept[-1][1]):
            kept.append((x, y))
    return kept


def pareto(
    records: Iterable[Record],
    x: str,
    y: str,
    *,
    title: str,
    arms: Sequence[str] | None = None,
    references: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Score against cost (logarithmic) with 95 % intervals and the line of arms that no other beats.

    `references` are points of other sources, name -> (x, y) in shown units, drawn hollow and off the line.
    """
    runs = _drawn(records, (x, y), arms)
    xs, ys = _spans(runs, x), _spans(runs, y)
    figure, axes = plt.subplots()
    drawn = {arm: whiskers(span, bounds(y)) for arm, span in ys.items()}
    for arm, (low, high) in drawn.items():
        reach = [[ys[arm].mean - low], [high - ys[arm].mean]]
        axes.errorbar(xs[arm].mean, ys[arm].mean, yerr=reach, fmt="o", color=colour_of(arm), capsize=2)
    others = dict(references or {})
    for spot in others.values():
        axes.plot(*spot, "D", mfc="none", color="#666666", ms=5)
    line = _frontier([(xs[arm].mean, ys[arm].mean) for arm in runs], measures.lower_is_better(y))
    axes.plot(*zip(*line, strict=True), color="#BBBBBB", lw=1, zorder=0)
    axes.set(xscale="log", xlabel=f"{measures.title(x)}, logarithmic", ylabel=measures.title(y), title=title)
    axes.margins(0.14)
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    names = short(runs)
    points = [(xs[arm].mean, ys[arm].mean, names[arm], colour_of(arm)) for arm in runs]
    points += [(*spot, name, "#666666") for name, spot in others.items()]
    lines = [((xs[arm].mean, low), (xs[arm].mean, high)) for arm, (low, high) in drawn.items()]
    label(axes, points, [(x, y) for x, y, _, _ in points], [*lines, *itertools.pairwise(line)])
    return figure


def scatter(records: Iterable[Record], x: str, y: str, *, title: str, arms: Sequence[str] | None = None) -> Figure:
    """Every seed of every arm, with the arm's name at its mean."""
    runs = _drawn(records, (x, y), arms)
    figure, axes = plt.subplots()
    for arm, seeds in runs.items():
        axes.plot(measures.values(seeds, x), measures.values(seeds, y), "o", color=colour_of(arm), ms=4, alpha=0.8)
    axes.set(xlabel=measures.title(x), ylabel=measures.title(y), title=title)
    axes.margins(0.14)
    xs, ys, names = _spans(runs, x), _spans(runs, y), short(runs)
    marks = [p for s in runs.values() for p in zip(measures.values(s, x), measures.values(s, y), strict=True)]
    label(axes, [(xs[arm].mean, ys[arm].mean, names[arm], colour_of(arm)) for arm in runs], marks)
    return figure


def curves(
    records: Iterable[Record], metrics: Sequence[str], *, title: str, arms: Sequence[str] | None = None
) -> Figure:
    """Histories over epochs, mean and 95 % interval over seeds; named at their right end, up to three metrics.

    Raises ParameterError when no arm has a history of the metrics.
    """
    _few(metrics)
    found, wanted = select(records, (), arms), set(metrics)
    runs = {arm: s for arm, s in found.items() if all(wanted <= set(r["history"]) for r in s.values())}
    if not runs:
        raise ParameterError(f"No arm has a history of {', '.join(metrics)}: record one while training.")
    figure, axes = plt.subplots()
    names, ends = short(runs), []
    for (arm, seeds), (place, metric) in itertools.product(runs.items(), enumerate(metrics)):
        mean = _curve(axes, seeds, metric, colour_of(arm), _LINES[place])
        text = names[arm] + (f", {metric.replace('_', ' ')}" if len(metrics) > 1 else "")
        ends.append((len(mean), mean[-1], text, colour_of(arm)))
    axes.set(xlabel="epoch", ylabel=", ".join(map(measures.title, metrics)), title=title)
    label_ends(axes, ends)
    return figure


def _curve(axes: Axes, seeds: Mapping[int, Record], metric: str, colour: str, line: str) -> list[float]:
    """Draw one arm's mean with its band, and give the mean."""
    histories = [record["history"][metric] for record in seeds.values()]
    length, factor = min(map(len, histories)), measures.unit(metric).factor
    samples = [[factor * h[epoch] for h in histories] for epoch in range(length)]
    return band(axes, range(1, length + 1), samples, colour, line, within=bounds(metric))


def verdict_bars(counts: Mapping[str, Mapping[State, int]], *, title: str) -> Figure:
    """A bar per paper of how many claims are reproduced, not reproduced and inconclusive, counted in words."""
    figure, axes = plt.subplots(figsize=(SIZE[0], 0.9 + 0.45 * len(counts)))
    for row, found in enumerate(counts.values()):
        left = 0
        for state in filter(found.get, STATES):
            axes.barh(row, found[state], 0.7, left, color=STATE_COLOURS[state], edgecolor="white")
            axes.text(left + found[state] / 2, row, found[state], ha="center", va="center", color="white")
            left += found[state]
        words = "   ".join(f"{STATE_MARKS[state]} {found[state]} {state}" for state in STATES)
        axes.annotate(words, (left, row), (6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(counts)), counts.keys())
    axes.invert_yaxis()
    most = max((sum(found.values()) for found in counts.values()), default=1)
    axes.set(xlabel="number of claims", title=title, xlim=(0, 1.85 * most), xticks=[])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    return figure
