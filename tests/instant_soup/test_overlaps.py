"""Overlaps in closed form, and the paper's cosines read by what is pruned (C7)."""

from __future__ import annotations

import pytest
import torch

from effi import masks
from effi.instant_soup import cosine, kept_overlap, pruned_overlap, shared_prunes


def two_masks(sparsity, seed=0):
    draw = torch.Generator().manual_seed(seed)
    weights = {"a": torch.randn(30, 40, generator=draw), "b": torch.randn(50, 20, generator=draw)}
    moved = {name: weight + 0.5 * torch.randn(weight.shape, generator=draw) for name, weight in weights.items()}
    return masks.magnitude(weights, sparsity), masks.magnitude(moved, sparsity)


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.8])
def test_closed_forms_are_the_overlaps_of_masks(sparsity):
    a, b = two_masks(sparsity)
    found = cosine(a, b)
    assert kept_overlap(found) == pytest.approx(masks.overlap(a, b, of="kept"))
    assert pruned_overlap(found, sparsity) == pytest.approx(masks.overlap(a, b, of="pruned"))


@pytest.mark.parametrize(
    ("percent", "found", "kept", "shared", "pruned"),
    [(10, 0.9627, 0.928, 0.664, 0.497), (20, 0.9875, 0.975, 0.950, 0.905), (30, 0.9432, 0.893, 0.867, 0.766)],
)
def test_the_papers_cosines_read_by_what_is_pruned(percent, found, kept, shared, pruned):
    """At 10 % the cosine is high and half of the prunes differ: the worst of the three, not the second."""
    sparsity = percent / 100
    assert kept_overlap(found) == pytest.approx(kept, abs=6e-4)
    assert shared_prunes(found, sparsity) == pytest.approx(shared, abs=6e-4)
    assert pruned_overlap(found, sparsity) == pytest.approx(pruned, abs=6e-4)
    assert shared_prunes(1 - sparsity, sparsity) == pytest.approx(sparsity), "chance"
    assert pruned_overlap(1.0, sparsity) == 1.0


def test_chance_is_what_random_masks_have():
    weights = {"w": torch.zeros(200_000)}
    draw = torch.Generator().manual_seed(0)
    a, b = (masks.random(weights, 0.3, generator=draw) for _ in range(2))
    assert cosine(a, b) == pytest.approx(0.7, abs=0.005)
    assert masks.overlap(a, b) == pytest.approx(0.3 / 1.7, abs=0.005)
