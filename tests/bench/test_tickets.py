"""The first paper's benchmark: every way finds the same mask, and every competitor does its work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi import masks
from effi.bench import tickets
from effi.bench.suites import SHAPE
from effi.models.vit import ViT
from tests.bench.conftest import complete

SIDES = (20, 25)
TINY = replace(SHAPE, image_size=8, width=16, depth=1, hidden=32)


def test_every_way_finds_the_same_mask() -> None:
    weights = tickets.noise(4, SIDES)
    ours = torch.stack(list(tickets.WAYS["effi"](weights).values()))
    others = {
        "torch.nn.utils.prune": torch.stack([holder.weight_mask for holder in tickets.by_torch_prune(weights)]).bool(),
        "torch.topk": tickets.by_topk(weights).view(ours.shape),
        "numpy.partition": torch.stack(list(tickets.by_partition(weights).values())),
        "effi, kernel": torch.stack(list(tickets.by_kernel(weights).values())),
        "torch.sort": tickets.by_sort(weights).view(ours.shape),
        "torch.kthvalue": tickets.by_kthvalue(weights).view(ours.shape),
    }
    assert {"effi", *others} == set(tickets.WAYS)
    assert ours.logical_not().sum() == 600
    assert all(torch.equal(ours, other) for other in others.values())


def test_selection_reports_extra_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "apart", lambda way, tensors, sides, device: 7)
    case = tickets.selection(4, SIDES)
    found = complete(case)
    assert case.title.endswith("M in 4")
    assert {row.extra_bytes for row in found.values()} == {7}


@pytest.mark.slow
def test_extra_memory_is_that_of_the_mask_at_least() -> None:
    weights = 4 * 1000 * 1000
    extra = tickets.apart("effi", 4, (1000, 1000))
    if extra is None:
        pytest.skip("this system does not report peak memory")
    assert 0.9 * weights < extra < 10 * weights


def test_tracking_and_its_share_of_an_epoch() -> None:
    case = tickets.tracking(ViT(TINY, heads=2), batch=2, images=7)
    assert case.title == "tracking 5 ratios, once in 4 steps"
    assert set(complete(case)) == {"step", "track"}


def test_both_heat_maps_are_equal() -> None:
    rows = torch.randint(256, (5, 125), dtype=torch.uint8)
    assert torch.equal(tickets.gram(rows, 1000), masks.distance_matrix(rows, 1000))
    complete(tickets.heat_map(5, 1000))


def test_a_step_under_a_mask_trains_under_it() -> None:
    found = complete(tickets.held(ViT(TINY, heads=2), batch=2))
    assert len({row.parameters for row in found.values()}) == 1


def test_the_suite_removes_structures_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "slimming", lambda: ["slim"])
    cases = tickets.early_bird()
    assert cases[-1] == "slim"
    assert [case.title.split(",")[0] for case in cases[:-1]] == [
        "magnitude",
        "tracking 5 ratios",
        "heat map",
        "step under a mask",
    ]
