"""Several masks become one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from effi.errors import ParameterError
from effi.masks.fit import Mask, check_fit


def union(masks: Sequence[Mask]) -> Mask:
    """Keep what any mask keeps."""
    return vote(masks, at_least=1)


def intersection(masks: Sequence[Mask]) -> Mask:
    """Keep what all masks keep."""
    return vote(masks, at_least=len(masks))


def vote(masks: Sequence[Mask], at_least: int) -> Mask:
    """Keep what at least so many masks keep. ParameterError for masks that do not fit each other or for no masks."""
    if not 1 <= at_least <= len(masks):
        raise ParameterError(f"{at_least} votes cannot be had from {len(masks)} masks; ask for 1 to {len(masks)}")
    for mask in masks[1:]:
        check_fit(mask, masks[0])
    return {name: torch.stack([mask[name] for mask in masks]).sum(0) >= at_least for name in masks[0]}
