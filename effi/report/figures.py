"""Figures of metrics and histories: the question as title, units on axes, labels at the data."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Sized

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from effi.claims import HERE, Here, Results, Tally, measures, stats
from effi.claims.measures import bounds
from effi.claims.results import holds
from effi.claims.stats import Interval
from effi.errors import ParameterError, RecordError
from effi.report.canvas import SIZE, band, bar, colour_of, dots, label, label_ends, whiskers
from effi.report.tables import COLOURS, MARKS

# How up to three metrics of one arm differ: line and opacity of a curve and a bar.
_LINES = ("-", "--", ":")
_ALPHAS = (0.9, 0.45, 0.25)


def _few(metrics: Sized) -> None:
    if not 1 <= len(metrics) <= len(_LINES):
        raise ParameterError(f"A figure shows one to three metrics, not {len(metrics)}: draw several figures.")


def _spans(results: Results, metric: str) -> dict[str, Interval]:
    return {arm: stats.interval(results.values(arm, metric)) for arm in results.arms}


def _colour(results: Results, arm: str) -> str:
    return colour_of(results.label(arm))


def bars_with_intervals(
    results: Results,
    metrics: Sequence[str] | Mapping[str, str],
    *,
    title: str,
    arms: Sequence[str] | None = None,
    xlabel: str | None = None,
) -> Figure:
    """A bar per arm and metric with its 95 % interval, value and every seed; up to three metrics of one unit.

    A mapping gives each metric the word beside its bar. Raises RecordError when no arm holds the metrics.
    """
    _few(metrics)
    chosen = results.where(arms=arms).holding(*metrics)
    named = metrics if isinstance(metrics, Mapping) else {metric: measures.words(metric) for metric in metrics}
    figure, axes = plt.subplots(figsize=(SIZE[0], 0.9 + 0.27 * len(chosen.arms) * len(metrics)))
    height = 0.84 / len(metrics)
    for (row, arm), (place, (metric, word)) in itertools.product(enumerate(chosen.arms), enumerate(named.items())):
        y = row + (place - (len(metrics) - 1) / 2) * height
        values, colour = chosen.values(arm, metric), _colour(chosen, arm)
        text = _worth(values, metric, word if len(metrics) > 1 else "")
        bar(axes, y, height * 0.92, values, text, colour=colour, alpha=_ALPHAS[place], within=bounds(metric))
    axes.set_yticks(range(len(chosen.arms)), chosen.labels().values())
    axes.margins(x=0.22, y=0.3 / len(chosen.arms))
    axes.invert_yaxis()
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]) if axes.dataLim.x0 < 0 else 0.0)
    axes.set(xlabel=xlabel or ", ".join(map(measures.title, metrics)), title=title)
    axes.grid(axis="y", visible=False)
    return figure


def changes(results: Results, metric: str, reference: str, *, title: str, arms: Sequence[str]) -> Figure:
    """What each arm changes beside a reference arm, at the seeds that both have: mean, 95 % interval, every seed.

    RecordError where none of the arms shares a seed with the reference at which both hold the metric.
    """
    found = {arm: _beside(results, metric, arm, reference) for arm in results.where(arms=arms).arms if arm != reference}
    told = {arm: values for arm, values in found.items() if values}
    if not told:
        raise RecordError(f"No arm shares a seed with {reference} at which both hold {metric!r}: run them there.")
    figure, axes = plt.subplots(figsize=(SIZE[0], 0.9 + 0.27 * len(told)))
    shown = measures.unit(metric, difference=True)
    for row, (arm, values) in enumerate(told.items()):
        text = f"{stats.number(stats.interval(values).mean, shown.digits)} (n={len(values)})"
        dots(axes, row, values, text, colour=_colour(results, arm))
    axes.axvline(0, color="#666666", lw=1)
    axes.set_yticks(range(len(told)), [results.label(arm) for arm in told])
    axes.margins(x=0.22, y=0.3 / len(told))
    axes.invert_yaxis()
    unit = f" ({shown.name})" if shown.name else ""
    axes.set(xlabel=f"{measures.words(metric)}, change beside {results.label(reference)}{unit}", title=title)
    axes.grid(axis="y", visible=False)
    return figure


def _beside(results: Results, metric: str, arm: str, reference: str) -> list[float]:
    """Differences at common seeds, in the shown unit."""
    ours, theirs, factor = results.seeds(arm), results.seeds(reference), measures.unit(metric).factor
    common = [seed for seed in ours if seed in theirs and holds(ours[seed], metric) and holds(theirs[seed], metric)]
    return [factor * (measures.value(ours[s], metric) - measures.value(theirs[s], metric)) for s in common]


def _worth(values: Sequence[float], metric: str, word: str) -> str:
    """The mean behind the word that tells metrics apart."""
    return f"{word} {stats.number(stats.interval(values).mean, measures.unit(metric).digits)}".strip()


def _short_number(value: float, place: float) -> str:
    """Thousands as k, millions as M; below, the plain number: "250m" seconds would be read as minutes."""
    return EngFormatter(sep="")(value) if value >= 1000 else f"{value:g}"


def _frontier(points: Sequence[tuple[float, float]], lower: bool) -> list[tuple[float, float]]:
    """Points that no other beats: from the smallest x on, each better in y than all before."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda p: (p[0], p[1] if lower else -p[1])):
        if not kept or (y < kept[-1][1] if lower else y > kept[-1][1]):
            kept.append((x, y))
    return kept


