"""Ways to begin a large model with a small one's weights that learn nothing, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from effi.ligo.copying import Rules, drawn, equally, grown, maps_by, rules, wholly
from effi.ligo.layers import Depths, interpolated, stacked_by
from effi.ligo.maps import Map, Maps, grow, stacked
from effi.ligo.pieces import Piece, check_pair, forms, join, split
from effi.ligo.preserving import fpi, hyperclone, lemon, zero_pad, zero_pad_fixed
from effi.seeds import generator


def copy(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """Direct copy (Wei et al. 2016): the first rows, columns and layers are the small model's.

    The rest is as the large model has it, so that old units read new, random ones: the function is not kept.
    ParameterError as `check_pair`.
    """
    check_pair(small, large)
    ours = {(piece.family, piece.layer): weight for piece, weight in split(small).items()}
    theirs = {piece: weight.clone() for piece, weight in split(large).items()}
    for piece, weight in theirs.items():
        old = ours.get((piece.family, piece.layer))
        if old is not None:
            weight[tuple(map(slice, old.shape))] = old
    return join(large, theirs)


def stack(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """StackBERT in one hop (Gong et al. 2019): layer i is the small model's i mod L1; width as `fpi`.

    Layers do their work twice and norms count copies unequally: the function is not kept. Errors as `check_pair`.
    """
    return grown(small, large, _copies(small, large, seed), stacked_by(small, large))


def interpolate(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """Interpolation (Chang et al. 2017, Dong et al. 2020): layer i is the small model's floor(i / k); width as `fpi`.

    The function is not kept, as in `stack`. ParameterError as `check_pair`.
    """
    return grown(small, large, _copies(small, large, seed), interpolated(small, large))


def aki(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """Advanced knowledge initialisation (bert2BERT, arXiv 2110.07143): `fpi`, but new rows come from layer l + 1.

    The last layer takes its own; depth is stacked. Layers change their new units' meaning, so that the function is not
    kept. One choice of copies serves all layers. ParameterError as `check_pair`.
    """
    weights, target = stacked(split(small)), forms(large)
    maps_of, depth_of = maps_by(small, _copies(small, large, seed)), stacked_by(small, large)

    def part(inside: bool, maps: Callable[[Piece], Maps], depths: Depths) -> dict[str, Tensor]:
        some = {piece: weight for piece, weight in weights.items() if (piece.layer is not None) == inside}
        named = {name: form for name, form in target.items() if (form.pieces[0].layer is not None) == inside}
        return grow(some, named, maps, depths, "width")

    own = part(True, _rows(maps_of, new=False), depth_of)
    above = part(True, _rows(maps_of, new=True), _above(depth_of))
    return part(False, maps_of, depth_of) | {name: own[name] + above[name] for name in own}


def select(small: nn.Module, large: nn.Module, seed: int) -> dict[str, Tensor]:
    """Random selection: new units copy random old ones in rows and columns alike; depth as `stack`.

    LiGO's width "sel" on a stack. What reads a unit is not shared out, so that sums grow: the function is not kept.
    ParameterError as `check_pair`.
    """
    made = rules(small, large, drawn(generator(seed, "growth")), wholly)
    return grown(small, large, made, stacked_by(small, large))


# (small model, large model as it was initialised, seed) -> all parameters of the large model by name
RIVALS: Mapping[str, Callable[[nn.Module, nn.Module, int], dict[str, Tensor]]] = {
    "copy": copy,
    "zero-pad": zero_pad,
    "zero-pad-fixed": zero_pad_fixed,
    "stack": stack,
    "interpolate": interpolate,
    "fpi": fpi,
    "aki": aki,
    "hyperclone": hyperclone,
    "lemon": lemon,
    "select": select,
}


def _copies(small: nn.Module, large: nn.Module, seed: int) -> Rules:
    return rules(small, large, drawn(generator(seed, "growth")), equally)


def _rows(maps_of: Callable[[Piece], Maps], *, new: bool) -> Callable[[Piece], Maps]:
    """The same maps with only the new rows, or only the old ones."""

    def some(map_: Map) -> Tensor:
        whole = map_ if isinstance(map_, Tensor) else map_.dense()
        is_new = torch.arange(len(whole), device=whole.device) >= whole.shape[1]
        return whole * (is_new == new)[:, None]

    def maps_of_some(piece: Piece) -> Maps:
        maps = maps_of(piece)
        return Maps({kind: some(map_) for kind, map_ in maps.out.items()}, maps.into)

    return maps_of_some


def _above(depth_of: Depths) -> Depths:
    """Depth weights that give each layer what belongs to the one above it, and the last its own."""

    def depth_of_above(piece: Piece) -> Tensor:
        w = depth_of(piece)
        layer = torch.arange(w.shape[1], device=w.device)
        return w @ torch.eye(len(layer), device=w.device, dtype=w.dtype)[(layer + 1).clamp(max=len(layer) - 1)]

    return depth_of_above
