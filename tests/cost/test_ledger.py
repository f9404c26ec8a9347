"""The account of one arm, and measured time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from effi import cost
from effi.cost import PACE, Ledger, measure, money, share
from effi.errors import ParameterError, RecordError


def test_phases_add_up_and_may_reopen() -> None:
    ledger = Ledger()
    for _ in range(2):
        with ledger.phase("search"):
            ledger.add_flops(10)
            time.sleep(0.01)
    with ledger.phase("train"):
        ledger.add_flops(5)
    ledger.add_flops(1)
    total = ledger.total()
    assert list(total) == ["flops", "paper_flops", "seconds", "peak_bytes", "joules", "phases", "aside", "side_by_side"]
    assert total["flops"] == 26 and total["side_by_side"] == 1
    assert {name: phase["flops"] for name, phase in total["phases"].items()} == {"search": 20, "train": 6}
    assert total["phases"]["search"]["seconds"] >= 0.02 > total["phases"]["train"]["seconds"] > 0
    assert total["seconds"] == sum(phase["seconds"] for phase in total["phases"].values())


def test_flops_outside_a_phase_count_as_training() -> None:
    ledger = Ledger()
    ledger.add_flops(3)
    account = {"flops": 3, "paper_flops": 3, "seconds": 0.0, "peak_bytes": None, "joules": None}
    assert ledger.total()["phases"]["train"] == account


def test_an_empty_ledger_costs_nothing() -> None:
    nothing = {"flops": 0, "paper_flops": 0, "seconds": 0, "peak_bytes": None, "joules": None}
    assert Ledger().total() == {**nothing, "phases": {}, "aside": {}, "side_by_side": 1}


def test_inner_phases_are_not_paid_twice() -> None:
    ledger = Ledger()
    with ledger.phase("train"):
        time.sleep(0.02)
        with ledger.phase("search"):
            ledger.add_flops(7)
            time.sleep(0.06)
        ledger.add_flops(1)
        time.sleep(0.02)
    phases = ledger.total()["phases"]
    assert 0.04 <= phases["train"]["seconds"] < 0.06 <= phases["search"]["seconds"]
    assert (phases["train"]["flops"], phases["search"]["flops"]) == (1, 7)


def test_what_is_set_aside_is_in_no_total() -> None:
    ledger = Ledger()
    with ledger.phase("train"), ledger.phase("watch", aside=True):
        time.sleep(0.02)
    total = ledger.total()
    assert list(total["phases"]) == ["train"] and list(total["aside"]) == ["watch"]
    assert total["seconds"] == total["phases"]["train"]["seconds"] < 0.02 <= total["aside"]["watch"]["seconds"]


def test_a_phase_cannot_be_inside_itself_nor_open_at_the_end() -> None:
    ledger = Ledger()
    with ledger.phase("train"), pytest.raises(RecordError, match='"train" was opened inside itself'):
        ledger.phase("train").__enter__()
    with ledger.phase("search"), pytest.raises(RecordError, match='"search" is still open'):
        ledger.total()


@pytest.mark.parametrize("amount", [{"flops": -1, "seconds": 0.0}, {"flops": 0, "seconds": -0.1}])
def test_nothing_negative_is_charged(amount: dict[str, float]) -> None:
    with pytest.raises(RecordError, match='"train" was charged less than nothing; open it with aside=True'):
        Ledger().charge("train", **amount)


def test_the_paper_may_count_other_flops() -> None:
    ledger = Ledger()
    ledger.add_flops(10)
    ledger.add_flops(10, paper_flops=3)
    ledger.charge("search", 5, 0.0, paper_flops=1)
    total = ledger.total()
    assert (total["flops"], total["paper_flops"]) == (25, 14)
    assert share(total, 5)["paper_flops"] == 3


def test_accounts_go_on_from_a_checkpoint() -> None:
    first = Ledger()
    first.charge("search", 3, 1.0)
    with first.phase("train"):
        first.add_flops(5)
        time.sleep(0.02)
        kept = first.state()
    second = Ledger()
    second.charge("search", 3, 1.0)
    with second.phase("prepare"):
        time.sleep(0.01)
    second.restore(kept, lost_seconds=2.0)
    with second.phase("train"):
        second.add_flops(5)
    total = second.total()
    assert total["flops"] == 13, "the search is paid once, both parts of the training"
    assert total["phases"]["search"]["seconds"] == 1.0
    assert total["phases"]["train"]["seconds"] > kept["train"]["seconds"] >= 0.02
    assert 2.01 <= total["phases"]["lost"]["seconds"] < 2.5


def test_a_phase_that_fails_is_counted_and_closed() -> None:
    ledger = Ledger()
    with pytest.raises(ZeroDivisionError), ledger.phase("train"):
        time.sleep(0.01)
        raise ZeroDivisionError
    assert ledger.total()["seconds"] >= 0.01


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory of a process: Linux only")
def test_peak_bytes_are_those_of_the_phase() -> None:
    ledger = Ledger()
    with ledger.phase("large"):
        assert np.ones(40_000_000).nbytes == 320_000_000
    with ledger.phase("small"):
        pass
    peaks = {name: phase["peak_bytes"] for name, phase in ledger.total()["phases"].items()}
    assert peaks["large"] - peaks["small"] > 250_000_000
    assert ledger.total()["peak_bytes"] == peaks["large"]


def test_a_peak_that_cannot_be_reset_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, text: str) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refused)
    ledger = Ledger()
    with ledger.phase("train"):
        pass
    assert ledger.total()["peak_bytes"] is None


def test_joules_are_none_without_a_counter_and_where_a_phase_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([None, None, 100.0, 130.0, 200.0, 205.0])
    monkeypatch.setattr(cost, "_joules", lambda device: next(readings))
    ledger = Ledger()
    for name in ("cpu", "gpu", "gpu"):
        with ledger.phase(name):
            pass
    total = ledger.total()
    assert total["phases"]["cpu"]["joules"] is None and total["phases"]["gpu"]["joules"] == 35.0
    assert total["joules"] is None


class FakeNvml(ModuleType):
    """A driver whose counter stands at 1.5 J, or that has none."""

    NVMLError = ValueError

    def __init__(self, counter: bool) -> None:
        super().__init__("pynvml")
        self.counter = counter

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if not self.counter or handle != "GPU-12ab":
            raise ValueError
        return 1500


def test_the_energy_counter_is_found_by_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(uuid="12ab"))
    for module, joules in ((FakeNvml(True), 1.5), (FakeNvml(False), None), (None, None)):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        assert cost._joules(torch.device("cuda")) == joules
    assert cost._joules(torch.device("cpu")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_phase_waits_for_the_gpu_and_sees_its_memory() -> None:
    ledger = Ledger("cuda")
    with ledger.phase("train"):
        a = torch.randn(8192, 8192, device="cuda")
        for _ in range(20):
            a = a @ a / 8192
    total = ledger.total()
    assert total["seconds"] > 20 * 2 * 8192**3 / 2e15 and total["peak_bytes"] >= 2 * a.nbytes


def test_a_share_of_a_group_is_its_kth_part() -> None:
    ledger = Ledger(side_by_side=4)
    with ledger.phase("train"):
        ledger.add_flops(12)
    whole = ledger.total()
    part = share(whole, 4)
    assert part["flops"] == part["phases"]["train"]["flops"] == 3 and part["side_by_side"] == 4
    assert part["seconds"] == whole["seconds"] / 4 and part["joules"] is None
    assert isinstance(part["flops"], int) and share(whole, 1) == whole


def test_a_forecast_scales_training_alone() -> None:
    ledger = Ledger(dry_run=True)
    with ledger.phase("search"):
        ledger.add_flops(7)
    with ledger.phase("train"):
        ledger.add_flops(10)
        time.sleep(0.01)
    ledger.steps, ledger.planned_steps = 2, 2000
    plan, total = ledger.forecast(3), ledger.total()
    train = total["phases"]["train"]["seconds"]
    assert (plan["steps"], plan["flops"]) == (2000, 7 + 10_000)
    assert plan["seconds_per_step"] == train / 2
    assert plan["hours"] == pytest.approx(3 * (total["phases"]["search"]["seconds"] + train * 1000) / 3600)


def test_a_forecast_at_a_pace_is_flops_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PACE, "5e3")
    assert Ledger().pace is None
    ledger = Ledger(dry_run=True)
    with ledger.phase("search"):
        ledger.add_flops(7)
    with ledger.phase("train"):
        ledger.add_flops(10)
    ledger.steps, ledger.planned_steps = 2, 2000
    plan = ledger.forecast(3)
    assert plan["seconds_per_step"] == 10 / 5e3 / 2 and plan["flops"] == 7 + 10_000 and plan["peak_bytes"] is None
    assert plan["hours"] == pytest.approx(3 * (7 + 10_000) / 5e3 / 3600)


@pytest.mark.parametrize("given", ["fast", "0", "-1e12", "nan", "inf"])
def test_a_pace_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PACE, given)
    with pytest.raises(ParameterError, match=r"no number of FLOPs a second; write EFFI_PACE=2e14"):
        Ledger(dry_run=True)


def test_a_forecast_without_steps_is_what_was_measured() -> None:
    ledger = Ledger(dry_run=True)
    ledger.add_flops(7)
    plan = ledger.forecast()
    assert (plan["steps"], plan["seconds_per_step"], plan["flops"], plan["hours"]) == (None, None, 7, 0)


def test_money_is_hours_times_the_price() -> None:
    assert money(1800, 3.0) == 1.5


# --- measured time -------------------------------------------------------------------------------------------


def test_competitors_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []
    found = measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, budget_s=60)
    assert "".join(calls) == "ab" + "ab" * 3
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 3, "b": 3}


def test_seconds_are_those_of_the_step() -> None:
    found = measure({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, repeats=2, budget_s=60)
    assert min(found["slow"]) >= 0.02 > min(found["fast"]) >= 0


def test_a_spent_budget_still_gives_one_whole_round() -> None:
    found = measure({"a": lambda: None, "b": lambda: None}, repeats=1000, budget_s=0)
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 1, "b": 1}
