"""Small models and large ones of several architectures, to begin the large ones with the small ones' weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from effi.ligo.pieces import place
from effi.ligo.rivals import RIVALS
from effi.models.gpt import GPT
from effi.models.language import TextSize, language_model
from effi.models.vit import ViT, ViTShape
from tests.axes.tiny import scattered

SMALL = TextSize(16, 2, 2, 32)
WIDER, DEEPER, LARGER = TextSize(24, 2, 3, 48), TextSize(16, 4, 2, 32), TextSize(24, 4, 3, 48)
TWICE = TextSize(32, 3, 4, 80)


def vit(size: TextSize, **more: Any) -> nn.Module:
    sizes = {"width": size.width, "depth": size.depth, "hidden": size.hidden}
    choices = {"final_norm": True, "pool": "cls", "positions": "learned", **more}
    return ViT(ViTShape(8, 4, 1, 5, **sizes, **choices), heads=size.heads)


def words(kind: Any, size: TextSize) -> nn.Module:
    return language_model(kind, size=size, vocabulary=32, length=20, dropout=0.0)


def gpt(size: TextSize, **more: Any) -> nn.Module:
    return GPT(32, 20, size, **more)


PRE: dict[str, Callable[[TextSize], nn.Module]] = {
    "GPT": partial(gpt, bias=True),
    "GPT with a head of its own": partial(gpt, tied=False),
    "transformers GPT-2": partial(words, "gpt2"),
    "ViT": vit,
    "ViT without a last norm": partial(vit, final_norm=False, pool="mean"),
}
POST: dict[str, Callable[[TextSize], nn.Module]] = {
    "BERT": partial(words, "bert"),
    "RoBERTa": partial(words, "roberta"),
    "post-norm ViT": partial(vit, norm="post"),
}
MODELS = PRE | POST


def inputs(name: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if "ViT" in name:
        return torch.randn(3, 1, 8, 8, generator=generator)
    return torch.randint(3, 32, (3, 7), generator=generator)


def pair(name: str, size: TextSize) -> tuple[nn.Module, nn.Module]:
    """A small model and a large one, all of whose weights are drawn."""
    return scattered(MODELS[name](SMALL)), scattered(MODELS[name](size), seed=1)


def begun(rival: str, small: nn.Module, large: nn.Module, seed: int = 0) -> nn.Module:
    """The large model with the weights that a rival gives it."""
    place(large, RIVALS[rival](small, large, seed))
    return large


@torch.no_grad()
def gap(rival: str, name: str, size: TextSize) -> float:
    """The largest change of a logit by growth."""
    small, large = pair(name, size)
    return float((begun(rival, small, large)(inputs(name)) - small(inputs(name))).abs().max())
