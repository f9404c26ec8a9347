"""Where a ticket prunes: each matrix's share of pruned weights, and the heads that survive."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from effi.claims import Results
from effi.errors import ParameterError
from effi.report.canvas import SIZE, ink
from effi.report.early_bird.snapshots import history

KIND_COLOURS = {"attention": "#0072B2", "feed-forward": "#D55E00", "merging": "#333333"}


def layer_bars(results: Results, ratio: float, names: Sequence[str], *, arm: str, title: str) -> Figure:
    """Share of pruned weights per prunable tensor, mean and every seed; attention and feed-forward coloured.

    `names` are the tensors' names in the mask's order. Raises ParameterError when their number is another than
    that of the recorded shares.
    """
    shares = 100 * history(results, arm, f"layer_sparsity_{ratio:g}")
    if shares.shape[1] != len(names):
        raise ParameterError(f"{arm} holds shares of {shares.shape[1]} tensors, not {len(names)}: name each of them.")
    figure, axes = plt.subplots(figsize=(SIZE[0], 4.6))
    kinds = [_kind(name) for name in names]
    axes.bar(range(len(names)), shares.mean(axis=0), color=[KIND_COLOURS[kind] for kind in kinds], alpha=0.8)
    for own in shares:
        axes.plot(range(len(names)), own, "o", color="black", ms=2.5, mfc="white", mew=0.6)
    axes.axhline(100 * ratio, color="black", ls="--", lw=1)
    axes.set_xticks(range(len(names)), _brief(names), rotation=90, fontsize=6)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="weights pruned (%)", title=title, xlim=(-0.7, len(names) - 0.3))
    # Names of the kinds stand in line above the bars, in the colour of theirs.
    words = {kind: KIND_COLOURS[kind] for kind in KIND_COLOURS if kind in kinds} | {f"-- p = {ratio:g}": "#000000"}
    for place, (word, colour) in enumerate(words.items()):
        axes.text(0.01 + 0.2 * place, 0.99, word, transform=axes.transAxes, va="top", color=ink(colour), fontsize=8)
    axes.margins(y=0.12)
    return figure


def _brief(names: Sequence[str]) -> list[str]:
    """Names of tensors without the modules that all of them share."""
    parts = [name.removesuffix(".weight").split(".") for name in names]
    levels = enumerate(zip(*parts, strict=False))
    depth = next((level for level, found in levels if len(set(found)) > 1), 0)
    return [".".join(own[depth:]) for own in parts]


def _kind(name: str) -> str:
    if any(word in name.lower() for word in ("merging", "reduction", "downsample")):
        return "merging"
    return "attention" if "att" in name.lower() else "feed-forward"


def survival(results: Results, heads: Sequence[int], *, arm: str, title: str) -> Figure:
    """Share of the seeds in which each attention head survives, layers x heads, with the number of seeds.

    `heads` is the number of heads in each layer; records keep 0 or 1 for each, layer by layer, as the history
    heads_kept. Raises ParameterError when their number is another.
    """
    kept = history(results, arm, "heads_kept")
    if kept.shape[1] != sum(heads):
        raise ParameterError(f"{arm} holds {kept.shape[1]} heads, not {sum(heads)}: count those of each layer.")
    grid = np.full((len(heads), max(heads)), np.nan)
    for layer, own in enumerate(np.split(kept.mean(axis=0), np.cumsum(heads)[:-1])):
        grid[layer, : len(own)] = own
    figure, axes = plt.subplots(figsize=(SIZE[0], 1.6 + 0.3 * len(heads)))
    image = axes.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (layer, head), share in np.ndenumerate(grid):
        if not np.isnan(share):
            text = f"{share * len(kept):.0f}"
            axes.text(
                head, layer, text, ha="center", va="center", fontsize=7, color="white" if share > 0.6 else "black"
            )
    figure.colorbar(image, ax=axes, label="share of seeds")
    axes.set(xlabel=f"head; numbers: seeds of {len(kept)} that keep it", ylabel="layer", title=title)
    axes.set_xticks(range(max(heads)), map(str, range(1, max(heads) + 1)))
    axes.set_yticks(range(len(heads)), map(str, range(1, len(heads) + 1)))
    axes.grid(visible=False)
    return figure
