"""Steps of Mixed Sparsity Training by phase and through a schedule, on a tiny GPT."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi.bench import schedules
from effi.bench.gpts import Shape
from effi.kernels import dispatch
from effi.mixed_sparsity import Phases
from effi.mixed_sparsity.blocks import Layout
from effi.models.language import TextSize
from tests.bench.conftest import complete

TINY, PHASES = Shape(TextSize(16, 1, 2, 32), 16, 32), Phases(0.8, warmup=0.25, restoration=0.25)


def cases(**options):
    return schedules.steps(TINY, 2, 8, PHASES, parts=4, **options)


def test_each_phase_and_a_whole_schedule_are_timed():
    phases, whole = cases()
    ways = [f"blocks of 8, {name}" for name in ("warm-up", "ultra", "restoration", "update")]
    assert list(complete(phases)) == ["dense", "masked, 80 %", "masked, 90 %", *ways]
    assert list(complete(whole)) == ["dense", "masked", "blocks of 8"] and whole.calls == 4
    assert [case.title for case in (phases, whole)] == [
        "GPT 16 x 1, 16 tokens, batch 2, fp32, by phase",
        "GPT 16 x 1, 16 tokens, batch 2, fp32, schedule to 80 %",
    ]


def test_flops_are_those_of_what_is_computed(monkeypatch):
    """Masks spare none; the mean step of the schedule is that of its four parts, two of them ultra."""
    monkeypatch.setattr(Layout, "pays", property(lambda layout: not layout.whole))
    phases, whole = ({name: make().flops for name, make in case.competitors.items()} for case in cases())
    assert phases["dense"] == phases["masked, 80 %"] == phases["masked, 90 %"] == whole["dense"]
    assert whole["masked"] <= whole["dense"]  # attention has a window
    warm, ultra, back, update = (
        phases[f"blocks of 8, {name}"] for name in ("warm-up", "ultra", "restoration", "update")
    )
    assert ultra < warm < back < phases["dense"] and ultra < update < phases["dense"]
    assert whole["blocks of 8"] == pytest.approx((warm + 2 * ultra + back) / 4, abs=1)


def test_on_another_machine_kernels_are_asked_for_and_the_dense_step_is_compiled_too(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, mode=None: model)
    assert schedules.GPU.device == "cuda"
    phases, whole = cases(machine=replace(schedules.GPU, device="cpu"))
    assert list(complete(whole)) == ["dense", "masked", "blocks of 8", "dense, compiled"] and "bf16" in phases.title
    assert "dense, compiled" in complete(phases)
    dense, sparse = (
        schedules.loop(TINY, 2, now, 4, replace(schedules.GPU, device="cpu"))
        for now in (schedules.Now(), schedules.Now(0.8, 8))
    )
    assert dense.training.kernels == ("cudnn",) and dense.bf16  # beside torch's own path a step is sparse
    assert sparse.training.kernels == ("cudnn", *schedules.GPU.kernels)


def test_flops_are_those_of_the_kernels_that_compute(monkeypatch):
    """Blocks that a kernel takes alone, as on a GPU; it is asked within its wish."""
    monkeypatch.setattr(Layout, "by_kernel", lambda layout, device, dtype: "block_sparse" in dispatch._asked)
    machine = replace(schedules.GPU, device="cpu", precision="fp32", compiles=False)
    made = [schedules.steps_of(TINY, 2, machine, [now]).flops for now in (schedules.Now(), schedules.Now(0.8, 8))]
    assert made[1] < 0.6 * made[0]


def test_a_schedule_updates_its_mask_once_in_a_pass_on_average():
    made = schedules.loop(TINY, 2, schedules.Now(0.8, 8, 2), every=4)
    index, (method,) = made.batch(), made.before_step
    for _ in range(9):
        made.update(index)
    assert method.told["step"] == [0, 4, 8] and made.model.attention.pattern.window == 2
    assert schedules.loop(TINY, 2, schedules.Now(), every=4).before_step == ()
