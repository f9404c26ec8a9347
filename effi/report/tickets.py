"""What a ticket search saw: mask distances, drawing epochs, sparsity per layer and the heads that survive."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from effi.claims import measures
from effi.claims.measures import Record
from effi.errors import ParameterError
from effi.report.arms import select, short
from effi.report.canvas import PALETTE, SIZE, band, colour_of, ink, label, label_ends, question, spread

# Short names of the three detection rules, by the middle of their metrics' names.
RULES = {"consecutive": "R1", "queue": "R2", "code": "R3"}
RULE_WORDS = "Drawing epoch of the ticket: R1 one distance below eps; R2 five distances; R3 five masks"
KIND_COLOURS = {"attention": "#0072B2", "feed-forward": "#D55E00", "merging": "#333333"}


def chance(ratio: float) -> float:
    """Expected distance of two independent masks that prune the share `ratio`: 2p(1-p)."""
    return 2 * ratio * (1 - ratio)


def _history(seeds: Mapping[int, Record], key: str) -> np.ndarray:
    """Histories of shape (seeds, length), cut to the shortest. Raises ParameterError where a seed has none."""
    found = [record["history"].get(key) for record in seeds.values()]
    if not all(found):
        arm = next(iter(seeds.values()))["arm"]
        raise ParameterError(f"{arm} holds no history of {key}: record one while searching.")
    length = min(map(len, found))
    return np.array([history[:length] for history in found], dtype=np.float64)


def _positions(seeds: Mapping[int, Record]) -> np.ndarray:
    """Epochs trained before each snapshot."""
    return _history(seeds, "snapshot")[0]


def heat_maps(records: Iterable[Record], ratios: Sequence[float], *, arm: str, title: str) -> Figure:
    """Distance between the masks of any two snapshots, mean over seeds; warm is close; a row per ratio.

    Left on the scale 0 to 1, right on 0 to 2p(1-p), the distance of independent masks. Dashed: where R1, R2 and R3
    draw. Raises ParameterError for an arm that has not finished or keeps no distances.
    """
    seeds = select(records, (), [arm])[arm]
    figure, grid = plt.subplots(len(ratios), 2, figsize=(SIZE[0], 0.6 + 2.9 * len(ratios)), squeeze=False)
    for row, ratio in zip(grid, ratios, strict=True):
        scales = {"0 to 1": 1.0, f"0 to 2p(1-p) = {chance(ratio):.3g}": chance(ratio)}
        for axes, (words, most) in zip(row, scales.items(), strict=True):
            _heat(axes, seeds, f"heat_{ratio:g}", most, words)
            _mark_draws(axes, _draws(seeds, ratio))
        row[0].set_ylabel(f"p = {ratio:g}\nsnapshot after epoch")
    for axes in grid[-1]:
        axes.set_xlabel("snapshot after epoch")
    figure.supxlabel(RULE_WORDS, fontsize=8)
    return question(figure, title)


def _heat(axes: Axes, seeds: Mapping[int, Record], key: str, most: float, words: str) -> None:
    positions, flat = _positions(seeds), _history(seeds, key).mean(axis=0)
    square = flat.reshape(len(positions), len(positions))
    mesh = axes.pcolormesh(positions, positions, square, cmap="inferno_r", vmin=0, vmax=most, rasterized=True)
    axes.figure.colorbar(mesh, ax=axes, label=f"mask distance, {words}", shrink=0.9)
    axes.set_aspect("equal")
    axes.grid(visible=False)


def _draws(seeds: Mapping[int, Record], ratio: float) -> dict[str, float]:
    """Label -> mean drawing epoch over the seeds that drew, infinite for never; rules that agree share a label."""
    positions, places = _positions(seeds), {}
    for rule, name in RULES.items():
        found = [int(each) for each in measures.values(seeds, f"found_{rule}_{ratio:g}") if each >= 0]
        epoch = float(positions[found].mean()) if found else math.inf
        places.setdefault((epoch, len(found)), []).append(name)
    return {_draw_words(names, *place, len(seeds)): place[0] for place, names in places.items()}


def _draw_words(names: Sequence[str], epoch: float, drawn: int, seeds: int) -> str:
    some = f" ({drawn} of {seeds})" if 0 < drawn < seeds else ""
    return f"{' '.join(names)}: {f'{epoch:.3g}' if drawn else 'never'}{some}"


def _mark_draws(axes: Axes, draws: Mapping[str, float]) -> None:
    """A dashed line for each drawing epoch, named above the panel; what never drew is named at its right end."""
    left, right = axes.get_xlim()
    for epoch in filter(math.isfinite, draws.values()):
        line = axes.axvline(epoch, color="white", ls="--", lw=1)
        line.set_path_effects([withStroke(linewidth=2.2, foreground="black")])
    places = [(min(epoch, right) - left) / (right - left) for epoch in draws.values()]
    for place, text in zip(spread(places, 0.34, 0.1, 0.9), draws, strict=True):
        axes.text(place, 1.02, text, transform=axes.transAxes, ha="center", va="bottom", fontsize=7.5)


def distance_curves(
    records: Iterable[Record], ratios: Sequence[float], *, arms: Sequence[str], threshold: float, title: str
) -> Figure:
    """Distance between neighbouring snapshots over epochs, mean and 95 % interval, a panel per ratio.

    The threshold is dashed, the distance of independent masks dotted; grey on the right: the learning rate of the
    first arm. Raises ParameterError for an arm that has not finished or keeps no distances.
    """
    runs = select(records, (), arms)
    figure, grid = plt.subplots(len(ratios), 1, figsize=(SIZE[0], 0.5 + 2.4 * len(ratios)), sharex=True, squeeze=False)
    for axes, ratio in zip(grid[:, 0], ratios, strict=True):
        _learning_rate(axes, runs[arms[0]])
        _distances(axes, runs, ratio, threshold)
    grid[-1, 0].set_xlabel("epoch")
    return question(figure, title)


def _learning_rate(axes: Axes, seeds: Mapping[int, Record]) -> None:
    """Steps of the learning rate on a twin axis behind the panel."""
    rates = _history(seeds, "learning_rate")[0]
    twin = axes.twinx()
    twin.step(range(len(rates) + 1), [rates[0], *rates], color="#BBBBBB", lw=1, where="pre")
    twin.set_ylim(bottom=0)
    twin.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    twin.set_ylabel("learning rate", color="#666666")
    twin.tick_params(colors="#666666")
    twin.grid(visible=False)
    axes.set_zorder(twin.get_zorder() + 1)
    axes.patch.set_visible(False)


def _distances(axes: Axes, runs: Mapping[str, Mapping[int, Record]], ratio: float, threshold: float) -> None:
    names, points, marks = short(runs), [], []
    for place, (arm, seeds) in enumerate(runs.items()):
        found, epochs = _history(seeds, f"distance_{ratio:g}"), _positions(seeds)[1:]
        means = band(axes, epochs, found.T.tolist(), colour_of(arm), within=(0.0, 1.0))
        # Names stand at different epochs so that curves which run together keep theirs.
        at = len(means) * (place + 1) // (len(runs) + 1)
        points.append((epochs[at], means[at], names[arm], colour_of(arm)))
        marks += zip(epochs, means, strict=True)
    axes.axhline(threshold, color="black", ls="--", lw=1)
    axes.axhline(chance(ratio), color="#666666", ls=":", lw=1)
    for height, words in ((threshold, f"eps = {threshold:g}"), (chance(ratio), f"independent: {chance(ratio):.3g}")):
        style = {"ha": "right", "va": "bottom", "fontsize": 8, "transform": axes.get_yaxis_transform()}
        axes.text(0.995, height, words, **style)
    # A distance of 0, two equal masks, has no place on a logarithmic axis.
    positive = [mark for mark in marks if mark[1] > 0]
    heights = [threshold, chance(ratio), *(height for _, height in positive)]
    axes.set(yscale="log", ylim=(min(heights) / 2, 2 * max(heights)), ylabel=f"p = {ratio:g}\nmask distance")
    label(axes, [point for point in points if point[1] > 0], positive)


def stability_curves(records: Iterable[Record], ratios: Sequence[float], *, arm: str, title: str) -> Figure:
    """How far each snapshot's mask is from the final one, mean and 95 % interval, a curve per ratio.

    From above: distance d; Jaccard overlap of the pruned sets o/(2-o) with o = 1 - d/(2p); chance-corrected
    stability 1 - d/(2p(1-p)). Raises ParameterError for an arm that has not finished or keeps no distances.
    """
    seeds = select(records, (), [arm])[arm]
    figure, rows = plt.subplots(3, 1, figsize=(SIZE[0], 6.4), sharex=True)
    heads = ("distance to final mask", "Jaccard overlap, pruned", "stability (1 = final)")
    bounds = ((0.0, 1.0), (0.0, 1.0), (-1.0, 1.0))
    ends: tuple[list[tuple[float, float, str, str]], ...] = ([], [], [])
    for ratio, colour in zip(ratios, _colours(len(ratios)), strict=True):
        distance, epochs = _history(seeds, f"final_distance_{ratio:g}"), _positions(seeds)
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


def _colours(count: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def layer_bars(records: Iterable[Record], ratio: float, names: Sequence[str], *, arm: str, title: str) -> Figure:
    """Share of pruned weights per prunable tensor, mean and every seed; attention and feed-forward coloured.

    `names` are the tensors' names in the mask's order. Raises ParameterError when their number is another than
    that of the recorded shares.
    """
    seeds = select(records, (), [arm])[arm]
    shares = 100 * _history(seeds, f"layer_sparsity_{ratio:g}")
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


def survival(records: Iterable[Record], heads: Sequence[int], *, arm: str, title: str) -> Figure:
    """Share of the seeds in which each attention head survives, layers x heads, with the number of seeds.

    `heads` is the number of heads in each layer; records keep 0 or 1 for each, layer by layer, as the history
    heads_kept. Raises ParameterError when their number is another.
    """
    seeds = select(records, (), [arm])[arm]
    kept = _history(seeds, "heads_kept")
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
    axes.set_xticks(range(max(heads)), range(1, max(heads) + 1))
    axes.set_yticks(range(len(heads)), range(1, len(heads) + 1))
    axes.grid(visible=False)
    return figure
