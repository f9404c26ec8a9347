"""What a threshold on the distance of two masks asks for."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from effi.report.canvas import colour_of


def strictness(thresholds: Sequence[float], *, title: str) -> Figure:
    """Share of the pruned weights that two masks must have in common, over the pruned share p; dashed: by chance.

    At a distance d they share 1 - d/2p of their pruned weights, independent ones the share p.
    """
    p = np.linspace(0.02, 0.9, 89)
    figure, axes = plt.subplots()
    for threshold, arm in zip(thresholds, ("eb", "random"), strict=False):
        shared, colour = 100 * (1 - threshold / (2 * p)).clip(0), colour_of(arm)
        axes.plot(p, shared, color=colour)
        axes.annotate(
            f"ε = {threshold:g}",
            (0.4, np.interp(0.4, p, shared)),
            (0, 4),
            color=colour,
            va="bottom",
            textcoords="offset points",
        )
    axes.plot(p, 100 * p, "--", color="#666666")
    axes.text(0.5, 44, "shared by chance", color="#666666")
    axes.set(xlabel="pruned share p", ylabel="pruned weights shared (%)", title=title)
    return figure
