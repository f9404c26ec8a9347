"""Which small layers make up which large one: depth weights as they began, as learned, and what learning changed."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effi.claims import Results
from effi.errors import RecordError
from effi.report.canvas import SIZE, question

KINDS = ("begun", "learned", "change")
# A map of more cells has no room for numbers.
WRITTEN = 24


def depth_maps(results: Results, arm: str, roles: Sequence[str] = (), *, title: str) -> Figure:
    """Heat maps (large layers, small layers) of the depth weights of roles, mean over seeds, a column per role.

    Rows are how they began, how they were learned, and the difference on a scale of its own. No `roles`: those of
    matrices, as far as six. RecordError for an arm that keeps none.
    """
    known = _roles(results, arm)
    if not known:
        raise RecordError(f"{arm} keeps no depth weights: draw an arm of the growth operator.")
    shown = list(roles) or [role for role in known if not role.endswith("bias")][:6]
    figure, grid = plt.subplots(
        3, len(shown), figsize=(1.3 * SIZE[0], 1.25 * SIZE[1]), squeeze=False, sharex=True, sharey=True
    )
    for column, role in zip(grid.T, shown, strict=True):
        begun, learned = (_weights(results, arm, f"{kind}/{role}") for kind in ("depth_initial", "depth"))
        for axes, kind, weights in zip(column, KINDS, (begun, learned, learned - begun), strict=True):
            _heat(axes, weights, kind)
        column[0].set_title(role, fontsize=8, weight="normal", loc="center")
    for axes, kind in zip(grid[:, 0], KINDS, strict=True):
        axes.set_ylabel(f"{kind}\nlarge layer", fontsize=8)
    return question(figure, title)


def _roles(results: Results, arm: str) -> list[str]:
    first = next(iter(results.seeds(arm).values()))["history"]
    return [name.removeprefix("depth/") for name in first if name.startswith("depth/")]


def _weights(results: Results, arm: str, name: str) -> np.ndarray:
    """Mean over seeds, (large layers, small layers)."""
    small = round(results.values(arm, "layers_small")[0])
    return np.mean(results.history(arm, name), axis=0).reshape(-1, small)


def _heat(axes: Axes, weights: np.ndarray, kind: str) -> None:
    """One map, its values written in; the scale of a change is its own."""
    most = max(1e-9, float(np.abs(weights).max()))
    colours, low, high = ("RdBu", -most, most) if kind == "change" else ("Blues", 0.0, 1.0)
    axes.imshow(weights, aspect="auto", cmap=colours, vmin=low, vmax=high)
    for (row, column), weight in np.ndenumerate(weights) if weights.size <= WRITTEN else ():
        dark = abs(weight) > 0.6 * high
        axes.text(column, row, f"{weight:.2f}", ha="center", va="center", fontsize=6.5, color="w" if dark else "k")
    axes.set_xticks(range(weights.shape[1]))
    axes.set_yticks(range(weights.shape[0]))
    axes.grid(visible=False)
    if kind == "change":
        axes.set_xlabel(f"small layer\n(up to ±{most:.2g})", fontsize=8)
