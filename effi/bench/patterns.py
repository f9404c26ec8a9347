"""Attention under a pattern, in plain torch and by our kernel, beside causal attention and what others have.

Forward and backward, or forward alone, as texts grow longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from effi.bench.peers import attempted, needed, tried
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
    *,
    backward: bool = True,
) -> Case:
    """Three patterns in our ways, in FlexAttention's and in others' beside causal attention, cuDNN's where it can.

    Forward alone keeps what a backward pass would need.
    """

    def competitor(make: Callable[[], Attend], check: Callable[..., Callable[[], object]]) -> Competitor:
        made = differentiated(make(), dtype, shape, device, backward=backward)
        return replace(made, step=check(made.step))

    makers = {name: partial(competitor, make, tried) for name, make in own(window, device).items()}
    foreign = others(window, shape[2], device)
    makers |= {name: partial(competitor, make, attempted) for name, make in foreign.items()}
    title = f"attention, {shape[2]:,} tokens, batch {shape[0]}, {str(dtype).removeprefix('torch.')}"
    return Case(title + ", forward" * (not backward), "causal", makers)


def own(window: int, device: str) -> Mapping[str, Callable[[], Attend]]:
    """Causal attention in the order of our kernel "cudnn", then each pattern in plain torch and by our kernel."""
    plain: dict[str, Callable[[], Attend]] = {kind: partial(ours, Pattern(kind, window)) for kind in KINDS}
    kernels = {f"{kind}, kernel": partial(kernel, Pattern(kind, window), device) for kind in KINDS}
    return {"causal": lambda: causal, **plain, **kernels}


def others(window: int, tokens: int, device: str) -> Mapping[str, Callable[[], Attend]]:
    """Torch's causal kernels one by one, FlexAttention, a dense mask, and local-attention."""
    flexible = {kind: Pattern(kind, window) for kind in SCATTERED} | {"causal": Pattern("causal")}
    return {
        "causal, cuDNN": lambda: partial(causal_by, SDPBackend.CUDNN_ATTENTION),
        "causal, flash": lambda: partial(causal_by, SDPBackend.FLASH_ATTENTION),
        **{f"{kind}, FlexAttention": partial(flex, each, tokens, device) for kind, each in flexible.items()},
        "merged, dense mask": partial(masked, Pattern("merged", window), tokens, device),
        "local, local-attention": partial(local, window),
    }


def causal(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
    """Dense causal attention."""
    with using("cudnn"):
        return fused(q_BHTD, k_BHTD, v_BHTD, is_causal=True)


def causal_by(kernel: SDPBackend, q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
    """Dense causal attention by one of torch's kernels; RuntimeError where it cannot."""
    with sdpa_kernel(kernel):
        return F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, is_causal=True)


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


def masked(pattern: Pattern, tokens: int, device: str) -> Attend:
    """Attention of a pattern by a dense mask, which torch's fast kernels do not take."""
    positions = torch.arange(tokens, device=device)
    mask = pattern.allows(positions[:, None], positions)
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def local(window: int) -> Attend:
    """local-attention's, in which a query sees one key more than in our window: `window` before itself."""
    library = needed("local_attention", "local-attention")
    attend: Attend = library.LocalAttention(
        window, causal=True, look_backward=1, exact_windowsize=True, autopad=True, use_rotary_pos_emb=False
    )
    return attend
