"""Radix selection on the bits of scores that lie where they are: nothing is joined, copied, or waited for.

A program takes a piece of one tensor: a histogram of one digit of its keys, as `effi.kernels.selection.Keyed` defines
them, is added to that of its group. After each digit one program a group narrows its answer down. A last pass writes
the mask. Keys are read as unsigned numbers of the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from effi.kernels.gpu.table import ALIGNED, Table, dense, read, table, write

if TYPE_CHECKING:
    from effi.kernels.selection import Groups, Keyed

BLOCK, ROUNDS, WARPS = 2048, 16, 4
# A warp counts digits by votes, with one population count, a slow one, for every 32 bins: by machine code 4 passes of
# 256 bins issue a fifth as many as 11, 11 and 10 bits do, and a quarter of all instructions.
BITS = 8
SHIFTS = (24, 16, 8, 0)
# Columns of a row: addresses of scores, of flags and of the answer; the group; its first piece; the size.
COLUMNS = tl.constexpr(6)
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def keys(
    row: tl.tensor,
    at: tl.tensor,
    left: tl.tensor,
    DTYPE: tl.constexpr,
    FLAGS: tl.constexpr,
    ABSOLUTE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Keys (BLOCK,) from a place on as uint32 in the order of scores; `left` scores are there to be read."""
    scores = tl.multiple_of(tl.load(row).to(tl.pointer_type(DTYPE)), 16) + at
    bits = read(scores, left, BLOCK).to(tl.float32).to(tl.uint32, bitcast=True)
    key = bits | 0x80000000
    if not ABSOLUTE:
        key = tl.where(bits >= 0x80000000, (bits ^ 0xFFFFFFFF) + 1, key)
    if FLAGS:
        flags = tl.multiple_of(tl.load(row + 1).to(tl.pointer_type(tl.int8)), 16) + at
        key = tl.where(read(flags, left, BLOCK) != 0, key, 0)
    return key


@triton.jit
def count_digits(
    rows: tl.tensor,
    pieces: tl.tensor,
    state: tl.tensor,
    counts: tl.tensor,
    SHIFT: tl.constexpr,
    BITS: tl.constexpr,
    DTYPE: tl.constexpr,
    FLAGS: tl.constexpr,
    ABSOLUTE: tl.constexpr,
    BLOCK: tl.constexpr,
    ROUNDS: tl.constexpr,
) -> None:
    """Add to the counts (G, 2^BITS) the digits of keys that begin as their group's answer does."""
    piece = pieces + 2 * tl.program_id(0)
    row, start = rows + tl.load(piece) * COLUMNS, tl.load(piece + 1) * BLOCK * ROUNDS
    group, size = tl.load(row + 3), tl.load(row + 5)
    prefix = tl.load(state + 3 * group).to(tl.uint32)
    found = tl.zeros((1 << BITS,), tl.int32)
    for at in range(start, tl.minimum(start + BLOCK * ROUNDS, size), BLOCK):
        left = tl.minimum(size - at, BLOCK).to(tl.int32)
        key = keys(row, at, left, DTYPE, FLAGS, ABSOLUTE, BLOCK)
        counted = tl.arange(0, BLOCK) < left
        if SHIFT + BITS < 32:
            counted &= (key >> (SHIFT + BITS)) == prefix
        found += tl.histogram(((key >> SHIFT) & ((1 << BITS) - 1)).to(tl.int32), 1 << BITS, mask=counted)
    bins = tl.arange(0, 1 << BITS)
    tl.atomic_add(counts + (group << BITS) + bins, found, mask=found > 0, sem="relaxed")


@triton.jit
def choose_digit(state: tl.tensor, counts: tl.tensor, BITS: tl.constexpr) -> None:
    """Narrow answers down. State (G, 3): the digits so far, the rank among keys that begin so, the number of these."""
    group = tl.program_id(0)
    own = state + 3 * group
    bins = tl.arange(0, 1 << BITS)
    count = tl.load(counts + (group << BITS) + bins)
    prefix, rank, running = tl.load(own), tl.load(own + 1), tl.cumsum(count, 0)
    digit = tl.sum((running < rank).to(tl.int32), 0)
    tl.store(own, (prefix << BITS) + digit)
    tl.store(own + 1, rank - tl.max(tl.where(running < rank, running, 0), 0))
    tl.store(own + 2, tl.sum(tl.where(bins == digit, count, 0), 0).to(tl.int64))


@triton.jit
def count_ties(
    rows: tl.tensor,
    pieces: tl.tensor,
    state: tl.tensor,
    ties: tl.tensor,
    DTYPE: tl.constexpr,
    FLAGS: tl.constexpr,
    ABSOLUTE: tl.constexpr,
    BLOCK: tl.constexpr,
    ROUNDS: tl.constexpr,
) -> None:
    """How many keys of a piece equal the answer (P,), 0 where all of them or none are pruned, which needs no order."""
    piece = pieces + 2 * tl.program_id(0)
    row, start = rows + tl.load(piece) * COLUMNS, tl.load(piece + 1) * BLOCK * ROUNDS
    size, own = tl.load(row + 5), state + 3 * tl.load(row + 3)
    answer, rank, tied = tl.load(own).to(tl.uint32), tl.load(own + 1), tl.load(own + 2)
    found = tl.zeros((BLOCK,), tl.int32)
    if rank < tied:
        for at in range(start, tl.minimum(start + BLOCK * ROUNDS, size), BLOCK):
            left = tl.minimum(size - at, BLOCK).to(tl.int32)
            key = keys(row, at, left, DTYPE, FLAGS, ABSOLUTE, BLOCK)
            found += ((key == answer) & (tl.arange(0, BLOCK) < left)).to(tl.int32)
    tl.store(ties + tl.program_id(0), tl.sum(found, 0))


