"""Figures drawn from records, in one style: the question as title, units on axes, labels at the data."""

from __future__ import annotations

import io
import itertools
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox
from PIL import Image
from scipy.optimize import isotonic_regression

from effi import measures, papers, stats
from effi.errors import ParameterError
from effi.measures import Record, Runs
from effi.report.arms import select
from effi.report.tables import STATE_COLOURS, STATE_MARKS
from effi.stats import STATES, Interval, State

# Okabe and Ito, without yellow (too pale for lines and text).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
SIZE = (7.2, 4.2)
DPI = 110
MOST_BYTES = 120_000
# How up to three metrics of one arm differ: line and opacity of a curve and a bar.
_LINES = ("-", "--", ":")
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
    """Write folder/name.png of fixed size, at most 120 kB (with fewer colours where needed), and close the figure.

    Raises ParameterError when even 16 colours do not fit.
    """
    path, png = Path(folder) / f"{name}.png", io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    attempts = itertools.chain([png.getvalue()], (_fewer_colours(png, count) for count in (256, 64, 16)))
    content = next((attempt for attempt in attempts if len(attempt) <= MOST_BYTES), None)
    if content is None:
        raise ParameterError(f"{path} would take more than {MOST_BYTES:,} bytes: draw fewer points.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _fewer_colours(png: io.BytesIO, count: int) -> bytes:
    smaller = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").quantize(count).save(smaller, format="png", optimize=True)
    return smaller.getvalue()


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
    runs = _drawn(records, metrics, arms)
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
    axes.margins(x=0.22, y=0.3 / len(runs))
    axes.invert_yaxis()
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]) if axes.dataLim.x0 < 0 else 0.0)
    axes.set(xlabel=", ".join(map(measures.title, metrics)), title=title)
    axes.grid(axis="y", visible=False)
    return figure


# Offsets in points at which the near edge of a direct label may stand, nearest first.
_SPOTS = [
    (radius * math.cos(angle), radius * math.sin(angle))
    for radius in (7, 12, 18, 26, 36, 48, 62)
    for angle in np.deg2rad([0, 180, 35, -35, 145, -145, 65, -65, 115, -115, 90, -90])
]


class Spot(NamedTuple):
    """A candidate for a label, in pixels: offset, alignment, the label's box and its line to the point."""

    offset: tuple[float, float]
    align: Literal["left", "right", "center"]
    box: Bbox
    line: list[Bbox]


def _trace(start: Sequence[float], end: Sequence[float]) -> list[Bbox]:
    """Boxes of 2 pixels along a line, so that a slanted line can be an obstacle."""
    steps = max(int(math.dist(start, end) / 4), 1)
    points = np.linspace(start, end, steps + 1)
    return [Bbox.from_extents(x - 1, y - 1, x + 1, y + 1) for x, y in points]


def _spots(point: tuple[float, float], size: tuple[float, float], pixels: float) -> Iterator[Spot]:
    """Candidates around a point for a label of (width, height) pixels; `pixels` per point."""
    (x, y), (width, height) = point, size
    for dx, dy in _SPOTS:
        left = x + pixels * dx - (0 if dx > 1 else width if dx < -1 else width / 2)
        low = y + pixels * dy - height / 2
        align: Literal["left", "right", "center"] = "left" if dx > 1 else "right" if dx < -1 else "center"
        near, end = (
            (x + 4 * dx / math.hypot(dx, dy), y + 4 * dy / math.hypot(dx, dy)),
            (x + pixels * dx, y + pixels * dy),
        )
        yield Spot((dx, dy), align, Bbox.from_bounds(left, low, width, height), _trace(near, end))


def _crowding(spot: Spot, obstacles: np.ndarray, frame: Bbox) -> int:
    """How many obstacles (n, 4: x0 y0 x1 y1) the label and, at a quarter of the weight, its line cover."""
    outside = not (frame.x0 <= spot.box.x0 and spot.box.x1 <= frame.x1)
    outside |= not (frame.y0 <= spot.box.y0 and spot.box.y1 <= frame.y1)
    own = _covered(spot.box, obstacles).sum()
    crossed = sum(_covered(piece, obstacles).any() for piece in spot.line)
    return int(10_000 * outside + 4 * own + crossed)


