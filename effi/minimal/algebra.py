"""Claims that algebra settles: what merging keeps (C12) and how fast a stack grows (C14)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from effi.minimal.attention import Attention, copy_merged, score_matrix
from effi.minimal.variants import Variant
from effi.models.vit import ViT
from effi.seeds import generator, seeded


def merging_error(width: int = 60, depth: int = 6, tokens: int = 16, seed: int = 0) -> dict[str, float]:
    """C12 in float64: largest differences that merging makes.

    "query_key_difference": attention with Wqk = Wq Wk^T against the factored one, biases included. "difference": a
    stack without residuals and norms against its merged model; "difference_with_residual": with both.
    """
    result = {"query_key_difference": query_key_error(width, tokens, seed)}
    forms: list[tuple[str, Literal["none", "pre"], bool]]
    forms = [("difference", "none", False), ("difference_with_residual", "pre", True)]
    for name, norm, skip in forms:
        variant = Variant(mlp=False, width=width, depth=depth, norm=norm, skip=skip, attention_bias=False)
        model = variant.model((1, 32, 32), 8, 10, seed=seed).double()
        x_BTN = torch.randn(2, tokens, width, dtype=torch.float64, generator=generator(seed, "tokens"))
        smaller, value = merged_model(model)
        result[name] = (stack(model, x_BTN) - stack(smaller, x_BTN) @ value).abs().max().item()
    return result


@torch.no_grad()
def query_key_error(width: int, tokens: int, seed: int) -> float:
    """Largest difference between one-head attention and its copy with Wq and Wk merged, with random biases."""
    with seeded(seed):
        full, merged = Attention(width).double(), Attention(width, query_key="collapsed").double()
        for linear in (full.projection, full.out):
            assert isinstance(linear, nn.Linear)
            linear.bias.normal_()
        copy_merged(full, merged)
        x_BTN = torch.randn(2, tokens, width, dtype=torch.float64)
    return (full(x_BTN) - merged(x_BTN)).abs().max().item()


@torch.no_grad()
def stack(model: ViT, x_BTN: Tensor) -> Tensor:
    """Tokens after all blocks."""
    for block in model.blocks:
        x_BTN = block(x_BTN)
    return x_BTN


@torch.no_grad()
def merged_model(model: ViT) -> tuple[ViT, Tensor]:
    """The model with S + 1 matrices: blocks with nothing but Wqk, and one matrix (N, N) that follows the last (Sec. 3).

    Wqk of block s is V Wqk V^T with V = Wvo_1 ... Wvo_(s-1), since its tokens are no longer multiplied by V; one head,
    no biases. The same function without residuals and norms, another one with them.
    """
    shape, value = model.shape, torch.eye(model.shape.width, dtype=model.head.weight.dtype)
    form = partial(Attention, shape.width, query_key="collapsed", value_output="dropped", bias=False)
    smaller = ViT(shape, attention=form).to(model.head.weight.dtype)
    for block, target in zip(model.each_block(), smaller.each_block(), strict=True):
        source, attention = cast(Attention, block.attention), cast(Attention, target.attention)
        assert isinstance(source.out, nn.Linear)
        attention.named_rows()["query"].copy_((value @ score_matrix(source)[0] @ value.T).T)
        value = value @ source.named_rows()["value"].T @ source.out.weight.T
    return smaller, value


@torch.no_grad()
def growth_order(depth: int = 2, width: int = 12, factor: float = 10.0, seed: int = 0) -> dict[str, float]:
    """C14: the polynomial order of a bare stack with linear scores, from how its output grows with its input."""
    bare = Variant(mlp=False, width=width, depth=depth, norm="none", skip=False, attention_bias=False)
    model = replace(bare, mixing="linear").model((1, 32, 32), 8, 10, seed=seed).double()
    x_BTN = torch.randn(2, 16, width, dtype=torch.float64, generator=generator(seed, "tokens"))
    ratio = stack(model, factor * x_BTN) / stack(model, x_BTN)
    return {"order": math.log(ratio.median().item(), factor)}