def pareto(
    results: Results,
    x: str,
    y: str,
    *,
    title: str,
    arms: Sequence[str] | None = None,
    xlabel: str | None = None,
    references: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Score against cost (logarithmic) with 95 % intervals and the line of arms that no other beats.

    `xlabel` names the cost where the metric's own words do not say enough. `references` are points of other sources,
    name -> (x, y) in shown units, drawn hollow and off the line. Raises RecordError when no arm holds both, and for
    seconds that trainings on one machine took from each other.
    """
    chosen = results.where(arms=arms).holding(x, y)
    if measures.timed(x) and any(record["cost"].get("side_by_side", 1) > 1 for record in chosen.records):
        raise RecordError(f"Trainings shared the machine, so that their {x} says nothing: time them one at a time.")
    xs, ys = _spans(chosen, x), _spans(chosen, y)
    figure, axes = plt.subplots()
    drawn = {arm: whiskers(span, bounds(y)) for arm, span in ys.items()}
    for arm, (low, high) in drawn.items():
        reach = [[ys[arm].mean - low], [high - ys[arm].mean]]
        axes.errorbar(xs[arm].mean, ys[arm].mean, yerr=reach, fmt="o", color=_colour(chosen, arm), capsize=2)
    others = dict(references or {})
    for spot in others.values():
        axes.plot(*spot, "D", mfc="none", color="#666666", ms=5)
    line = _frontier([(xs[arm].mean, ys[arm].mean) for arm in chosen.arms], measures.lower_is_better(y))
    axes.plot(*zip(*line, strict=True), color="#BBBBBB", lw=1, zorder=0)
    axes.set(xscale="log", xlabel=f"{xlabel or measures.title(x)}, logarithmic", ylabel=measures.title(y), title=title)
    axes.margins(0.14)
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter(_short_number)
    points = [(xs[arm].mean, ys[arm].mean, name, _colour(chosen, arm)) for arm, name in chosen.labels().items()]
    points += [(*spot, name, "#666666") for name, spot in others.items()]
    lines = [((xs[arm].mean, low), (xs[arm].mean, high)) for arm, (low, high) in drawn.items()]
    label(axes, points, [(x, y) for x, y, _, _ in points], [*lines, *itertools.pairwise(line)])
    return figure


def scatter(results: Results, x: str, y: str, *, title: str, arms: Sequence[str] | None = None) -> Figure:
    """Every seed of every arm, with the arm's name at its mean. Raises RecordError when no arm holds both."""
    chosen = results.where(arms=arms).holding(x, y)
    figure, axes = plt.subplots()
    seeds = {arm: list(zip(chosen.values(arm, x), chosen.values(arm, y), strict=True)) for arm in chosen.arms}
    for arm, own in seeds.items():
        axes.plot(*zip(*own, strict=True), "o", color=_colour(chosen, arm), ms=4, alpha=0.8)
    axes.set(xlabel=measures.title(x), ylabel=measures.title(y), title=title)
    axes.margins(0.14)
    xs, ys = _spans(chosen, x), _spans(chosen, y)
    points = [(xs[arm].mean, ys[arm].mean, name, _colour(chosen, arm)) for arm, name in chosen.labels().items()]
    label(axes, points, list(itertools.chain.from_iterable(seeds.values())))
    return figure


def curves(results: Results, metrics: Sequence[str], *, title: str, arms: Sequence[str] | None = None) -> Figure:
    """Histories over epochs, mean and 95 % interval over seeds; named at their right end, up to three metrics.

    Raises RecordError when no arm has a history of the metrics.
    """
    _few(metrics)
    chosen = results.where(arms=arms).remembering(*metrics)
    figure, axes = plt.subplots()
    names, ends = chosen.labels(), []
    for arm, (place, metric) in itertools.product(chosen.arms, enumerate(metrics)):
        factor, colour = measures.unit(metric).factor, _colour(chosen, arm)
        samples = [[factor * value for value in values] for values in zip(*chosen.history(arm, metric), strict=True)]
        means = band(axes, range(1, len(samples) + 1), samples, colour, _LINES[place], within=bounds(metric))
        text = names[arm] + (f", {measures.words(metric)}" if len(metrics) > 1 else "")
        ends.append((len(means), means[-1], text, colour))
    axes.set(xlabel="epoch", ylabel=", ".join(map(measures.title, metrics)), title=title)
    label_ends(axes, ends)
    return figure


def verdict_bars(counts: Mapping[str, Mapping[Tally, int]], *, title: str) -> Figure:
    """A bar per row of how many claims are for, against, open or not run; hatched short of the paper's protocol."""
    figure, axes = plt.subplots(figsize=(SIZE[0], 1.2 + 0.42 * len(counts)))
    most = max((sum(found.values()) for found in counts.values()), default=1)
    for row, found in enumerate(counts.values()):
        left = 0
        for here, reached in itertools.product(HERE, (True, False)):
            number = sum(count for each, count in found.items() if (each.here, each.reached) == (here, reached))
            if number:
                _claims_bar(axes, row, left, number, here, hatched=not reached)
            left += number
        said = (f"{MARKS[here]} {sum(n for each, n in found.items() if each.here == here)} {here}" for here in HERE)
        axes.annotate("   ".join(said), (left, row), (6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(counts)), counts.keys())
    axes.invert_yaxis()
    words = "number of claims\nsolid: the paper's own protocol is reached; hatched: it is not"
    axes.set(xlabel=words, title=title, xlim=(0, 2.3 * most), xticks=[])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    return figure


def _claims_bar(axes: Axes, row: int, left: int, number: int, here: Here, *, hatched: bool) -> None:
    """A part of a bar with its number, on white where it is hatched."""
    colour, ground = COLOURS[here], "white" if hatched else COLOURS[here]
    axes.barh(row, number, 0.7, left, facecolor=ground, edgecolor=colour, hatch="///" if hatched else None)
    behind = {"facecolor": ground, "edgecolor": "none", "pad": 1}
    ink = colour if hatched else "white"
    axes.text(left + number / 2, row, str(number), ha="center", va="center", color=ink, bbox=behind)
