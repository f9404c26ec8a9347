"""Masks as bits: an eighth of the bytes, and distances by XOR and popcount."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from effi.errors import ParameterError
from effi.masks.fit import Mask

CHUNK = 2**15  # bytes of a row at a time: two blocks of rows stay in the processor's cache


def pack(mask: Mask) -> Tensor:
    """Bits of all tensors in order, first bit highest, on the CPU: uint8 (ceil(N / 8),), rest bits 0."""
    bits = torch.cat([kept.reshape(-1) for kept in mask.values()])
    return torch.from_numpy(np.packbits(bits.cpu().numpy()))


def unpack(bits: Tensor, like: Mapping[str, Tensor]) -> Mask:
    """The mask that was packed; `like` gives names, shapes and devices. ParameterError when the bytes do not fit."""
    sizes = [tensor.numel() for tensor in like.values()]
    _check_bytes(bits, sum(sizes))
    flat = torch.from_numpy(np.unpackbits(bits.cpu().numpy(), count=sum(sizes))).bool().split(sizes)
    return {name: part.view(like[name].shape).to(like[name].device) for name, part in zip(like, flat, strict=True)}


def packed_distance(a: Tensor, b: Tensor, count: int) -> float:
    """`distance` of two packed masks over `count` weights."""
    return float(distance_matrix(torch.stack([a, b]), count)[0, 1])


def distance_matrix(rows: Tensor, count: int) -> Tensor:
    """Distances of T packed masks over `count` weights: uint8 (T, bytes) -> float64 (T, T), on the CPU."""
    _check_bytes(rows[0], count)
    words = _words(rows.cpu().numpy())
    starts = range(0, words.shape[1], CHUNK // 8)
    none = np.zeros((len(words), len(words)), np.int64)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        upper = sum(pool.map(lambda start: _differing(words[:, start : start + CHUNK // 8]), starts), none)
    return torch.from_numpy((upper + upper.T) / count)


def _words(rows: np.ndarray) -> np.ndarray:
    """Rows as 64-bit words, padded with zeros."""
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view(np.uint64)


def _differing(words: np.ndarray) -> np.ndarray:
    """Differing bits of each row and every later one, int64 (T, T)."""
    counts = np.zeros((len(words), len(words)), np.int64)
    for row in range(len(words) - 1):
        counts[row, row + 1 :] = np.bitwise_count(words[row] ^ words[row + 1 :]).sum(1, dtype=np.int64)
    return counts


def _check_bytes(bits: Tensor, count: int) -> None:
    if bits.dtype != torch.uint8 or bits.numel() != -(-count // 8):
        raise ParameterError(
            f"{count:,} weights pack into {-(-count // 8):,} bytes (uint8), and not into {bits.numel():,} of "
            f"{bits.dtype}; unpack with the weights that were packed"
        )
