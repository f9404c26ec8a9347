"""How far Adam moves a weight that starts with zero moments late in training, beside the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from effi.claims import Results
from effi.errors import RecordError
from effi.mixed_sparsity.cold_start import adam_move
from effi.report.canvas import PALETTE, SIZE, band, label, question

BETA1 = 0.9
Weights = Literal["grown", "old"]
Moves = Mapping[Weights, Mapping[int, Sequence[float]]]
NAMES: Mapping[Weights, tuple[str, str]] = {"grown": ("grown weights", PALETTE[1]), "old": ("old weights", PALETTE[0])}
EXPECTED = ("grown, constant gradient", "#666666")


def moves(results: Results, arm: str) -> dict[Weights, dict[int, list[float]]]:
    """Grown and old weights -> steps after an update -> mean |change| in that step of each seed, in learning rates.

    RecordError for an arm whose moves were not told.
    """
    record = next(iter(results.seeds(arm).values()))
    told = sorted({int(name.split("/")[1]) for name in record["metrics"] if name.startswith("cold_start/")} - {0})
    if not told:
        raise RecordError(f"{arm} tells of no moves after updates: train it by `ColdStart`.")
    return {name: {step: results.values(arm, f"cold_start/{step}/{name}") for step in told} for name in NAMES}


def cold_start(series: Mapping[float, Moves], *, title: str) -> Figure:
    """Mean |update| of grown and of old weights over steps after an update of the mask, a panel per second beta.

    `series` is b2 -> what `moves` gives; drawn are means and 95 % intervals over seeds. Dashed is what Adam moves a
    weight of zero moments late in training, under a constant gradient.
    """
    figure, row = plt.subplots(1, len(series), figsize=(SIZE[0], 3.6), sharey=True, squeeze=False)
    for axes, (beta2, curves) in zip(row[0], series.items(), strict=True):
        _panel(axes, beta2, curves)
    row[0, 0].set_ylabel("mean |update|, in learning rates")
    row[0, 0].yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    row[0, 0].yaxis.set_major_formatter(lambda value, place: f"{value:g}")
    return question(figure, title)


def _panel(axes: Axes, beta2: float, curves: Moves) -> None:
    steps = sorted({step for curve in curves.values() for step in curve})
    drawn = {EXPECTED: [(float(step), adam_move(step, BETA1, beta2)) for step in range(1, steps[-1] + 1)]}
    axes.plot(*zip(*drawn[EXPECTED], strict=True), "--", color=EXPECTED[1], lw=1.2)
    for name, curve in curves.items():
        x = sorted(curve)
        means = band(axes, x, [curve[step] for step in x], NAMES[name][1], "o-", within=(0.0, np.inf))
        drawn[NAMES[name]] = list(zip(map(float, x), means, strict=True))
    axes.set(xscale="log", yscale="log", xlabel="steps after an update of the mask")
    axes.set_title(f"β2 = {beta2:g}", fontsize=9, weight="normal")
    axes.set_xticks(steps, [f"{step:g}" for step in steps])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.12)
    points = [(*curve[-1 if name is EXPECTED else len(curve) // 2], *name) for name, curve in drawn.items()]
    lines = [line for curve in drawn.values() for line in pairwise(curve)]
    label(axes, points, [(x, y) for x, y, *_ in points], lines)
