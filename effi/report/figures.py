"""Figures drawn from records, in one style: the question as title, units on axes, labels at the data."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from PIL import Image

from effi import measures, papers, stats
from effi.errors import ParameterError
from effi.measures import Record, Runs
from effi.report.summaries import select
from effi.report.tables import STATE_COLOURS
from effi.stats import STATES, Interval, State

# Okabe and Ito, without yellow (too pale for lines and text).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
SIZE = (7.2, 4.2)
DPI = 110
MOST_BYTES = 120_000
_STYLES = ("-", "--", ":")
_ALPHAS = (0.9, 0.45, 0.25)


def style() -> None:
    """Set matplotlib's defaults for every figure of the workbook."""
    plt.rcParams.update(
        {
            "figure.figsize": SIZE,
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.axisbelow": True,
            "legend.frameon": False,
        }
    )


def colour_of(arm: str) -> str:
    """Colour "#rrggbb" of an arm, the same for its variant everywhere; a variant no paper lists gets a fixed one."""
    name = measures.variant(arm)
    return papers.colours().get(name) or PALETTE[zlib.crc32(name.encode()) % len(PALETTE)]


def save_figure(figure: Figure, folder: str | Path, name: str) -> Path:
    """Write folder/name.png of fixed size, at most 120 kB (fewer colours where needed), and close the figure.

    Raises ParameterError when even 64 colours do not fit.
    """
    path = Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    if path.stat().st_size > MOST_BYTES:
        with Image.open(path) as image:
            image.convert("RGB").quantize(64).save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise ParameterError(f"{path} takes {path.stat().st_size} bytes of {MOST_BYTES}: draw fewer points.")
    return path


def _spans(runs: Runs, metric: str) -> dict[str, Interval]:
    return {arm: stats.interval(measures.values(seeds, metric)) for arm, seeds in runs.items()}


def _reach(span: Interval) -> float:
    """Half-width for an error bar; a single seed has none."""
    return span.high - span.mean if math.isfinite(span.high) else 0.0


def _short(runs: Runs) -> dict[str, str]:
    """Labels: the variant alone when all arms are of one data set."""
    same = len({measures.dataset(arm) for arm in runs}) == 1
    return {arm: measures.variant(arm) if same else arm for arm in runs}


def bars_with_intervals(
    records: Iterable[Record], metrics: Sequence[str], *, title: str, arms: Sequence[str] | None = None
) -> Figure:
    """A bar per arm and metric with its 95 % interval, value and every seed; up to three metrics of one unit."""
    runs = select(records, metrics[0], arms)
    figure, axes = plt.subplots(figsize=(SIZE[0], 0.9 + 0.27 * len(runs) * len(metrics)))
    height = 0.84 / len(metrics)
    for (row, (arm, seeds)), (place, metric) in itertools.product(enumerate(runs.items()), enumerate(metrics)):
        values = measures.values(seeds, metric)
        span, y = stats.interval(values), row + (place - (len(metrics) - 1) / 2) * height
        axes.barh(y, span.mean, height * 0.92, color=colour_of(arm), alpha=_ALPHAS[place])
        axes.errorbar(span.mean, y, xerr=_reach(span), color="black", lw=1, capsize=2)
        axes.plot(values, [y] * len(values), "o", color="black", ms=2.5, mfc="white", mew=0.6)
        text = stats.number(span.mean, measures.unit(metric).digits)
        name = f"{metric.replace('_', ' ')} " if len(metrics) > 1 else ""
        right = max(span.mean + _reach(span), *values)
        axes.annotate(f"{name}{text}", (right, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.set_yticks(range(len(runs)), _short(runs).values())
    axes.invert_yaxis()
    axes.margins(x=0.22)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]) if axes.dataLim.x0 < 0 else 0.0)
    axes.set(xlabel=", ".join(map(measures.title, metrics)), title=title)
    axes.grid(axis="y", visible=False)
    return figure


