"""The Vision Transformer that CIFAR-10 is usually trained with from scratch."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from effi.models.attention import SelfAttention
from effi.models.vit import ViT, ViTShape


def cifar_vit(
    classes: int = 10,
    *,
    image_size: int = 32,
    patch: int = 4,
    channels: int = 3,
    width: int = 512,
    depth: int = 6,
    heads: int = 8,
    hidden: int = 512,
    dropout: float = 0.1,
    init: Literal["torch", "glorot"] = "torch",
    seed: int = 0,
) -> ViT:
    """ViT of kentaroy47/vision-transformers-cifar10 (models/vit.py): 9,523,722 parameters at the defaults.

    Pre-norm, class token, learned positions, query, key and value without bias. Dropout falls on the embedding, on
    the result of attention, after GELU and at the end of the MLP, not on attention weights.
    """
    shape = ViTShape(
        image_size=image_size,
        patch_size=patch,
        channels=channels,
        classes=classes,
        width=width,
        depth=depth,
        hidden=hidden,
        final_norm=True,
        pool="cls",
        positions="learned",
        dropout=dropout,
        embedding_dropout=dropout,
        init=init,
    )
    attention = partial(SelfAttention, width, heads, bias=False, out_bias=True, out_dropout=dropout)
    model = ViT(shape, attention=attention, seed=seed)
    for block in model.each_block():
        if block.mlp is not None:
            # One element, so that the matrices keep the places 0 and 2.
            block.mlp[1] = nn.Sequential(nn.GELU(), nn.Dropout(dropout))
    return model
