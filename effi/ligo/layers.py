"""Depth by copies: which old layer each new one is, and added layers that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from effi.axes import depth
from effi.ligo.initial import SOURCES
from effi.ligo.pieces import Piece, pieces
from effi.ligo.uses import norms_follow, uses

Depths = Callable[[Piece], Tensor]


def stacked_by(small: nn.Module, large: nn.Module) -> Depths:
    """Layer i is the small model's i mod L1 (StackBERT, Gong et al. 2019, in one hop)."""
    return _chosen(small, large, "stackbert")


def interpolated(small: nn.Module, large: nn.Module) -> Depths:
    """Layer i is the small model's floor(i / k) with k = L2 / L1 (Chang et al. 2017)."""
    return _chosen(small, large, "interlace")


def identities(small: nn.Module, large: nn.Module) -> Depths:
    """Added layers follow the old ones: they are these once more, but write zero to the residual stream.

    Net2DeeperNet's rule (arXiv 1511.05641, Sec. 2.3) for residual layers. Where norms follow the sum, `settled` does
    the rest.
    """
    copied, use = stacked_by(small, large), uses(small)

    def depth_of(piece: Piece) -> Tensor:
        w = copied(piece)
        if use[piece.family] == "write":
            w = w.clone()
            w[w.shape[1] :] = 0
        return w

    return depth_of


def settled(small: nn.Module, large: nn.Module, grown: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights grown by `identities`, whose added layers pass on what they get in post-LN models, too.

    Such a layer norms what has been normed. That changes nothing but by epsilon while weight and bias of the norms are
    1 and 0: so those that the last old layer ends with move to the end of the last added one.
    """
    settled_ = dict(grown)
    if norms_follow(large):
        for stack, old in depth(small).items():
            settled_ |= _moved(large, stack, old, grown)
    return settled_


def _moved(large: nn.Module, stack: str, old: int, grown: Mapping[str, Tensor]) -> dict[str, Tensor]:
    use = uses(large)
    norms = [piece for piece in pieces(large) if piece.stack == stack and use[piece.family] == "norm"]
    last, end = norms[-1].layer, norms[-1].role
    ends = {(piece.layer, piece.bias): grown[piece.name] for piece in norms if piece.role == end}
    moved = {}
    for piece in norms:
        layer = piece.layer or 0
        if last != old - 1 and (layer >= old or (layer == old - 1 and piece.role == end)):
            plain = torch.full_like(grown[piece.name], float(not piece.bias))
            moved[piece.name] = ends[old - 1, piece.bias] if (layer, piece.role) == (last, end) else plain
    return moved


def _chosen(small: nn.Module, large: nn.Module, source: str) -> Depths:
    few, many, like = depth(small), depth(large), next(small.parameters())

    def depth_of(piece: Piece) -> Tensor:
        old, new = few[piece.stack], many[piece.stack]
        rows = [SOURCES[source](layer, new, old) for layer in range(new)]
        return torch.eye(old, device=like.device, dtype=like.dtype)[rows]

    return depth_of
