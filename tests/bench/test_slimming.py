"""Both ways of removing units give the same model; the benchmark's rows are complete on a tiny one."""

from __future__ import annotations

import pytest
import torch

from effi.axes import slim, units
from effi.bench import peers, slimming
from effi.bench.rounds import Missing
from effi.models.vision import cifar_vit
from effi.models.vit import ViT
from tests.bench.conftest import complete


def tiny() -> ViT:
    return cifar_vit(5, image_size=8, width=24, depth=2, heads=6, hidden=20).eval()


def test_torch_pruning_removes_the_same_units() -> None:
    model, images = tiny(), torch.randn(2, 3, 8, 8)
    keep = slimming.kept(model)
    try:
        theirs = slimming.torch_pruning(model, keep)
    except Missing as reason:
        pytest.skip(f"torch-pruning {reason}")
    ours = slim(model, keep)
    assert torch.allclose(theirs(images), ours(images), atol=1e-6)
    assert [p.shape for p in theirs.parameters()] == [p.shape for p in ours.parameters()]
    assert not theirs.training
    assert slimming.torch_pruning(model.train(), keep).training
    assert theirs.forward_flops(2) == ours.forward_flops(2)
    assert units(model)["blocks.0.attention.heads"] == 6


def test_the_shares_are_those_of_earlybert() -> None:
    model = tiny()
    keep = slimming.kept(model)
    assert [len(keep[f"blocks.{index}.attention.heads"]) for index in (0, 1)] == [4, 4]
    assert sum(len(keep[f"blocks.{index}.mlp.neurons"]) for index in (0, 1)) == 24


def test_rows_are_complete() -> None:
    removal, training = slimming.slimming(tiny(), batch=2)
    rows = complete(removal) | complete(training)
    assert {"effi", "dense", "slim", "torch-pruning"} == set(rows)
    assert rows["slim"].flops < rows["dense"].flops
    assert rows["slim"].parameters == sum(p.numel() for p in slim(tiny(), slimming.kept(tiny())).parameters())


def test_the_more_is_removed_the_fewer_flops_are_left() -> None:
    rows = complete(slimming.steps_by_share(tiny(), batch=2))
    assert list(rows) == ["dense", "quantile 0.25", "quantile 0.5", "quantile 0.75"]
    flops = [row.flops for row in rows.values()]
    assert flops == sorted(flops, reverse=True) and len(set(flops)) == 4


def test_without_torch_pruning_ours_is_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    for case in slimming.slimming(tiny(), batch=2):
        *ours, theirs = complete(case).values()
        assert theirs.note == "not installed: uv pip install torch-pruning"
        assert all(row.seconds for row in ours)
