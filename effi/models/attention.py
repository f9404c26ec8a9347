"""Multi-head self-attention, and the one place that decides which kernel computes it.

Shapes: B batch, T tokens, N width, H heads, D = N / H head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from effi.errors import ParameterError
from effi.kernels import takes

_asked_plain = False  # no context variable, which torch.compile cannot trace
PLAIN_TOKENS_BF16, PLAIN_TOKENS, NARROW = 512, 64, 16
# Without an order torch decides, and may take a slower kernel on Hopper than it has.
CUDNN_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention with plain matrix products inside the block: vmap and FLOP counters need it."""
    global _asked_plain
    before, _asked_plain = _asked_plain, True
    try:
        yield
    finally:
        _asked_plain = before


def prefers_plain(q_BHTD: Tensor) -> bool:
    """Whether plain matrix products are asked for, or beat scaled_dot_product_attention here, which happens on CPUs.

    In bf16 up to 512 tokens, because the fused backward takes half of a training step; else up to 64 tokens with one
    head, which needs no transposing, or with heads too narrow for vector instructions. The rule is static, not
    probed, so that the same machine computes the same bits.
    """
    if _asked_plain or q_BHTD.device.type != "cpu":
        return _asked_plain
    heads, tokens, width = q_BHTD.shape[-3:]
    if q_BHTD.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"):
        return tokens <= PLAIN_TOKENS_BF16
    return tokens <= PLAIN_TOKENS and (heads == 1 or width < NARROW)


def attend(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, scale: float, dropout: float = 0.0) -> Tensor:
    """softmax(scale q k^T) v with the faster of two equal computations; result BHTD of v's width."""
    if not prefers_plain(q_BHTD):
        return fused(q_BHTD, k_BHTD, v_BHTD, dropout_p=dropout, scale=scale)
    weights_BHTT = _scores(q_BHTD, k_BHTD, scale).softmax(-1)
    return F.dropout(weights_BHTT, dropout) @ v_BHTD if dropout else weights_BHTT @ v_BHTD


def fused(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, **options: Any) -> Tensor:
    """Torch's scaled_dot_product_attention with its `options`; with the kernel "cudnn" by cuDNN where that can."""
    if not takes("cudnn", q_BHTD.device, q_BHTD.shape[-2]):
        return F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, **options)
    with sdpa_kernel(CUDNN_FIRST, set_priority=True):
        return F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, **options)


def _scores(q_BHTD: Tensor, k_BHTD: Tensor, scale: float) -> Tensor:
    """scale q k^T, BHTT; whichever is smaller is scaled, queries or scores."""
    if q_BHTD.shape[-1] < k_BHTD.shape[-2]:
        return (q_BHTD * scale) @ k_BHTD.mT
    return (q_BHTD @ k_BHTD.mT).mul_(scale)


def split_heads(x_BTN: Tensor, heads: int) -> Tensor:
    """BTN -> BHTD."""
    return x_BTN.unflatten(-1, (heads, -1)).transpose(-3, -2)


def join_heads(x_BHTD: Tensor) -> Tensor:
    """BHTD -> BTN."""
    return x_BHTD.transpose(-3, -2).flatten(-2)


def glorot_rows(stacked: Tensor, width: int) -> None:
    """Fill a stack of width x width matrices with the Glorot-uniform distribution of each one."""
    bound = (3.0 / width) ** 0.5
    nn.init.uniform_(stacked, -bound, bound)


class SelfAttention(nn.Module):
    """Bidirectional multi-head self-attention, BTN -> BTN, scores scaled by 1/sqrt(D).

    `qkv` stacks the query, key and value matrices by rows; `out` is the output matrix, biased like them unless
    `out_bias` says otherwise. `dropout` falls on attention weights, `out_dropout` on the result.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ParameterError(f"width {width} is not a multiple of heads {heads}; choose heads that divide it")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias if out_bias is None else out_bias)
        self.out_dropout = nn.Dropout(out_dropout)

    def reset(self) -> None:
        """Draw the four matrices Glorot-uniform, each with its own fan; biases zero."""
        for linear in (self.qkv, self.out):
            glorot_rows(linear.weight, self.width)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, x_BTN: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x_BTN).chunk(3, -1))
        mixed = attend(q, k, v, self.scale, self.dropout if self.training else 0.0)
        return self.out_dropout(self.out(join_heads(mixed)))

    def forward_flops(self, batch: int, tokens: int) -> dict[str, int]:
        """FLOPs of one forward, two per multiply-add: projections 8 B T N H D, scores and mixing 2 B T^2 H D each."""
        inner = self.out.in_features  # H D: less than N once heads are removed
        linear, mixing = 2 * batch * tokens * self.width * inner, 2 * batch * tokens**2 * inner
        return {"qkv": 3 * linear, "scores": mixing, "mix": mixing, "out": linear}
