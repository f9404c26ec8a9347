"""What training holds in memory, by arithmetic: for models too large to be trained here (C7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from effi import axes, masks
from effi.early_bird import removal
from effi.models.vision import cifar_vit


def training_bytes(model: nn.Module, *, masked: bool = False) -> int:
    """Bytes of weights, gradients, Adam's two moments and step counts, and of a mask as it is held.

    What `History.held_bytes` measures, without a training; activations are not in it.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # A mask is held twice: as flags, and as the stencil that clears weights.
    mask = 2 * sum(weight.numel() for weight in masks.prunable(model).values()) if masked else 0
    return sum(4 * weight.nbytes + 4 for weight in weights) + mask


def bytes_of_tickets(ratios: Sequence[float], make: Callable[[], nn.Module] = cifar_vit) -> dict[str, float]:
    """C7: `training_bytes/ARM` of the dense model, of masks of all `ratios`, and after removal by EarlyBERT's recipe.

    Which heads and neurons go does not matter here, only how many.
    """
    whole = make()
    small = axes.slim(whole, removal.random_units(whole, 0))
    held = {f"eb-{ratio:g}": training_bytes(whole, masked=True) for ratio in ratios}
    held |= {"dense": training_bytes(whole), "structured": training_bytes(small)}
    return {f"training_bytes/{arm}": float(size) for arm, size in held.items()}
