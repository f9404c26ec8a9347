"""Digits, and a model that trains a step in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from effi import masks
from effi.cost import Ledger
from effi.instant_soup import Denoiser, Noise, Pruned, Rounds, instant_soup
from effi.masks import Mask
from effi.models.vit import ViT, ViTShape
from effi.training import Training

SHAPE = ViTShape(image_size=8, patch_size=4, channels=1, classes=10, width=16, depth=2, hidden=32)
WEIGHTS = 2 * (4 * 16**2 + 2 * 16 * 32)  # prunable
EXAMPLES, BATCH, PER_EPOCH, EPOCHS = 320, 16, 20, 2
TOTAL = EPOCHS * PER_EPOCH
TRAINING = Training(epochs=EPOCHS, batch_size=BATCH, optimizer="adamw", lr=3e-3, weight_decay=0.01, schedule="linear")
# Segments of 2, 4, 6 and 8 steps.
ROUNDS = Rounds(0.45, rate=0.15)
SHORT = Denoiser(nets=2, steps=3, noise=Noise(fraction=0.2))


def vit(seed: int = 0) -> ViT:
    return ViT(SHAPE, heads=2, seed=seed)


def souped(
    data: Any,
    denoiser: Denoiser = SHORT,
    rounds: Rounds = ROUNDS,
    training: Training = TRAINING,
    *,
    model: ViT | None = None,
    seed: int = 0,
    ledger: Ledger | None = None,
    **options: Any,
) -> tuple[ViT, Pruned, Ledger]:
    model, ledger = model or vit(), ledger or Ledger()
    made = instant_soup(model, data, training, rounds, denoiser, seed=seed, ledger=ledger, **options)
    return model, made, ledger


def same_mask(a: Mask, b: Mask) -> bool:
    return a.keys() == b.keys() and all(torch.equal(kept, b[name]) for name, kept in a.items())


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a.parameters(), b.parameters(), strict=True))


def within(inner: Mask, outer: Mask) -> bool:
    """Whether what the inner mask keeps is kept by the outer one."""
    return all(not (kept & ~outer[name]).any() for name, kept in inner.items())


def pruned(mask: Mask) -> int:
    return sum(int((~kept).count_nonzero()) for kept in mask.values())


def obeys(weights: Mapping[str, Tensor], mask: Mask) -> bool:
    return not any(weights[name][~kept].any() for name, kept in mask.items())


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in masks.prunable(model).items()}


def apart(a: Iterable[Tensor], b: Iterable[Tensor]) -> float:
    """The largest difference."""
    return max((one - other).abs().max().item() for one, other in zip(a, b, strict=True))
