"""How far masks are from their neighbours and from the final one, over the epochs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effi.claims import Results, uncertainty
from effi.report.canvas import PALETTE, SIZE, band, colour_of, label, label_ends, question
from effi.report.early_bird.snapshots import chance, history, positions


def distance_curves(
    results: Results, ratios: Sequence[float], *, arms: Sequence[str], threshold: float, title: str
) -> Figure:
    """Distance between neighbouring snapshots over epochs, geometric mean and 95 % interval, a panel per ratio.

    Logarithmic, so without snapshots at which a seed's masks are equal. The threshold is dashed, the distance of
    independent masks dotted; grey on the right: the learning rate of the first arm at the start of each epoch. Raises
    RecordError for an arm that failed or keeps no distances.
    """
    chosen = results.where(arms=arms)
    chosen.remembering(f"distance_{ratios[0]:g}")
    figure, grid = plt.subplots(len(ratios), 1, figsize=(SIZE[0], 0.5 + 2.4 * len(ratios)), sharex=True, squeeze=False)
    for axes, ratio in zip(grid[:, 0], ratios, strict=True):
        _learning_rate(axes, history(chosen, chosen.arms[0], "learning_rate")[0])
        _distances(axes, chosen, ratio, threshold)
    grid[-1, 0].set_xlabel("epoch")
    return question(figure, title)


def _learning_rate(axes: Axes, rates: np.ndarray) -> None:
    """The learning rate on a twin axis behind the panel; it falls within epochs, too."""
    twin = axes.twinx()
    twin.plot(range(len(rates)), rates, color="#BBBBBB", lw=1)
    twin.set_ylim(bottom=0)
    twin.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    twin.set_ylabel("learning rate", color="#666666")
    twin.tick_params(colors="#666666")
    twin.grid(visible=False)
    axes.set_zorder(twin.get_zorder() + 1)
    axes.patch.set_visible(False)


def _distances(axes: Axes, results: Results, ratio: float, threshold: float) -> None:
    points: list[tuple[float, float, str, str]] = []
    marks: list[tuple[float, float]] = []
    for place, (arm, name) in enumerate(results.labels().items()):
        found, epochs = history(results, arm, f"distance_{ratio:g}"), positions(results, arm)[1:].tolist()
        colour = colour_of(results.label(arm))
        drawn = _positive_band(axes, epochs, found, colour)
        if drawn:
            # Names stand at different epochs so that curves which run together keep theirs.
            points.append((*drawn[len(drawn) * (place + 1) // (len(results.arms) + 1)], name, colour))
        marks += drawn
    axes.axhline(threshold, color="black", ls="--", lw=1)
    axes.axhline(chance(ratio), color="#666666", ls=":", lw=1)
    for height, words in ((threshold, f"ε = {threshold:g}"), (chance(ratio), f"independent: {chance(ratio):.3g}")):
        style: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 8, "transform": axes.get_yaxis_transform()}
        axes.text(0.995, height, words, **style)
    heights = [threshold, chance(ratio), *(height for _, height in marks)]
    axes.set(yscale="log", ylim=(min(heights) / 2, 2 * max(heights)), ylabel=f"p = {ratio:g}\nmask distance")
    label(axes, points, marks)


def _positive_band(axes: Axes, epochs: Sequence[float], found: np.ndarray, colour: str) -> list[tuple[float, float]]:
    """Draw distances (seeds, snapshots) with intervals that stay above 0; the points drawn."""
    kept = [place for place, column in enumerate(found.T) if (column > 0).all()]
    x, spans = [epochs[place] for place in kept], [uncertainty.positive(found[:, place].tolist()) for place in kept]
    axes.plot(x, [span.mean for span in spans], color=colour, lw=1.5)
    if len(found) > 1:
        axes.fill_between(x, [s.low for s in spans], [s.high for s in spans], color=colour, alpha=0.12, lw=0)
    return [(epoch, span.mean) for epoch, span in zip(x, spans, strict=True)]


def stability_curves(results: Results, ratios: Sequence[float], *, arm: str, title: str) -> Figure:
    """How far each snapshot's mask is from the final one, mean and 95 % interval, a curve per ratio.

    From above: distance d; Jaccard overlap of the pruned sets o/(2-o) with o = 1 - d/(2p); chance-corrected
    stability 1 - d/(2p(1-p)). Raises RecordError for an arm that failed or keeps no distances.
    """
    figure, rows = plt.subplots(3, 1, figsize=(SIZE[0], 6.4), sharex=True)
    heads = ("distance to final mask", "Jaccard overlap, pruned", "stability (1 = final)")
    bounds = ((0.0, 1.0), (0.0, 1.0), (-1.0, 1.0))
    ends: tuple[list[tuple[float, float, str, str]], ...] = ([], [], [])
    for ratio, colour in zip(ratios, itertools.cycle(PALETTE), strict=False):
        distance, epochs = history(results, arm, f"final_distance_{ratio:g}"), positions(results, arm).tolist()
        views = (distance, _jaccard(distance, ratio), 1 - distance / chance(ratio))
        for axes, view, within, own in zip(rows, views, bounds, ends, strict=True):
            means = band(axes, epochs, view.T.tolist(), colour, within=within)
            own.append((epochs[-1], means[-1], f"p = {ratio:g}", colour))
    for axes, head, own in zip(rows, heads, ends, strict=True):
        axes.set_ylabel(head)
        label_ends(axes, own)
    rows[-1].set_xlabel("epoch")
    return question(figure, title)


def _jaccard(distance: np.ndarray, ratio: float) -> np.ndarray:
    overlap = 1 - distance / (2 * ratio)
    return overlap / (2 - overlap)
