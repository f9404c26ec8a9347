"""Distances and overlaps of masks: their closed forms, exactly."""

from __future__ import annotations

import pytest
import torch

from effi import masks
from effi.errors import ParameterError


def mask(pruned: list[int], count: int) -> dict[str, torch.Tensor]:
    kept = torch.ones(count, dtype=torch.bool)
    kept[pruned] = False
    return {"a": kept[: count // 3], "b": kept[count // 3 :]}


def drawn(seed: int, sparsity: float, count: int = 100_000) -> dict[str, torch.Tensor]:
    return masks.random({"w": torch.empty(count)}, sparsity, generator=torch.Generator().manual_seed(seed))


def test_the_sheets_case():
    first, second = mask([1, 3, 5], 10), mask([1, 2, 5], 10)
    assert masks.distance(first, second) == 0.2
    assert 1 - masks.distance(first, second) / (2 * masks.sparsity(first)) == pytest.approx(2 / 3)
    assert masks.overlap(first, second) == 2 / 4
    assert masks.overlap(first, second, of="kept") == 6 / 8
    assert masks.sparsity(first) == 0.3


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_closed_forms_of_exact_masks(p):
    count, k = 1000, round(1000 * p)
    start = mask(list(range(k)), count)
    farthest = mask(list(range(count - k, count)), count)
    assert masks.distance(start, farthest) == pytest.approx(2 * min(p, 1 - p), abs=1e-12)
    for shift in range(0, k + 1, 50):
        moved = mask([(place + shift) % count for place in range(k)], count)
        d = masks.distance(start, moved)
        shared = 1 - d / (2 * p)
        assert masks.overlap(start, moved) == pytest.approx(shared / (2 - shared), abs=1e-12)
        assert masks.stability(start, moved) == pytest.approx(1 - d / (2 * p * (1 - p)), abs=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.9])
def test_independent_masks_differ_by_chance_and_have_no_stability(p):
    first, second = drawn(1, p), drawn(2, p)
    assert masks.distance(first, second) == pytest.approx(2 * p * (1 - p), abs=0.01)
    assert masks.stability(first, second) == pytest.approx(0, abs=0.03)


def test_at_distance_a_tenth_half_or_five_sixths_are_shared():
    for k, jaccard in ((100, 1 / 3), (300, 5 / 7)):
        start, moved = mask(list(range(k)), 1000), mask(list(range(50, k + 50)), 1000)
        assert masks.distance(start, moved) == 0.1
        assert masks.overlap(start, moved) == pytest.approx(jaccard)


def test_a_metric():
    a, b, c = (drawn(seed, 0.3, 1000) for seed in range(3))
    assert masks.distance(a, a) == 0
    assert masks.stability(a, a) == masks.overlap(a, a) == 1
    assert masks.distance(a, b) == masks.distance(b, a)
    assert masks.distance(a, c) <= masks.distance(a, b) + masks.distance(b, c)


def test_equality_of_a_tenth_is_exact():
    """An integer divided once: 0.1 is the float 0.1, so that a strict rule sees it."""
    assert masks.distance(mask([0, 1, 2], 20), mask([0, 1, 3], 20)) == 0.1


def test_masks_without_pruned_weights_agree():
    whole = mask([], 9)
    assert masks.overlap(whole, whole) == masks.stability(whole, whole) == 1
    assert masks.stability(whole, mask([1], 9)) == pytest.approx(0)


def test_an_emptied_layer_shows():
    assert masks.layer_sparsity(mask([0, 1, 2, 5], 9)) == {"a": 1.0, "b": 1 / 6}


def test_merging():
    a, b, c = mask([0, 1, 2], 9), mask([0, 1, 3], 9), mask([0, 4, 5], 9)
    expected = {1: [0], 2: [0, 1], 3: [0, 1, 2, 3, 4, 5]}
    for votes, pruned in expected.items():
        assert masks.distance(masks.vote([a, b, c], at_least=votes), mask(pruned, 9)) == 0
    assert masks.distance(masks.union([a, b, c]), mask([0], 9)) == 0
    assert masks.distance(masks.intersection([a, b, c]), mask(expected[3], 9)) == 0
    for votes, several in ((0, [a]), (3, [a, b]), (1, [])):
        with pytest.raises(ParameterError, match="votes cannot be had"):
            masks.vote(several, at_least=votes)


@pytest.mark.parametrize("compare", [masks.distance, masks.overlap, masks.stability, lambda a, b: masks.union([a, b])])
def test_masks_of_different_weights_are_named(compare):
    a = mask([1], 9)
    with pytest.raises(ParameterError, match='"b" has shape'):
        compare(a, {**a, "b": torch.ones(5, dtype=torch.bool)})
    with pytest.raises(ParameterError, match='has "b"'):
        compare(a, {"a": a["a"]})
    with pytest.raises(ParameterError, match='has "c"'):
        compare(a, {**a, "c": a["b"]})


def test_overlap_of_an_unknown_set():
    with pytest.raises(ParameterError, match='overlap of "alive"'):
        masks.overlap(mask([1], 9), mask([2], 9), of="alive")
