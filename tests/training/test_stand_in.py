"""What a GPU is asked for while a model trains, told to a stand-in for its driver."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from effi import cost
from effi.bench import gpu
from effi.cost import Ledger
from effi.masks import holding
from effi.seeds import seeded
from effi.training import snapshot
from effi.training.ranks import Ranks
from tests.driver import MILLISECONDS, PEAK, stand_in


def test_a_phase_waits_for_the_device_before_each_look_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = stand_in(monkeypatch)
    monkeypatch.setattr(cost, "_joules", lambda device: driver.asked.append("joules"))
    ledger = Ledger("cuda")
    with ledger.phase("train"):
        driver.asked.append("step")
    before, after = (driver.asked[part] for part in (slice(0, driver.asked.index("step")), slice(-3, None)))
    assert {"synchronize", "reset peak"} <= set(before) and after == ["synchronize", "joules", "peak"]
    assert ledger.total()["peak_bytes"] == PEAK


def test_a_call_is_timed_between_two_events(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = stand_in(monkeypatch)
    assert gpu.seconds(lambda: driver.asked.append("step")) == MILLISECONDS / 1e3
    assert driver.asked == ["mark", "step", "mark", "wait"]


def test_a_block_draws_on_the_device_and_leaves_its_generator_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = stand_in(monkeypatch)
    before, drawn = driver.get_rng_state(), []
    for _ in range(2):
        with seeded(1, "dropout", "cuda"):
            drawn.append(torch.rand(8, generator=driver.generator))
    assert torch.equal(*drawn) and torch.equal(driver.get_rng_state(), before)


def test_a_checkpoint_holds_the_devices_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = stand_in(monkeypatch)
    loop = SimpleNamespace(device=torch.device("cuda"), orders=[], augments=[], ranks=Ranks())
    streams = snapshot._streams(loop)
    assert set(streams) == {"cpu", "cuda"}
    first = torch.rand(8, generator=driver.generator)
    snapshot._set_stream(loop, "cuda", streams["cuda"])
    assert torch.equal(torch.rand(8, generator=driver.generator), first)


class OnGpu(Tensor):
    """A tensor that says it lies on a GPU."""

    is_cuda = True


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_is_pruned_is_cleared_by_a_narrow_stencil_too(dtype: torch.dtype) -> None:
    value = torch.tensor([1.0, torch.inf, -3.0, torch.nan], dtype=dtype).as_subclass(OnGpu)
    holding._clear(value, -torch.tensor([True, False, True, False]).to(torch.int8))
    assert value.tolist() == [1.0, 0.0, -3.0, 0.0]
