"""The look that every figure shares: style, colours, direct labels that cover nothing, and the saved PNG."""

from __future__ import annotations

import io
import itertools
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from scipy.optimize import isotonic_regression

from effi.claims import papers, stats
from effi.claims.stats import Interval
from effi.errors import ParameterError
from effi.report.saving import save

# Okabe and Ito, without yellow (too pale for lines and text).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
SIZE = (7.2, 4.2)
DPI = 110
MOST_BYTES = 120_000


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


def colour_of(variant: str) -> str:
    """Colour "#rrggbb" of a variant, the same everywhere: as a paper lists it ("eb-0.3", else "eb" for every number
    behind it), else a fixed one."""
    listed = papers.colours()
    family = re.sub(r"(-[\d.]+)+$", "", variant)
    return listed.get(variant) or listed.get(family) or PALETTE[zlib.crc32(variant.encode()) % len(PALETTE)]


def question(figure: Figure, title: str) -> Figure:
    """The figure of several panels with its title where a single panel has its own."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
    return figure


def save_figure(figure: Figure, folder: str | Path, name: str) -> Path:
    """Write folder/name.png of fixed size, at most 120 kB (with fewer colours where needed), and close the figure.

    Raises ParameterError when even 16 colours do not fit, RecordError when the disk refuses.
    """
    path, png = Path(folder) / f"{name}.png", io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    attempts = itertools.chain([png.getvalue()], (_fewer_colours(png, count) for count in (256, 64, 16)))
    content = next((attempt for attempt in attempts if len(attempt) <= MOST_BYTES), None)
    if content is None:
        raise ParameterError(f"{path} would take more than {MOST_BYTES:,} bytes: draw fewer points.")
    save(path, content)
    return path


def _fewer_colours(png: io.BytesIO, count: int) -> bytes:
    smaller = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").quantize(count).save(smaller, format="png", optimize=True)
    return smaller.getvalue()


def reach(span: Interval) -> float:
    """Half-width for an error bar; a single seed has none."""
    return span.high - span.mean if math.isfinite(span.high) else 0.0


def whiskers(span: Interval, within: tuple[float, float] = stats.ANYWHERE) -> tuple[float, float]:
    """Ends of an interval as drawn: cut to `within`, and at the mean for a single seed."""
    low, high = np.clip((span.mean - reach(span), span.mean + reach(span)), *within)
    return float(low), float(high)


def band(
    axes: Axes,
    x: Sequence[float],
    samples: Sequence[Sequence[float]],
    colour: str,
    line: str = "-",
    *,
    within: tuple[float, float] = stats.ANYWHERE,
) -> list[float]:
    """Draw the mean at each x with its 95 % interval over the values there, cut to `within`; give the means."""
    spans = [stats.interval(values) for values in samples]
    means = [span.mean for span in spans]
    axes.plot(x, means, line, color=colour, lw=1.5)
    if any(map(reach, spans)):
        lows, highs = zip(*(whiskers(span, within) for span in spans), strict=True)
        axes.fill_between(x, lows, highs, color=colour, alpha=0.12, lw=0)
    return means


def bar(
    axes: Axes,
    y: float,
    height: float,
    values: Sequence[float],
    text: str,
    *,
    colour: str,
    alpha: float,
    within: tuple[float, float],
) -> None:
    """Draw some values, their mean and its 95 % interval, cut to `within`, and text behind; without any the text."""
    right = 0.0
    if values:
        span = stats.interval(values)
        low, high = whiskers(span, within)
        axes.barh(y, span.mean, height, color=colour, alpha=alpha)
        axes.errorbar(span.mean, y, xerr=[[span.mean - low], [high - span.mean]], color="black", lw=1, capsize=2)
        axes.plot(values, [y] * len(values), "o", color="black", ms=2.5, mfc="white", mew=0.6)
        right = max(high, *values)
    axes.annotate(text, (right, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5)


def dots(
    axes: Axes,
    y: float,
    values: Sequence[float],
    text: str,
    *,
    colour: str,
    within: tuple[float, float] = stats.ANYWHERE,
) -> None:
    """Draw the mean of values and its 95 % interval, cut to `within`, every value, and text behind them."""
    span = stats.interval(values)
    low, high = whiskers(span, within)
    ends = [[span.mean - low], [high - span.mean]]
    axes.errorbar(span.mean, y, xerr=ends, fmt="o", color=colour, ms=6, lw=1.4, capsize=3)
    axes.plot(values, [y] * len(values), "o", color="black", ms=2.5, mfc="white", mew=0.6)
    right = max(high, *values)
    axes.annotate(text, (right, y), (5, 0), textcoords="offset points", va="center", fontsize=7.5)


def laid_out(axes: Axes) -> Figure:
    """The figure of the axes, its layout settled, so that pixels can be asked for."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
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


