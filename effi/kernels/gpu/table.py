"""Many tensors for one launch: a table of their addresses, and the pieces that programs take, in one copy to a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from effi.kernels.sending import to_device

ALIGNED = 16  # bytes of the widest load


class Table(NamedTuple):
    """`rows` (T, columns) and `pieces` (P, 2), the tensor and its how manyth piece; both int64 on the device."""

    rows: Tensor
    pieces: Tensor


def table(columns: Sequence[Sequence[int]], sizes: Sequence[int], piece: int, device: torch.device) -> Table:
    """Rows of each tensor's entries, its size the last one, and every piece of so many elements in order."""
    rows = np.array([*columns, sizes], dtype=np.int64).T
    counts = -(-rows[:, -1] // piece)
    owner = np.repeat(np.arange(len(rows)), counts)
    place = np.arange(len(owner)) - np.repeat(counts.cumsum() - counts, counts)
    sent = to_device(np.concatenate([rows.ravel(), np.stack([owner, place], 1).ravel()]), device)
    return Table(sent[: rows.size].view(rows.shape), sent[rows.size :].view(-1, 2))


def dense(tensor: Tensor) -> Tensor:
    """A tensor whose elements lie in order from an address that wide loads can begin at: itself, or a copy."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % ALIGNED == 0 else tensor.clone()


@triton.jit
def read(pointer: tl.tensor, left: tl.tensor, BLOCK: tl.constexpr) -> tl.tensor:
    """Elements (BLOCK,) from a pointer on, 0 from `left` on; a mask in every load would split it into single ones."""
    spot = tl.arange(0, BLOCK)
    if left >= BLOCK:  # noqa: SIM108 - a compiled branch has no other form
        found = tl.load(pointer + spot)
    else:
        found = tl.load(pointer + spot, mask=spot < left, other=0)
    return found


@triton.jit
def write(pointer: tl.tensor, values: tl.tensor, left: tl.tensor, BLOCK: tl.constexpr) -> None:
    """Store the first `left` of values (BLOCK,)."""
    spot = tl.arange(0, BLOCK)
    if left >= BLOCK:
        tl.store(pointer + spot, values)
    else:
        tl.store(pointer + spot, values, mask=spot < left)
