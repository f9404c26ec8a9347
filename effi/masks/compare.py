"""How sparse masks are and how much two of them differ; counts are integers, divided once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from effi.errors import ParameterError
from effi.masks.fit import Mask, check_fit


def sparsity(mask: Mask) -> float:
    """Share of weights that are pruned."""
    return (_size(mask) - _kept(mask)) / _size(mask)


def layer_sparsity(mask: Mask) -> dict[str, float]:
    """Parameter name -> share of its weights that are pruned; 1.0 is an emptied layer."""
    counts = torch.stack([kept.count_nonzero() for kept in mask.values()]).tolist() if mask else []
    return {
        name: (kept.numel() - count) / kept.numel() for (name, kept), count in zip(mask.items(), counts, strict=True)
    }


def distance(a: Mask, b: Mask) -> float:
    """Normalised Hamming distance in [0, 1]: differing positions / N. ParameterError for masks that do not fit. M2."""
    return _count(torch.bitwise_xor, a, b) / _size(a)


def overlap(a: Mask, b: Mask, *, of: Literal["pruned", "kept"] = "pruned") -> float:
    """Jaccard index |A and B| / |A or B| of the pruned, or kept, sets; 1 when both are empty."""
    if of not in ("pruned", "kept"):
        raise ParameterError(f'overlap of "{of}" is neither of "pruned" nor "kept"')
    kept_by_both, kept_by_any = _count(torch.bitwise_and, a, b), _count(torch.bitwise_or, a, b)
    shared, any_ = (kept_by_both, kept_by_any) if of == "kept" else (_size(a) - kept_by_any, _size(a) - kept_by_both)
    return shared / any_ if any_ else 1.0


def stability(a: Mask, b: Mask) -> float:
    """Chance-corrected agreement: 1 for equal masks, 0 for independent ones, 1 - d / (2 p (1 - p)) at equal sparsity p.

    For sparsities p and q chance gives d = p (1 - q) + q (1 - p). Two equal masks without any choice agree: 1.
    """
    p, q, differing = sparsity(a), sparsity(b), distance(a, b)
    return 1 - differing / (p * (1 - q) + q * (1 - p)) if differing else 1.0


def _size(mask: Mask) -> int:
    return sum(kept.numel() for kept in mask.values())


def _kept(mask: Mask) -> int:
    return int(torch.stack([kept.count_nonzero() for kept in mask.values()]).sum())


def _count(operation: Callable[[Tensor, Tensor], Tensor], a: Mask, b: Mask) -> int:
    """Positions where the operation on both masks is true; one wait for the device."""
    check_fit(a, b)
    counts = [operation(kept, b[name].to(kept.device)).count_nonzero() for name, kept in a.items()]
    return int(torch.stack(counts).sum())
