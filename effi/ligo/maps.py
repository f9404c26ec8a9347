"""Growing weights by linear maps: rows and columns of every matrix (width), then layers of every stack (depth).

vec(W') = L R vec(W) with L = w (x) I and R = blockdiag(B_in (x) B_out): for a matrix, W'_i = sum_j w_ij B_out W_j
B_in^T (LiGO, Sec. 3.2). No Kronecker product is made. Shapes: L1 and L2 layers, (out, in) matrices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from effi.ligo.pieces import Form, Piece, joined

Order = Literal["depth", "width"]


@dataclass(frozen=True)
class Extended:
    """The map [I; new]: old units stay, and each new one is a sum of old ones; `new` is (..., large - small, small)."""

    new: Tensor

    def dense(self) -> Tensor:
        """The whole map, (..., large, small)."""
        small = self.new.shape[-1]
        identity = torch.eye(small, dtype=self.new.dtype, device=self.new.device)
        return torch.cat([identity.expand(*self.new.shape[:-2], small, small), self.new], -2)


Map = Tensor | Extended


@dataclass(frozen=True)
class Maps:
    """Kind of an axis -> (large, small) map of rows (`out`) and of columns (`into`); a kind that is left out stays.

    A map of its own for each layer has these in a first dimension: (L, large, small).
    """

    out: Mapping[str, Map]
    into: Mapping[str, Map]


def tied(maps: Mapping[str, Map]) -> Maps:
    """The same maps for rows and columns, as LiGO ties them (Sec. 3.3)."""
    return Maps(maps, maps)


def expand(piece: Piece, weight: Tensor, maps: Maps) -> Tensor:
    """B_out W B_in^T of a matrix (..., out, in), B_out w of a vector (..., out), in the order of fewer products."""
    rows = maps.out.get(piece.out)
    if piece.into is None:
        return weight if rows is None else _rows(rows, weight[..., None])[..., 0]
    columns = maps.into.get(piece.into)
    if isinstance(rows, Extended) and isinstance(columns, Extended):
        return _extended(rows, columns, weight)
    if rows is None or columns is None or _columns_first(rows, columns):
        weight = weight if columns is None else _columns(columns, weight)
        return weight if rows is None else _rows(rows, weight)
    return _columns(columns, _rows(rows, weight))


def mix(w: Tensor, stacked: Tensor) -> Tensor:
    """Layers (L1, ...) -> layers (L2, ...) by weights (L2, L1)."""
    return (w @ stacked.flatten(1)).unflatten(1, stacked.shape[1:])


def stacked(small: Mapping[Piece, Tensor]) -> dict[Piece, Tensor]:
    """First piece of each family -> its layers in order (L1, ...); pieces outside of stacks as they are."""
    alike: dict[str, list[Piece]] = defaultdict(list)
    for piece in small:
        alike[piece.family].append(piece)
    found = {}
    for members in alike.values():
        ordered = sorted(members, key=lambda piece: piece.layer or 0)
        first = ordered[0]
        found[first] = small[first] if first.layer is None else torch.stack([small[each] for each in ordered])
    return found


def grow(
    families: Mapping[Piece, Tensor],
    target: Mapping[str, Form],
    maps_of: Callable[[Piece], Maps],
    depth_of: Callable[[Piece], Tensor],
    order: Order = "depth",
) -> dict[str, Tensor]:
    """All parameters of a large model by name from `stacked` pieces of the small one; `target` is the `forms(large)`.

    `maps_of` and `depth_of` are asked once a family, for its first piece: width maps, and depth weights (L2, L1). With
    `order` "depth" layers are mixed first and maps may differ by large layer (official code), with "width" last, and
    maps may differ by small layer (the paper's Sec. 3.2). Maps that all layers share give the same either way.
    """
    grown = {piece.family: _grown(piece, weight, maps_of(piece), depth_of, order) for piece, weight in families.items()}
    matrices = {
        piece: grown[piece.family] if piece.layer is None else grown[piece.family][piece.layer]
        for form in target.values()
        for piece in form.pieces
    }
    return joined(target, matrices)


def _grown(piece: Piece, weight: Tensor, maps: Maps, depth_of: Callable[[Piece], Tensor], order: Order) -> Tensor:
    if piece.layer is None:
        return expand(piece, weight, maps)
    if order == "depth":
        return expand(piece, mix(depth_of(piece), weight), maps)
    return mix(depth_of(piece), expand(piece, weight, maps))


def _rows(rows: Map, weight: Tensor) -> Tensor:
    """B W."""
    if isinstance(rows, Tensor):
        return rows @ weight
    return torch.cat([weight, rows.new @ weight], -2)


def _columns(columns: Map, weight: Tensor) -> Tensor:
    """W B^T."""
    if isinstance(columns, Tensor):
        return weight @ columns.mT
    return torch.cat([weight, weight @ columns.new.mT], -1)


def _extended(rows: Extended, columns: Extended, weight: Tensor) -> Tensor:
    """B_out W B_in^T; rows first are columns first of the transposed matrix."""
    if _columns_first(rows, columns):
        return cast(Tensor, _Extension.apply(weight, rows.new, columns.new, False))
    return cast(Tensor, _Extension.apply(weight.mT, columns.new, rows.new, True)).mT


class _Extension(torch.autograd.Function):
    """[I; rows] W [I; columns]^T, columns first; with `turned`, laid out so that its transpose is contiguous.

    What a backward pass needs of the steps between lies in the result: nothing is kept beside it.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor, columns: Tensor, turned: bool) -> Tensor:
        (out, into), layers = weight.shape[-2:], weight.shape[:-2]
        large = out + rows.shape[-2], into + columns.shape[-2]
        whole = weight.new_empty(*layers, *large[::-1]).mT if turned else weight.new_empty(*layers, *large)
        whole[..., :out, :into] = weight
        whole[..., :out, into:] = weight @ columns.mT
        whole[..., out:, :] = rows @ whole[..., :out, :]
        ctx.save_for_backward(whole, rows, columns)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        whole, rows, columns = ctx.saved_tensors
        out, into = rows.shape[-1], columns.shape[-1]
        top, bottom = gradients[0][..., :out, :], gradients[0][..., out:, :]
        made = top + rows.mT @ bottom
        old, new = made[..., :into], made[..., into:]
        for_weight, for_rows, for_columns, _ = ctx.needs_input_grad
        return (
            old + new @ columns if for_weight else None,
            (bottom @ whole[..., :out, :].mT).sum_to_size(rows.shape) if for_rows else None,
            (new.mT @ whole[..., :out, :into]).sum_to_size(columns.shape) if for_columns else None,
            None,
        )


def _columns_first(rows: Map, columns: Map) -> bool:
    """Whether (B_out (W B_in^T)) takes no more products than ((B_out W) B_in^T)."""
    (new_rows, o1, o2), (new_columns, i1, i2) = _sizes(rows), _sizes(columns)
    return o1 * i1 * new_columns + new_rows * o1 * i2 <= new_rows * o1 * i1 + o2 * i1 * new_columns


def _sizes(map_: Map) -> tuple[int, int, int]:
    """Rows to compute, small, large."""
    if isinstance(map_, Tensor):
        return map_.shape[-2], map_.shape[-1], map_.shape[-2]
    new, small = map_.new.shape[-2:]
    return new, small, small + new
