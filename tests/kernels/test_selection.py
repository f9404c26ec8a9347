"""Masks have the count that was asked for, cut by position among equals, and nest; both paths, whatever the scores."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from effi import masks
from effi.kernels import selection, using
from effi.kernels.selection import Keyed
from effi.masks import select

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device")
FEW = settings(max_examples=60, deadline=None, derandomize=True)
# Few different values, so that ties are everywhere, and the ends of what a float32 can hold.
VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, 1e-45, -3e38, math.inf, -math.inf])
TENSORS = st.lists(st.lists(VALUES, max_size=40), min_size=1, max_size=4).filter(lambda found: sum(map(len, found)) > 1)
WAYS = st.sampled_from([select._keep_on_cpu, selection.by_torch])


def named(values: list[list[float]]) -> dict[str, Tensor]:
    return {str(place): torch.tensor(each) for place, each in enumerate(values)}


def flat(mask: masks.Mask) -> Tensor:
    return torch.cat([kept.reshape(-1) for kept in mask.values()])


def chosen(way, make):
    """A mask that one of the paths makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "_keep_on_cpu", way)
        return make()


@FEW
@given(WAYS, TENSORS, st.floats(0.001, 0.999), st.booleans())
def test_the_count_is_exact_and_ties_go_by_position(way, values, sparsity, absolute):
    scores, make = named(values), masks.magnitude if absolute else masks.smallest
    kept = flat(chosen(way, lambda: make(scores, sparsity)))
    assert int((~kept).sum()) == masks.pruned_count(sparsity, len(kept))
    ranked = flat(scores).abs() if absolute else flat(scores)
    pruned, left = ranked[~kept], ranked[kept]
    if len(pruned):
        edge = pruned.max()
        assert left.min() >= edge
        places = (ranked == edge).nonzero()[:, 0]
        assert kept[places].int().diff().ge(0).all(), "of equal ones the first are pruned"


@FEW
@given(WAYS, TENSORS, st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)))
def test_sparser_masks_nest(way, values, sparsities):
    weights = named(values)
    less, more = (flat(chosen(way, lambda p=p: masks.magnitude(weights, p))) for p in sorted(sparsities))
    assert not (more & ~less).any()


@FEW
@given(WAYS, TENSORS, TENSORS, st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)), st.booleans())
def test_within_a_mask_others_nest_whatever_their_scores(way, values, first, sparsities, apart):
    scores = named(values)
    like = {
        name: torch.rand(each.shape, generator=torch.Generator().manual_seed(len(first)))
        for name, each in scores.items()
    }
    less, more = sorted(sparsities)
    scope = "tensor" if apart else "global"
    within = masks.magnitude(like, less, scope=scope)
    mask = chosen(way, lambda: masks.smallest(scores, more, scope=scope, within=within))
    assert not (flat(mask) & ~flat(within)).any()
    sizes = [len(each) for each in scores.values()] if apart else [len(flat(scores))]
    assert int((~flat(mask)).sum()) == sum(masks.pruned_count(more, size) for size in sizes)


@FEW
@given(TENSORS, st.data())
def test_groups_are_each_what_they_are_alone(values, data):
    groups = [[Keyed(each, None, True)] for each in named(values).values()]
    counts = [data.draw(st.integers(0, len(group[0]))) for group in groups]
    for found, group, count in zip(selection.by_torch(groups, counts), groups, counts, strict=True):
        alone = selection.by_torch([group], [count])[0] if len(group[0]) else [torch.ones(0, dtype=torch.bool)]
        assert torch.equal(found[0], alone[0]) and int((~found[0]).sum()) == count


@CUDA
@pytest.mark.parametrize("kernels", [(), ("selection",)])
@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_chooses_the_same(kernels, scope, dtype):
    draw = torch.Generator().manual_seed(0)
    weights = {str(n): torch.randn(997, 100 + n, generator=draw).mul(2**7).round().to(dtype) for n in range(20)}
    there = {name: weight.cuda() for name, weight in weights.items()}
    for sparsity in (0.0005, 0.5, 0.98):
        within = masks.random(weights, sparsity / 2, generator=draw)
        on_gpu = {name: kept.cuda() for name, kept in within.items()}
        here = masks.magnitude(weights, sparsity, scope=scope, within=within)
        with using(*kernels):
            found = masks.magnitude(there, sparsity, scope=scope, within=on_gpu)
        assert masks.distance(here, found) == 0


@CUDA
def test_a_trusted_selection_on_a_gpu_waits_for_nothing():
    weights = {str(n): torch.randn(300, 200, device="cuda") for n in range(30)}
    for kernels in ((), ("selection",)):
        with using(*kernels):
            masks.magnitude(weights, 0.5, scope="tensor", trusted=True)  # compiles
            torch.cuda.set_sync_debug_mode("error")
            try:  # which raises where anything waits
                apart = masks.magnitude(weights, 0.5, scope="tensor", trusted=True)
                together = masks.magnitude(weights, 0.5, trusted=True)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert [masks.sparsity({name: kept}) for name, kept in apart.items()] == [0.5] * 30
            assert masks.sparsity(together) == 0.5