def _covered(box: Bbox, obstacles: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = obstacles.T
    return (x0 < box.x1) & (box.x0 < x1) & (y0 < box.y1) & (box.y0 < y1)


def _label(
    axes: Axes,
    points: Sequence[tuple[float, float, str, str]],
    marks: Sequence[tuple[float, float]],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> None:
    """Write each (x, y, text, colour) beside its point, clear of marks, lines (data units) and other labels."""
    figure = axes.get_figure()
    figure.draw_without_rendering()
    renderer, frame, pixels = figure.canvas.get_renderer(), axes.get_window_extent(), figure.dpi / 72
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in axes.transData.transform(marks)]
    for line in lines:
        taken += _trace(*axes.transData.transform(line))
    for x, y, text, colour in points:
        measured = axes.text(x, y, text, fontsize=8)
        size = measured.get_window_extent(renderer).size + 2
        measured.remove()
        spots = _spots(tuple(axes.transData.transform((x, y))), tuple(size), pixels)
        obstacles = np.array([box.extents for box in taken])
        spot = min(spots, key=partial(_crowding, obstacles=obstacles, frame=frame))
        _write(axes, text, (x, y), spot, colour)
        taken += [spot.box, *spot.line]


def _write(axes: Axes, text: str, point: tuple[float, float], spot: Spot, colour: str) -> None:
    line = {"arrowstyle": "-", "lw": 0.6, "color": colour, "shrinkA": 0, "shrinkB": 3}
    line["relpos"] = ({"left": 0, "right": 1, "center": 0.5}[spot.align], 0.5)
    style = {"ha": spot.align, "va": "center", "fontsize": 8, "color": _ink(colour)}
    label = axes.annotate(text, point, spot.offset, textcoords="offset points", arrowprops=line, **style)
    label.set_in_layout(False)


def _ink(colour: str) -> str:
    """The colour darkened until text of it on white has a contrast of 4.5 (WCAG)."""
    red, green, blue = to_rgb(colour)
    while 1.05 / (0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 + 0.05) < 4.5:
        red, green, blue = 0.95 * red, 0.95 * green, 0.95 * blue
    return to_hex((red, green, blue))


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
    for arm in runs:
        axes.errorbar(xs[arm].mean, ys[arm].mean, yerr=_reach(ys[arm]), fmt="o", color=colour_of(arm), capsize=2)
    others = dict(references or {})
    for spot in others.values():
        axes.plot(*spot, "D", mfc="none", color="#666666", ms=5)
    line = _frontier([(xs[arm].mean, ys[arm].mean) for arm in runs], measures.lower_is_better(y))
    axes.plot(*zip(*line, strict=True), color="#BBBBBB", lw=1, zorder=0)
    axes.set(xscale="log", xlabel=f"{measures.title(x)}, logarithmic", ylabel=measures.title(y), title=title)
    axes.margins(0.14)
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    names = _short(runs)
    points = [(xs[arm].mean, ys[arm].mean, names[arm], colour_of(arm)) for arm in runs]
    points += [(*spot, name, "#666666") for name, spot in others.items()]
    lines = [((xs[a].mean, s.mean - _reach(s)), (xs[a].mean, s.mean + _reach(s))) for a, s in ys.items()]
    _label(axes, points, [(x, y) for x, y, _, _ in points], [*lines, *itertools.pairwise(line)])
    return figure


def scatter(records: Iterable[Record], x: str, y: str, *, title: str, arms: Sequence[str] | None = None) -> Figure:
    """Every seed of every arm, with the arm's name at its mean."""
    runs = _drawn(records, (x, y), arms)
    figure, axes = plt.subplots()
    for arm, seeds in runs.items():
        axes.plot(measures.values(seeds, x), measures.values(seeds, y), "o", color=colour_of(arm), ms=4, alpha=0.8)
    axes.set(xlabel=measures.title(x), ylabel=measures.title(y), title=title)
    axes.margins(0.14)
    xs, ys, names = _spans(runs, x), _spans(runs, y), _short(runs)
    marks = [p for s in runs.values() for p in zip(measures.values(s, x), measures.values(s, y), strict=True)]
    _label(axes, [(xs[arm].mean, ys[arm].mean, names[arm], colour_of(arm)) for arm in runs], marks)
    return figure


def _spread(heights: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Heights moved as little as possible (least squares) to be `gap` apart, within [low, high] if they fit."""
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    base = isotonic_regression(np.asarray(heights)[order] - steps).x
    moved = np.empty(len(heights))
    moved[order] = np.clip(base, low, max(low, high - steps[-1])) + steps
    return moved


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
    names, ends = _short(runs), []
    for (arm, seeds), (place, metric) in itertools.product(runs.items(), enumerate(metrics)):
        mean = _curve(axes, seeds, metric, colour_of(arm), _LINES[place])
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
    """Names right of the curves' ends (x, y, text, colour), moved apart so that none covers another."""
    figure = axes.get_figure()
    figure.draw_without_rendering()
    frame, line_height = axes.get_window_extent(), 11 * figure.dpi / 72
    heights = [float(axes.transData.transform((x, y))[1]) for x, y, _, _ in ends]
    for height, (x, y, text, colour) in zip(_spread(heights, line_height, frame.y0, frame.y1), ends, strict=True):
        place = (1.03, (height - frame.y0) / frame.height)
        line = {"arrowstyle": "-", "lw": 0.6, "color": colour, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
        style = {"va": "center", "fontsize": 8, "color": _ink(colour), "arrowprops": line}
        axes.annotate(text, (x, y), place, textcoords="axes fraction", **style)


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