@triton.jit
def write_masks(
    rows: tl.tensor,
    pieces: tl.tensor,
    state: tl.tensor,
    running: tl.tensor,
    DTYPE: tl.constexpr,
    FLAGS: tl.constexpr,
    ABSOLUTE: tl.constexpr,
    BLOCK: tl.constexpr,
    ROUNDS: tl.constexpr,
) -> None:
    """Keep what is above the answer, and equal keys from their rank on; `running` (P + 1,) are ties before a piece."""
    program = tl.program_id(0)
    piece = pieces + 2 * program
    row, start = rows + tl.load(piece) * COLUMNS, tl.load(piece + 1) * BLOCK * ROUNDS
    size, own = tl.load(row + 5), state + 3 * tl.load(row + 3)
    answer, rank, tied = tl.load(own).to(tl.uint32), tl.load(own + 1), tl.load(own + 2)
    before = tl.load(running + program) - tl.load(running + tl.load(row + 4))
    spot = tl.arange(0, BLOCK)
    for at in range(start, tl.minimum(start + BLOCK * ROUNDS, size), BLOCK):
        left = tl.minimum(size - at, BLOCK).to(tl.int32)
        key = keys(row, at, left, DTYPE, FLAGS, ABSOLUTE, BLOCK)
        kept = key > answer
        if rank < tied:
            equal = ((key == answer) & (spot < left)).to(tl.int32)
            kept |= (equal > 0) & (before + tl.cumsum(equal, 0) > rank)
            before += tl.sum(equal, 0)
        out = tl.multiple_of(tl.load(row + 2).to(tl.pointer_type(tl.int8)), 16) + at
        write(out, kept.to(tl.int8), left, BLOCK)


def keep(groups: Groups, counts: Tensor) -> list[list[Tensor]]:
    """As `effi.kernels.selection.keep`: 4 passes over all scores, one over those of groups that ties part, and one."""
    tensors = [_readable(tensor, groups) for tensor in chain.from_iterable(groups)]
    device = tensors[0].scores.device
    starts = [0, *accumulate(-(-len(tensor) // ALIGNED) * ALIGNED for tensor in tensors)]
    answer = torch.empty(starts[-1], dtype=torch.bool, device=device)
    laid = _table(tensors, groups, [answer.data_ptr() + start for start in starts[:-1]], device)
    if len(laid.pieces):
        _launch(tensors[0], laid, counts)
    parts = (
        answer[start : start + len(tensor)].view(tensor.scores.shape)
        for start, tensor in zip(starts, tensors, strict=False)
    )
    return [[next(parts) for _ in group] for group in groups]


def _readable(tensor: Keyed, groups: Groups) -> Keyed:
    """Scores and flags that lie in order, and scores of a type that all have."""
    types = {each.scores.dtype for group in groups for each in group}
    scores = tensor.scores.detach()
    scores = scores if len(types) == 1 and types <= TYPES.keys() else scores.float()
    return replace(tensor, scores=dense(scores), kept=None if tensor.kept is None else dense(tensor.kept))


def _table(tensors: Sequence[Keyed], groups: Groups, answers: Sequence[int], device: torch.device) -> Table:
    sizes = [len(tensor) for tensor in tensors]
    owners = [number for number, group in enumerate(groups) for _ in group]
    pieces = [sum(-(-len(tensor) // (BLOCK * ROUNDS)) for tensor in group) for group in groups]
    firsts = [0, *accumulate(pieces)]
    columns = [
        [tensor.scores.data_ptr() for tensor in tensors],
        [0 if tensor.kept is None else tensor.kept.data_ptr() for tensor in tensors],
        answers,
        owners,
        [firsts[owner] for owner in owners],
    ]
    return table(columns, sizes, BLOCK * ROUNDS, device)


def _launch(like: Keyed, laid: Table, counts: Tensor) -> None:
    device, groups, pieces = counts.device, len(counts), len(laid.pieces)
    state = torch.stack([torch.zeros_like(counts), counts, torch.zeros_like(counts)], 1)
    digits = torch.zeros(len(SHIFTS), groups, 2**BITS, dtype=torch.int32, device=device)
    ties = torch.zeros(pieces + 1, dtype=torch.int32, device=device)
    read = {
        "DTYPE": TYPES[like.scores.dtype],
        "FLAGS": like.kept is not None,
        "ABSOLUTE": like.absolute,
        "BLOCK": BLOCK,
        "ROUNDS": ROUNDS,
        "num_warps": WARPS,
    }
    for shift, found in zip(SHIFTS, digits, strict=True):
        count_digits[(pieces,)](*laid, state, found, SHIFT=shift, BITS=BITS, **read)
        choose_digit[(groups,)](state, found, BITS=BITS, num_warps=WARPS)
    count_ties[(pieces,)](*laid, state, ties[1:], **read)
    write_masks[(pieces,)](*laid, state, ties.cumsum(0), **read)