# Offsets in points at which a direct label may stand, nearest first.
_SPOTS = [
    (radius * math.cos(angle), radius * math.sin(angle))
    for radius in (8, 16, 26, 38, 52)
    for angle in np.deg2rad([0, 180, 35, -35, 145, -145, 90, -90])
]


def _overlap(box: Bbox, other: Bbox) -> float:
    """Shared area in square pixels; a thin obstacle counts by its length."""
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return max(width, 1.0) * max(height, 1.0) if width >= 0 and height >= 0 else 0.0


def _place(label: Annotation, obstacles: Sequence[Bbox], frame: Bbox, renderer: RendererBase) -> Bbox:
    """Move the label to the nearest spot inside the frame that is free, else to the least crowded; its box."""

    def crowding(spot: tuple[float, float]) -> float:
        label.set_position(spot)
        label.set_ha("left" if spot[0] > 1 else "right" if spot[0] < -1 else "center")
        box = label.get_window_extent(renderer)
        outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
        return 1e6 * outside + sum(_overlap(box, obstacle) for obstacle in obstacles)

    best = next((spot for spot in _SPOTS if crowding(spot) == 0), None) or min(_SPOTS, key=crowding)
    crowding(best)
    return label.get_window_extent(renderer)


def _label(axes: Axes, points: Sequence[tuple[float, float, str, str]], bars: Sequence[Bbox] = ()) -> None:
    """Write each (x, y, text, colour) beside its point without covering points, bars (data units) or labels."""
    figure = axes.get_figure()
    figure.draw_without_rendering()
    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    spots = axes.transData.transform([(x, y) for x, y, _, _ in points])
    obstacles = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    obstacles += [bar.transformed(axes.transData) for bar in bars]
    for x, y, text, colour in points:
        line = {"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkA": 0, "shrinkB": 3}
        label = axes.annotate(
            text, (x, y), (8, 0), textcoords="offset points", va="center", fontsize=8, color=colour, arrowprops=line
        )
        label.set_in_layout(False)
        obstacles.append(_place(label, obstacles, frame, renderer).expanded(1.02, 1.1))


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
    runs = select(records, y, arms)
    xs, ys = _spans(runs, x), _spans(runs, y)
    figure, axes = plt.subplots()
    for arm in runs:
        axes.errorbar(xs[arm].mean, ys[arm].mean, yerr=_reach(ys[arm]), fmt="o", color=colour_of(arm), capsize=2)
    others = dict(references or {})
    for spot in others.values():
        axes.plot(*spot, "D", mfc="none", color="#666666", ms=5)
    line = _frontier([(xs[arm].mean, ys[arm].mean) for arm in runs], measures.lower_is_better(y))
    axes.plot(*zip(*line, strict=True), color="#BBBBBB", lw=1, zorder=0)
    axes.set(xscale="log", xlabel=f"{measures.title(x)}, logarithmic", ylabel=measures.title(y), title=title)
    axes.margins(0.14)
    names = _short(runs)
    points = [(xs[arm].mean, ys[arm].mean, names[arm], colour_of(arm)) for arm in runs]
    points += [(*spot, name, "#666666") for name, spot in others.items()]
    bars = [Bbox.from_extents(xs[a].mean, s.mean - _reach(s), xs[a].mean, s.mean + _reach(s)) for a, s in ys.items()]
    _label(axes, points, bars)
    return figure


def scatter(records: Iterable[Record], x: str, y: str, *, title: str, arms: Sequence[str] | None = None) -> Figure:
    """Every seed of every arm, with the arm's name at its mean."""
    runs = select(records, y, arms)
    figure, axes = plt.subplots()
    for arm, seeds in runs.items():
        axes.plot(measures.values(seeds, x), measures.values(seeds, y), "o", color=colour_of(arm), ms=4, alpha=0.8)
    axes.set(xlabel=measures.title(x), ylabel=measures.title(y), title=title)
    axes.margins(0.14)
    xs, ys, names = _spans(runs, x), _spans(runs, y), _short(runs)
    _label(axes, [(xs[arm].mean, ys[arm].mean, names[arm], colour_of(arm)) for arm in runs])
    return figure


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights moved apart to at least `gap`, order kept, with their centre where it was."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    moved = list(heights)
    for below, above in itertools.pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    shift = (sum(moved) - sum(heights)) / max(len(heights), 1)
    return [height - shift for height in moved]


