"""Cross-entropy of a language head, a few tokens at a time: all their logits are never held at once. In plain torch.

Logits are made again in the backward pass, one product with the head more. Of T tokens, a width N and V ids the plain
way holds T V logits and as many gradients; this one TOKENS V of either. The reference is `F.cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

TOKENS = 1024  # at once: enough for a product to run as fast as with all


def cross_entropy(hidden: Tensor, matrix: Tensor, labels: Tensor, *, ignored: int = -100) -> tuple[Tensor, Tensor]:
    """Loss in nats of each label, 0 where it is `ignored`, and whether the largest logit is the label's.

    hidden (..., N), matrix (V, N), labels (...) int64 -> (...) and (...) bool. Under autocast products are in its type;
    losses are float32 at least, and so is the sum of the matrix' gradient, which is then rounded to its own type.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        hidden = hidden.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        flat = _CrossEntropy.apply(hidden.flatten(0, -2), matrix, labels.flatten(), ignored)
    losses, hits = (each.view(labels.shape) for each in flat)
    return losses, hits


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, matrix: Tensor, labels: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        kind = torch.promote_types(hidden.dtype, torch.float32)
        losses, totals = (hidden.new_empty(len(hidden), dtype=kind) for _ in range(2))
        hits, weights = torch.empty_like(labels, dtype=torch.bool), matrix.to(hidden.dtype)
        places = labels.masked_fill(labels == ignored, 0)
        for rows in _pieces(len(hidden)):
            logits = F.linear(hidden[rows], weights).to(kind)
            hits[rows] = logits.argmax(-1) == labels[rows]
            totals[rows] = logits.logsumexp(-1)
            losses[rows] = totals[rows] - logits.gather(1, places[rows, None])[:, 0]
        losses[labels == ignored] = 0
        ctx.save_for_backward(hidden, matrix, places, labels == ignored, totals)
        ctx.mark_non_differentiable(hits)
        return losses, hits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, matrix, places, left_out, totals = ctx.saved_tensors
        slope = slope.masked_fill(left_out, 0)
        for_hidden, for_matrix = ctx.needs_input_grad[:2]
        of_hidden = torch.empty_like(hidden) if for_hidden else None
        weights = matrix.to(hidden.dtype)
        # Sums of many pieces would lose what each adds in a narrow type.
        of_matrix = (
            torch.zeros_like(matrix, dtype=torch.promote_types(matrix.dtype, torch.float32)) if for_matrix else None
        )
        for rows in _pieces(len(hidden)):
            to_logits = F.linear(hidden[rows], weights).to(totals.dtype).sub_(totals[rows, None]).exp_()
            to_logits.scatter_add_(1, places[rows, None], -torch.ones_like(to_logits[:, :1]))
            to_logits = to_logits.mul_(slope[rows, None]).to(hidden.dtype)
            if of_hidden is not None:
                torch.mm(to_logits, weights, out=of_hidden[rows])
            if of_matrix is not None:
                _add(of_matrix, to_logits.t(), hidden[rows])
        return of_hidden, None if of_matrix is None else of_matrix.to(matrix.dtype), None, None


def _pieces(tokens: int) -> Iterator[slice]:
    return (slice(start, start + TOKENS) for start in range(0, tokens, TOKENS))


def _add(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b; a product of another type has to be made by itself."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
