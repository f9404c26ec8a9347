"""Attention under a pattern, in plain torch and by our kernel, beside causal attention and FlexAttention as it comes.

Forward and backward, as texts grow longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from effi.bench.peers import tried
from effi.bench.rounds import Case, Competitor, Missing
from effi.bench.sparsity import WINDOW, Attend, differentiated
from effi.kernels import using
from effi.mixed_sparsity.hybrid import HybridAttention
from effi.mixed_sparsity.positions import Kind, Pattern
from effi.models.attention import fused

KINDS: tuple[Kind, ...] = ("local", "merged", "fixed")
SCATTERED: tuple[Kind, ...] = ("merged", "fixed")  # keys lie in every tile until our kernel gathers them
NO_BACKWARD = "FlexAttention has no backward pass on a CPU"
SHAPE = (16, 12, 1024, 64)  # B, H, T, D of GPT-2 small


def patterns(
    shape: tuple[int, int, int, int] = SHAPE,
    window: int = WINDOW,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cpu",
) -> Case:
    """Three patterns in our ways and in FlexAttention's beside the fastest causal kernel that torch has."""
    makers: dict[str, Callable[[], Attend]] = {"causal": lambda: causal}
    for kind in KINDS:
        makers[kind] = partial(ours, Pattern(kind, window))
    for kind in KINDS:
        makers[f"{kind}, kernel"] = partial(kernel, Pattern(kind, window), device)
    for kind in SCATTERED:
        makers[f"{kind}, FlexAttention"] = partial(flex, Pattern(kind, window), shape[2], device)

    def competitor(make: Callable[[], Attend]) -> Competitor:
        made = differentiated(make(), dtype, shape, device)
        return replace(made, step=tried(made.step))

    title = f"attention, {shape[2]:,} tokens, batch {shape[0]}, {str(dtype).removeprefix('torch.')}"
    return Case(title, "causal", {name: partial(competitor, make) for name, make in makers.items()})


def causal(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
    """Dense causal attention."""
    with using("cudnn"):
        return fused(q_BHTD, k_BHTD, v_BHTD, is_causal=True)


def ours(pattern: Pattern) -> Attend:
    """Attention of a pattern in plain torch."""
    return lambda q, k, v: HybridAttention(pattern)(q, k, v, q.shape[-1] ** -0.5)


def kernel(pattern: Pattern, device: str) -> Attend:
    """Attention of a pattern by `effi.kernels.hybrid`; Missing on a CPU."""
    if device == "cpu":
        raise Missing(NO_BACKWARD)

    def attend(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
        with using("attention"):
            return ours(pattern)(q_BHTD, k_BHTD, v_BHTD)

    return attend


def flex(pattern: Pattern, tokens: int, device: str) -> Attend:
    """Attention of a pattern by FlexAttention, compiled, which skips empty tiles; Missing on a CPU."""
    if device == "cpu":
        raise Missing(NO_BACKWARD)
    # A process keeps a few versions of a function, and each pattern and length needs one.
    torch.compiler.reset()
    attend, mask = torch.compile(flex_attention, dynamic=False, fullgraph=True), tiles(pattern, tokens, device)
    return lambda q, k, v: attend(q, k, v, block_mask=mask)


def tiles(pattern: Pattern, tokens: int, device: str) -> BlockMask:
    """The pattern as FlexAttention takes it."""
    return create_block_mask(lambda b, h, q, k: pattern.allows(q, k), None, None, tokens, tokens, device=device)