def curves(
    records: Iterable[Record], metrics: Sequence[str], *, title: str, arms: Sequence[str] | None = None
) -> Figure:
    """Histories over epochs, mean and 95 % interval over seeds; named at their right end, up to three metrics.

    Raises ParameterError when no arm has a history of the first metric.
    """
    found = measures.by_arm(records) if arms is None else select(records, metrics[0], arms)
    runs = {arm: s for arm, s in found.items() if all(metrics[0] in r["history"] for r in s.values())}
    if not runs:
        raise ParameterError(f"No arm has a history of {metrics[0]!r}: record one while training.")
    figure, axes = plt.subplots()
    names, ends = _short(runs), []
    for (arm, seeds), (place, metric) in itertools.product(runs.items(), enumerate(metrics)):
        mean = _curve(axes, seeds, metric, colour_of(arm), _STYLES[place])
        text = names[arm] + (f", {metric.replace('_', ' ')}" if len(metrics) > 1 else "")
        ends.append((len(mean), mean[-1], text, colour_of(arm)))
    axes.set(xlabel="epoch", ylabel=", ".join(map(measures.title, metrics)), title=title)
    _label_ends(axes, ends)
    return figure


def _curve(axes: Axes, seeds: Mapping[int, Record], metric: str, colour: str, line: str) -> list[float]:
    """Draw one arm's mean with its band, and give the mean."""
    histories = [record["history"][metric] for record in seeds.values()]
    length, factor = min(map(len, histories)), measures.unit(metric).factor
    spans = [stats.interval([factor * h[epoch] for h in histories]) for epoch in range(length)]
    epochs, mean = range(1, length + 1), [span.mean for span in spans]
    axes.plot(epochs, mean, line, color=colour, lw=1.5)
    if len(histories) > 1:
        axes.fill_between(epochs, [s.low for s in spans], [s.high for s in spans], color=colour, alpha=0.12, lw=0)
    return mean


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names right of the curves' ends, moved apart so that none covers another."""
    figure = axes.get_figure()
    figure.draw_without_rendering()
    line_height = 10.5 * figure.dpi / 72
    pixels = [float(axes.transData.transform((x, y))[1]) for x, y, _, _ in ends]
    bottom, top = axes.get_window_extent().y0, axes.get_window_extent().y1
    for height, (x, y, text, colour) in zip(_spread(pixels, line_height), ends, strict=True):
        place = (1.03, (height - bottom) / (top - bottom))
        line = {"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            text, (x, y), place, textcoords="axes fraction", va="center", fontsize=8, color=colour, arrowprops=line
        )


def verdict_bars(counts: Mapping[str, Mapping[State, int]], *, title: str) -> Figure:
    """A bar per paper of how many claims are reproduced, not reproduced and inconclusive, each part in words."""
    figure, axes = plt.subplots(figsize=(SIZE[0], 0.9 + 0.5 * len(counts)))
    for row, found in enumerate(counts.values()):
        left = 0
        for state in STATES:
            width = found[state]
            axes.barh(row, width, 0.7, left, color=STATE_COLOURS[state], edgecolor="white")
            if width:
                axes.text(left + width / 2, row, f"{width} {state}", ha="center", va="center", color="white")
            left += width
    axes.set_yticks(range(len(counts)), counts.keys())
    axes.invert_yaxis()
    axes.set(xlabel="claims", title=title)
    axes.grid(visible=False)
    return figure
