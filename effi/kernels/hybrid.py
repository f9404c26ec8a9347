"""Attention under sparse patterns by FlexAttention, with keys gathered so that few tiles hold a pair.

Strided keys, as they lie, are in every tile. Side by side they are in few: the summaries of "fixed" in front of all
keys, the tokens of each residue of "strided" behind one another. The plain-torch reference is
`effi.mixed_sparsity.hybrid.HybridAttention`, the patterns are those of `effi.mixed_sparsity.positions`.

Shapes: B batch, H heads, T tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

Kind = Literal["local", "strided", "merged", "fixed"]
Part = tuple[Tensor, Tensor]  # what some keys mix to, BHTD, and the logarithm of their sum of exponentials, BHT
Seen = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # of batch, head, query and key, as FlexAttention takes it
TILE = 128
NARROWEST = 16  # head width that FlexAttention takes on a GPU
# Of the compiled kernel, which has one for each pattern, shape and mode; torch keeps 8 by default. Beyond them it says
# so and computes all scores.
VERSIONS = 64


def attend(kind: Kind, window: int, q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, scale: float) -> Tensor:
    """softmax(scale q k^T) v over the pairs of a pattern, BHTD; on a CPU without a backward pass, which torch lacks."""
    qkv = q_BHTD, k_BHTD, v_BHTD
    if kind == "fixed":
        return _fixed(*qkv, scale, window)
    if kind == "strided":
        return _strided(*qkv, scale, window, diagonal=True)[0]
    tokens = q_BHTD.shape[-2]
    near = _flex(*qkv, _tiles(_near, window, queries=tokens, keys=tokens, device=q_BHTD.device), scale)
    if kind == "local" or tokens <= window:
        return near[0]
    return merged([near, _strided(*qkv, scale, window, diagonal=False)])


def merged(parts: Sequence[Part]) -> Tensor:
    """One softmax over keys of which each part has some and none has another's: a weighted mean of what they mix.

    Gradients reach the parts by their sums of exponentials, too: a part whose backward pass leaves those out is wrong
    here. A query without keys in a part has a sum of -inf there, and needs keys in another.
    """
    shares = torch.stack([total for _, total in parts]).softmax(0)[..., None]
    mixed = sum(share * out for share, (out, _) in zip(shares, parts, strict=True))
    return torch.as_tensor(mixed).to(parts[0][0].dtype)


def _fixed(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, scale: float, window: int) -> Tensor:
    """One call with the summaries of all blocks in front of keys and values, padded to whole tiles."""
    k, v = (_behind_summaries(x, window) for x in (k_BHTD, v_BHTD))
    tokens, keys = q_BHTD.shape[-2], k.shape[-2]
    tiles = _tiles(_in_block, window, keys - tokens, queries=tokens, keys=keys, device=q_BHTD.device)
    return _flex(q_BHTD, k, v, tiles, scale)[0]


def _behind_summaries(x_BHTD: Tensor, window: int) -> Tensor:
    summaries = x_BHTD[..., window - 1 : -1 : window, :]  # a last token is a summary of nothing that follows
    return torch.cat([F.pad(summaries, (0, 0, 0, -summaries.shape[-2] % TILE)), x_BHTD], -2)


def _strided(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, scale: float, stride: int, *, diagonal: bool) -> Part:
    """Over the keys at a distance that is a multiple of the stride: causal attention among the tokens of a residue."""
    tokens = q_BHTD.shape[-2]
    q, k, v = (_by_residue(x, stride) for x in (q_BHTD, k_BHTD, v_BHTD))
    rows = q.shape[-2]
    tiles = _tiles(_in_residue, rows // stride, 1 - diagonal, queries=rows, keys=rows, device=q.device)
    out, total = _flex(q, k, v, tiles, scale)
    return _in_order(out, stride)[..., :tokens, :], _in_order(total[..., None], stride)[..., :tokens, 0]


def _by_residue(x_BHTD: Tensor, stride: int) -> Tensor:
    """Padded to whole strides, then all tokens of the first residue, all of the next."""
    padded = F.pad(x_BHTD, (0, 0, 0, -x_BHTD.shape[-2] % stride))
    return padded.unflatten(-2, (-1, stride)).transpose(-3, -2).flatten(-3, -2)


def _in_order(x_BHTD: Tensor, stride: int) -> Tensor:
    return x_BHTD.unflatten(-2, (stride, -1)).transpose(-3, -2).flatten(-3, -2)


# --- tiles ---------------------------------------------------------------------------------------------------


def _near(window: int) -> Seen:
    """A query i sees the keys i - window < j <= i."""
    return lambda b, h, q, k: (k <= q) & (q - k < window)


def _in_block(window: int, front: int) -> Seen:
    """A query sees the summaries of earlier blocks, which lie in front, and the earlier tokens of its own block."""

    def seen(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        key = k - front
        return torch.where(key < 0, k < q // window, (key <= q) & (key >= q - q % window))

    return seen


def _in_residue(each: int, nearest: int) -> Seen:
    """Of tokens by residue, so many `each`, a query sees those of its own that are `nearest` to it or earlier."""
    return lambda b, h, q, k: (k >= q - q % each) & (k <= q - nearest)


def _tiles(make: Callable[..., Seen], *numbers: int, queries: int, keys: int, device: torch.device) -> BlockMask:
    """The pairs of `make(*numbers)`; made once, of queries x keys flags that are gone afterwards."""
    key = make.__name__, *numbers, queries, keys, device
    if key not in _TILES:
        _TILES[key] = create_block_mask(make(*numbers), None, None, queries, keys, device=device, BLOCK_SIZE=TILE)
    return _TILES[key]


# No functools.cache, through which torch.compile traces: a compiled model would make the tiles in every call.
_TILES: dict[tuple[object, ...], BlockMask] = {}


# --- a call --------------------------------------------------------------------------------------------------


def _flex(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, tiles: BlockMask, scale: float) -> Part:
    """FlexAttention, compiled but on a CPU; gradients of both results reach its inputs."""
    bare = q_BHTD.device.type == "cpu" or torch.compiler.is_compiling()
    flex = cast(Callable[..., Any], flex_attention) if bare else _compiled()
    out, more = flex(q_BHTD, k_BHTD, v_BHTD, block_mask=tiles, scale=scale, return_aux=AuxRequest(lse=True))
    return out, more.lse


@cache
def _compiled() -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(cast(Any, flex_attention), dynamic=False)
    config = cast(Any, torch._dynamo.config)

    def call(*inputs: Tensor, **options: Any) -> Any:
        with config.patch(recompile_limit=VERSIONS):
            return compiled(*inputs, **options)

    return call
