"""The Swin Transformer has the published sizes; its merging is an unfold and its blocks look through windows."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from effi.cost import count_flops, forward_flops, train_flops
from effi.errors import ParameterError
from effi.masks import prunable
from effi.models.swin import PatchMerging, Swin, swin

SMALL = {"width": 12, "depths": (2, 1), "heads": (3, 6), "factors": (2, 2), "image_size": 16, "channels": 1}


def small(**changes: object) -> Swin:
    return swin(4, **SMALL | changes)


def images(count: int = 2, channels: int = 1, side: int = 16) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def test_golden_counts():
    with torch.device("meta"):
        model = swin()
    weights = prunable(model)
    assert sum(p.numel() for p in weights.values()) == 26_542_080
    assert sum(p.numel() for name, p in weights.items() if "reduction" in name) == 663_552
    assert len(weights) == 12 * 4 + 3
    tables, norms = 49 * 3 * (2 + 2 * 2 + 6 * 4 + 2 * 8), 4 * (2 * 96 + 2 * 192 + 6 * 384 + 2 * 768) + 2 * 768
    biases = 6 * (2 * 96 + 2 * 192 + 6 * 384 + 2 * 768) + 192 + 384 + 768
    stem, head = 13 * 96, 769 * 10
    assert sum(p.numel() for p in model.parameters()) == 26_542_080 + tables + norms + biases + stem + head


def test_merging_is_unfold_and_linear():
    merging, x = PatchMerging(3, 5, 2), torch.randn(2, 3, 8, 8)
    unfolded = F.unfold(x, 2, stride=2).view(2, 12, 4, 4).permute(0, 2, 3, 1)
    expected = F.linear(unfolded, merging.reduction.weight, merging.reduction.bias)
    assert torch.allclose(merging(x.permute(0, 2, 3, 1)), expected, atol=1e-6)


def reached(depth: int) -> list[int]:
    """Columns of an 8 x 8 grid that depend on its first column after `depth` blocks."""
    model = swin(2, width=6, depths=(depth,), heads=(3,), factors=(2,), image_size=16, channels=1).eval()
    x, changed = images(1), images(1)
    changed[..., :2] += 1
    parts = [model.stages(model.stem(each.permute(0, 2, 3, 1))) for each in (x, changed)]
    return (parts[0] - parts[1]).abs().amax((0, 1, 3)).gt(1e-7).nonzero().flatten().tolist()


def test_the_second_block_looks_across_windows_but_not_around_the_edge():
    assert reached(1) == [0, 1, 2, 3]
    assert reached(2) == [0, 1, 2, 3, 4, 5]


def test_windows_shrink_to_the_grid():
    model = small(image_size=8)
    assert model.sides == [4, 2]
    assert [model.stages[i][0].attn.window_size for i in (0, 2)] == [[4, 4], [2, 2]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image_size": 8},
        {"channels": 3, "depths": (1, 2, 1), "heads": (3, 6, 12), "factors": (2, 2, 1), "image_size": 32},
        {"window": 2, "factors": (1, 2), "image_size": 8},
    ],
    ids=str,
)
def test_flops(changes):
    sizes = SMALL | changes
    model, x = small(**changes), images(2, sizes["channels"], sizes["image_size"])
    assert sum(forward_flops(model, x).values()) == count_flops(lambda: model(x))
    assert train_flops(model, x) == count_flops(lambda: model(x).sum().backward())


def test_weights_follow_the_seed():
    first, again, other = (small(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(first[name].equal(again[name]) for name in first)
    drawn = [name for name in first if "norm" not in name and "index" not in name]
    assert not any(first[name].equal(other[name]) for name in drawn)


def test_every_parameter_is_trained_and_nothing_is_random():
    model = small().train()
    assert model(images()).equal(model(images()))
    model(images()).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 28}, r"stage 0 cannot divide a side of 28 by factor 2 and windows of 4: choose"),
        ({"factors": (2, 3)}, "stage 1 cannot divide a side of 8 by factor 3"),
        ({"heads": (3, 5)}, r"heads \(3, 5\) must divide the widths of their stages, \(12, 24\)"),
        ({"heads": (3,)}, "one depth, head count and factor per stage"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ParameterError, match=message):
        small(**changes)
