"""Validation loss over what was spent so far: FLOPs on paper, or tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from effi.claims import Results, measures
from effi.report.canvas import band, colour_of, ink, label

Spent = Literal["flops_ratio/causal", "flops_ratio/square", "tokens"]
Point = tuple[float, float]
CURVE = "validation_loss"
# How much of the way down to the lowest loss an axis shows at least, and how often it shows what ends are apart.
SHOWN, ROOM = 0.3, 3.0
MARGIN = 0.85  # of the least x that is seen
# How a ratio of FLOPs is counted, in words.
COUNTED = {"square": "T² rule", "causal": "causal attention as half of T²"}
WORDS: dict[Spent, str] = {
    "flops_ratio/causal": f"FLOPs on paper so far, of dense training's ({COUNTED['causal']})",
    "flops_ratio/square": f"FLOPs on paper so far, of dense training's ({COUNTED['square']})",
    "tokens": "tokens read so far",
}


def loss_curves(
    results: Results, arms: Sequence[str], *, title: str, by: Spent = "flops_ratio/causal", level: str | None = None
) -> Figure:
    """Validation loss over FLOPs or tokens so far, logarithmic: mean and 95 % interval over seeds, marked at its end.

    An arm stands where its seeds are on average; the last loss of the arm `level` is dashed. Early losses, far above,
    are cut off. Raises RecordError when no arm has both histories.
    """
    chosen = results.where(arms=arms).remembering(CURVE, by)
    figure, axes = plt.subplots()
    axes.set(ylabel=measures.title(CURVE), title=title)
    _scale(axes, by)
    curves = {arm: _curve(axes, chosen, arm, by) for arm in chosen.arms}
    last = [] if level is None else [[(1.0, _level(axes, results, level))]]
    low, top = near_ends([*curves.values(), *last])
    axes.set(ylim=(low, top), xlim=(MARGIN * min(_enters(curve, top) for curve in curves.values()), None))
    names = chosen.labels()
    ends = [(*curve[-1], names[arm], colour_of(chosen.label(arm))) for arm, curve in curves.items()]
    lines = [line for curve in curves.values() for line in pairwise(curve)]
    label(axes, ends, [(x, y) for x, y, *_ in ends], lines)
    return figure


def _scale(axes: Axes, by: Spent) -> None:
    axes.set(xscale="log", xlabel=f"{WORDS[by]}, logarithmic")
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if by == "tokens" else lambda share, _: f"{share:g}")


def _curve(axes: Axes, results: Results, arm: str, by: Spent) -> list[Point]:
    """Draw one arm; the points of its mean."""
    x, colour = np.mean(results.history(arm, by), axis=0).tolist(), colour_of(results.label(arm))
    means = band(axes, x, list(zip(*results.history(arm, CURVE), strict=True)), colour, within=measures.bounds(CURVE))
    axes.plot(x[-1], means[-1], "o", color=colour, ms=5)
    return list(zip(x, means, strict=True))


def _level(axes: Axes, results: Results, arm: str) -> float:
    """Draw the last loss of an arm across, and give it."""
    loss, colour = float(np.mean(results.history(arm, CURVE), axis=0)[-1]), colour_of(results.label(arm))
    axes.axhline(loss, color=colour, ls="--", lw=1)
    style: dict[str, Any] = {
        "va": "bottom",
        "fontsize": 8,
        "color": ink(colour),
        "transform": axes.get_yaxis_transform(),
    }
    axes.text(0.01, loss, f"{results.label(arm)} at its end: {loss:.3f}", **style)
    return loss


def _enters(curve: Sequence[Point], top: float) -> float:
    """Where a curve comes into sight from above."""
    return next(x for x, loss in curve if loss <= top)


def near_ends(curves: Sequence[Sequence[Point]], shown: float = SHOWN) -> tuple[float, float]:
    """Limits of an axis of losses that shows how far ends are apart, and at least a share of all the way down."""
    losses, ends = [loss for curve in curves for _, loss in curve], [curve[-1][1] for curve in curves]
    low, high = min(losses), max(losses)
    top = min(high, low + max(shown * (high - low), ROOM * (max(ends) - low)))
    return low - 0.06 * (top - low or 1.0), top + 0.04 * (top - low or 1.0)