def label(
    axes: Axes,
    points: Sequence[tuple[float, float, str, str]],
    marks: Sequence[tuple[float, float]],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = (),
) -> None:
    """Write each (x, y, text, colour) beside its point, clear of marks, lines (data units) and other labels."""
    figure = laid_out(axes)
    frame, pixels = axes.get_window_extent(), figure.dpi / 72
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in axes.transData.transform(marks)]
    for line in lines:
        taken += _trace(*axes.transData.transform(line))
    for x, y, text, colour in points:
        measured = axes.text(x, y, text, fontsize=8)
        width, height = measured.get_window_extent().size
        measured.remove()
        spots = _spots(tuple(axes.transData.transform((x, y))), (width + 2, height + 2), pixels)
        obstacles = np.array([box.extents for box in taken])
        spot = min(spots, key=partial(_crowding, obstacles=obstacles, frame=frame))
        _write(axes, text, (x, y), spot, colour)
        taken += [spot.box, *spot.line]


def _write(axes: Axes, text: str, point: tuple[float, float], spot: Spot, colour: str) -> None:
    line = {"arrowstyle": "-", "lw": 0.6, "color": colour, "shrinkA": 0, "shrinkB": 3}
    line["relpos"] = ({"left": 0, "right": 1, "center": 0.5}[spot.align], 0.5)
    style: dict[str, Any] = {"ha": spot.align, "va": "center", "fontsize": 8, "color": ink(colour)}
    label = axes.annotate(text, point, spot.offset, textcoords="offset points", arrowprops=line, **style)
    label.set_in_layout(False)


def ink(colour: str) -> str:
    """The colour darkened until text of it on white has a contrast of 4.5 (WCAG)."""
    red, green, blue = to_rgb(colour)
    while 1.05 / (0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 + 0.05) < 4.5:
        red, green, blue = 0.95 * red, 0.95 * green, 0.95 * blue
    return to_hex((red, green, blue))


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Heights moved as little as possible (least squares) to be `gap` apart, within [low, high] if they fit."""
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    base = isotonic_regression(np.asarray(heights)[order] - steps).x
    moved = np.empty(len(heights))
    moved[order] = np.clip(base, low, max(low, high - steps[-1])) + steps
    return moved


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names right of the curves' ends (x, y, text, colour), moved apart so that none covers another."""
    figure = laid_out(axes)
    frame, line_height = axes.get_window_extent(), 11 * figure.dpi / 72
    heights = [float(axes.transData.transform((x, y))[1]) for x, y, _, _ in ends]
    for height, (x, y, text, colour) in zip(spread(heights, line_height, frame.y0, frame.y1), ends, strict=True):
        place = (1.03, (height - frame.y0) / frame.height)
        line = {"arrowstyle": "-", "lw": 0.6, "color": colour, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)}
        style: dict[str, Any] = {"va": "center", "fontsize": 8, "color": ink(colour), "arrowprops": line}
        axes.annotate(text, (x, y), place, textcoords="axes fraction", **style)
