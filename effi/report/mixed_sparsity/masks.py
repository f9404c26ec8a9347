"""Masks as pictures: which pairs of tokens attention sees, and which weights of a matrix live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from effi.mixed_sparsity.positions import TILE, Pattern
from effi.report.canvas import PALETTE, SIZE, question

KINDS: Mapping[Literal["local", "strided", "merged", "fixed"], str] = {
    "local": "local",
    "strided": "strided",
    "merged": "local or strided",
    "fixed": "fixed",
}
CONTEXT = 1024  # of GPT-2 small, at which the titles count
# Later tokens, earlier ones that are not seen, and those that are.
PAIRS = ListedColormap(["#FFFFFF", "#DDDDDD", PALETTE[0]])
WEIGHTS = ListedColormap(["#FFFFFF", "#333333"])
MOST = 256  # rows and columns of a matrix that still can be told apart


def attention_masks(*, title: str, tokens: int = 64, window: int = 8) -> Figure:
    """Which keys (columns) a query (rows) of a short text sees, by pattern; grey are causal pairs that it does not.

    Above each, at 1,024 tokens and with windows of 128, the share of causal tiles of 128 x 128 that hold a pair, which
    a kernel of dense tiles computes; below, the share of causal pairs. ParameterError for windows longer than the text.
    """
    figure, row = plt.subplots(1, len(KINDS), figsize=(SIZE[0], 2.8), sharey=True)
    for axes, (kind, name) in zip(row, KINDS.items(), strict=True):
        pattern = Pattern(kind, window)
        causal = np.tri(tokens, dtype=int)
        axes.imshow(causal + pattern.dense(tokens).int().numpy(), cmap=PAIRS, vmin=0, vmax=2, interpolation="nearest")
        pairs, tiles = _occupancy(Pattern(kind, TILE))
        axes.set_title(f"{name}: {100 * tiles:.0f} % of tiles", fontsize=8, weight="normal", loc="center")
        _bare(axes, f"{100 * pairs:.2g} % of pairs")
    row[0].set_ylabel(f"{tokens} queries by {tokens} keys,\nwindows of {window}", fontsize=8)
    figure.supxlabel(f"of causal tiles and pairs at {CONTEXT:,} tokens, with windows and tiles of {TILE}", fontsize=8)
    return question(figure, title)


def _occupancy(pattern: Pattern) -> tuple[float, float]:
    """Shares of causal pairs and of causal tiles."""
    return pattern.density(CONTEXT).causal, pattern.tiles(CONTEXT) / Pattern("causal").tiles(CONTEXT)


def weight_masks(masks: Mapping[str, Tensor], *, title: str) -> Figure:
    """Masks of matrices (out, in) by name, live weights dark, side by side: of large ones the first rows and columns.

    Above each the share of the whole matrix that lives.
    """
    figure, row = plt.subplots(1, len(masks), figsize=(SIZE[0], 0.7 + SIZE[0] / max(2, len(masks))), squeeze=False)
    for axes, (name, mask) in zip(row[0], masks.items(), strict=True):
        part = mask[:MOST, :MOST].cpu().numpy()
        axes.imshow(part, cmap=WEIGHTS, vmin=0, vmax=1)
        alive = f"{100 * mask.float().mean().item():.1f} % of the weights live"
        axes.set_title(f"{name}\n{alive}", fontsize=8, weight="normal", loc="center")
        rows, columns = part.shape
        _bare(axes, f"{columns} of {mask.shape[1]:,} inputs")
        axes.set_ylabel(f"{rows} of {mask.shape[0]:,} outputs")
    return question(figure, title)


def _bare(axes: Axes, words: str) -> None:
    """A picture has no scale."""
    axes.set(xticks=[], yticks=[], xlabel=words)
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
