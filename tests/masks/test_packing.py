"""Packed masks lose nothing, and XOR with popcount is the float definition and the Gram matrix, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from effi import masks
from effi.errors import ParameterError
from effi.masks import packing


def mask(seed: int, sparsity: float = 0.3, shapes=((7, 9), (5,), (1, 1), (8, 20))) -> dict[str, torch.Tensor]:
    weights = {str(index): torch.empty(shape) for index, shape in enumerate(shapes)}
    return masks.random(weights, sparsity, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shapes", [((7, 9), (5,)), ((8, 8),), ((3,),), ((64, 3), (1,)), ((5, 5), (0,), (2, 2))])
def test_unpacking_gives_the_mask_back(shapes):
    first = mask(0, 0.4, shapes)
    bits = masks.pack(first)
    count = sum(kept.numel() for kept in first.values())
    assert bits.dtype == torch.uint8
    assert len(bits) == -(-count // 8)
    again = masks.unpack(bits, first)
    assert list(again) == list(first)
    assert all(torch.equal(again[name], first[name]) and again[name].dtype == torch.bool for name in first)


def test_first_weight_is_the_highest_bit_and_the_rest_is_zero():
    bits = masks.pack({"a": torch.tensor([True, False, True]), "b": torch.ones(7, dtype=torch.bool)})
    assert bits.tolist() == [0b10111111, 0b11000000]


@pytest.mark.parametrize(("count", "size"), [(9_437_184, 1_179_648), (26_542_080, 3_317_760), (84_934_656, 10_616_832)])
def test_bytes_of_the_sheets_snapshots(count, size):
    assert len(masks.pack({"w": torch.ones(1, dtype=torch.bool).expand(count)})) == size


@pytest.mark.parametrize("count", [64, 800, 801, 999, 1007, 70_003])
def test_three_forms_of_the_distance_are_equal_bit_for_bit(count, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 64)
    p, snapshots = 0.3, [mask(seed, 0.3, ((count,),)) for seed in range(6)]
    packed = torch.stack([masks.pack(one) for one in snapshots])
    matrix = masks.distance_matrix(packed, count)
    gone = torch.stack([(~one["0"]).double() for one in snapshots])
    k = int(p * count + 1e-9)
    gram = 2 * (k - gone @ gone.T) / count
    definition = (gone[:, None] - gone[None]).abs().sum(-1) / count
    assert matrix.dtype == torch.float64
    assert torch.equal(matrix, gram)
    assert torch.equal(matrix, definition)
    assert torch.equal(matrix, matrix.T)
    assert not matrix.diagonal().any()
    assert matrix[1, 4] == masks.distance(snapshots[1], snapshots[4])
    assert matrix[1, 4] == masks.packed_distance(packed[1], packed[4], count)


def test_one_snapshot_has_no_distance():
    assert masks.distance_matrix(masks.pack(mask(0))[None], 229).tolist() == [[0.0]]


def test_bits_that_do_not_fit():
    bits = masks.pack(mask(0))
    with pytest.raises(ParameterError, match=r"300 weights pack into 38 bytes"):
        masks.distance_matrix(torch.stack([bits, bits]), 300)
    with pytest.raises(ParameterError, match=r"63 weights pack into 8 bytes"):
        masks.unpack(bits, {"w": torch.empty(7, 9)})
    with pytest.raises(ParameterError, match=r"torch.int64"):
        masks.unpack(bits.long(), mask(0))


def test_words_are_padded_with_zeros():
    assert packing._words(np.full((2, 9), 255, np.uint8)).tolist() == [[2**64 - 1, 255]] * 2
