"""How sparse a training is when: what its schedule wants, what layers have, and what the loss makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effi.claims import Results, measures
from effi.mixed_sparsity.schedule import Phase
from effi.report.canvas import PALETTE, SIZE, band, colour_of, label, question
from effi.report.mixed_sparsity.losses import CURVE, Point, near_ends
from effi.report.mixed_sparsity.phases import phases, shade, shares

LAYERS = "mask/sparsity/"
# Kinds of layers in words, and their colours; a kind that is not listed keeps its name.
KINDS = {
    "attention.qkv": ("queries, keys, values", PALETTE[0]),
    "attention.out": ("attention output", PALETTE[3]),
    "mlp.0": ("feed-forward", PALETTE[1]),
    "mlp.2": ("feed-forward", PALETTE[1]),
    "embedding": ("head and embedding", PALETTE[2]),
    "lm_head": ("head", PALETTE[2]),
}
TARGET, OTHER = "target", "#666666"
SHOWN = 0.15  # of the way down of a loss: what is looked for is a small jump


def sparsity_course(results: Results, arms: Sequence[str], *, title: str) -> Figure:
    """A column per arm: sparsity by kind of layer over the share of the training, its target dashed; below the loss.

    Kinds are named in the first column, and have their colours in all. Means over seeds, of the validation loss with
    its 95 % interval; early losses, far above, are cut off. RecordError when no arm has both masks and losses.
    """
    chosen = results.where(arms=arms).remembering("mask/target", CURVE)
    how: dict[str, Any] = {
        "squeeze": False,
        "sharex": True,
        "sharey": "row",
        "gridspec_kw": {"height_ratios": [2.4, 1]},
    }
    figure, grid = plt.subplots(2, len(chosen.arms), figsize=(SIZE[0], 5.2), **how)
    grid[0, 0].set(ylabel="weights pruned (%)", ylim=(0, 102), xlim=(0, 1))
    losses = [_losses(below, chosen, arm) for below, arm in zip(grid[1], chosen.arms, strict=True)]
    grid[1, 0].set(ylabel=measures.title(CURVE), ylim=near_ends(losses, SHOWN))
    for (above, below), (arm, name) in zip(grid.T, chosen.labels().items(), strict=True):
        for axes in (above, below):
            shade(axes, phases(chosen, arm), named=axes is above)
        below.set_xlabel(f"share of the training\nof {name}")
        curves = _sparsities(above, chosen, arm)
        if above is grid[0, 0]:
            _name(above, curves, phases(chosen, arm))
    return question(figure, title)


def _losses(axes: Axes, results: Results, arm: str) -> list[Point]:
    samples = list(zip(*results.history(arm, CURVE), strict=True))
    x = shares(results, arm, "step")
    means = band(axes, x, samples, colour_of(results.label(arm)), within=measures.bounds(CURVE))
    return list(zip(x, means, strict=True))


def _sparsities(axes: Axes, results: Results, arm: str) -> dict[str, list[Point]]:
    """Draw a staircase per kind, as a mask holds until the next; their corners."""
    target = [100 * each for each in results.history(arm, "mask/target")[0]]
    at, drawn = shares(results, arm), {**_by_kind(results, arm), TARGET: target}
    curves = {name: list(zip([*at, 1.0], [*values, values[-1]], strict=True)) for name, values in drawn.items()}
    for name, curve in curves.items():
        line, width = ("--", 1.0) if name == TARGET else ("-", 1.5)
        axes.step(*zip(*curve, strict=True), where="post", color=_colour(name), ls=line, lw=width)
    return curves


def _name(axes: Axes, curves: Mapping[str, Sequence[Point]], found: Mapping[Phase, tuple[float, float]]) -> None:
    """Names beside the curves, where the training is longest of one phase, each at another share of it."""
    begin, end = max(found.values() or [(0.0, 1.0)], key=lambda phase: phase[1] - phase[0])
    places = np.linspace(begin, end, len(curves) + 2)[1:-1].tolist()
    spots = {
        name: (x, max(corner for corner in curve if corner[0] <= x)[1])
        for (name, curve), x in zip(curves.items(), places, strict=True)
    }
    lines = [line for curve in curves.values() for line in pairwise(curve)]
    label(axes, [(*spot, name, _colour(name)) for name, spot in spots.items()], list(spots.values()), lines)


def _by_kind(results: Results, arm: str) -> dict[str, list[float]]:
    """Mean sparsity in % of each kind of layer, in words, over seeds; kinds of one name have equally many weights."""
    record = next(iter(results.seeds(arm).values()))
    names = [name for name in record["history"] if name.startswith(LAYERS)]
    found: dict[str, list[list[float]]] = {}
    for name in names:
        kind = name.removeprefix(LAYERS)
        found.setdefault(KINDS.get(kind, (kind, OTHER))[0], []).extend(results.history(arm, name))
    return {kind: (100 * np.mean(values, axis=0)).tolist() for kind, values in found.items()}


def _colour(name: str) -> str:
    return next((colour for word, colour in KINDS.values() if word == name), "#000000" if name == TARGET else OTHER)
