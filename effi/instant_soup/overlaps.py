"""How much masks agree, told by what they prune: a cosine of kept weights is close to 1 where little is pruned."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from effi.masks import Mask


def cosine(a: Mask, b: Mask) -> float:
    """Cosine of two masks as vectors of 0 and 1 (Fig. 3)."""
    both = sum(int((kept & b[name]).count_nonzero()) for name, kept in a.items())
    sizes = [sum(int(torch.count_nonzero(kept)) for kept in mask.values()) for mask in (a, b)]
    return both / (sizes[0] * sizes[1]) ** 0.5


def kept_overlap(cosine: float) -> float:
    """Intersection over union of the kept sets of two masks of one sparsity: c / (2 - c)."""
    return cosine / (2 - cosine)


def shared_prunes(cosine: float, sparsity: float) -> float:
    """Share o of one mask's prunes that the other of the same sparsity makes: 1 - (1 - c) d / p with d = 1 - p.

    Chance is o = p, at a cosine of d.
    """
    return 1 - (1 - cosine) * (1 - sparsity) / sparsity


def pruned_overlap(cosine: float, sparsity: float) -> float:
    """Intersection over union of the pruned sets of two masks of one sparsity: o / (2 - o)."""
    shared = shared_prunes(cosine, sparsity)
    return shared / (2 - shared)


def pair_overlap(votes: Sequence[float]) -> float:
    """Of a round's masks, mean intersection over mean union of what pairs of them prune; 1 when they prune nothing.

    `votes` are shares of the weights alive that 0, 1, ... of all masks keep.
    """
    nets = len(votes) - 1
    against = [nets - count for count in range(nets + 1)]
    pruned = sum(share * lost for share, lost in zip(votes, against, strict=True)) / nets
    if not pruned or nets < 2:
        return 1.0
    pairs = sum(share * lost * (lost - 1) for share, lost in zip(votes, against, strict=True)) / (nets * (nets - 1))
    return pairs / (2 * pruned - pairs)
