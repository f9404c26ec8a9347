"""Seconds of whole schedules: what is timed, and against what."""

from __future__ import annotations

from dataclasses import replace

from effi.data.opening import Opened
from effi.mixed_sparsity import timing
from effi.mixed_sparsity.experiment import Experiment
from effi.mixed_sparsity.positions import Pattern
from effi.mixed_sparsity.recipes import PHASES, Dense, mst
from effi.mixed_sparsity.settings import Settings
from tests.mixed_sparsity.toy import MODEL, TOKENS, TRAINING, text
from tests.training.conftest import one_thread as one_thread

TOY = Opened("toy", text(), {"length": TOKENS + 1, "whole": 1})
WORK = Experiment({"toy": TOY})
DENSE = Settings(TOY.settings, MODEL, TRAINING, Dense())
ARMS = {
    "dense": DENSE,
    "quarter": replace(DENSE, recipe=Dense(0.25)),
    "mst": replace(DENSE, recipe=mst(4, Pattern("merged", 4), PHASES)),
}


def test_ratios_are_of_seconds_of_the_same_round(monkeypatch):
    told = iter([9.0, 9.0, 9.0, 2.0, 1.0, 3.0, 4.0, 1.0, 2.0])
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(timing, "_seconds", lambda *_: next(told))
    found = timing.time_ratios(WORK, ARMS, "dense", seed=0, steps=10, budget_s=60)
    assert found["time_ratio/dense"] == 1
    assert found["time_ratio/quarter"] == (1 / 2 + 1 / 4) / 2
    assert found["time_ratio/mst"] == (3 / 2 + 2 / 4) / 2
    assert found["step_seconds/dense"] == 0.3


def test_whole_schedules_are_trained_in_so_many_steps(monkeypatch):
    seen = []
    whole = WORK.task

    def task(settings, *args, **more):
        seen.append(settings.training.steps)
        return whole(settings, *args, **more)

    monkeypatch.setattr(WORK, "task", task)
    found = timing.time_ratios(WORK, ARMS, "dense", seed=0, steps=20, budget_s=0)
    assert set(seen) == {20}
    assert len(seen) == 2 * len(ARMS)  # a warm-up and a round
    assert 0 < found["time_ratio/quarter"] < found["time_ratio/mst"]
