"""Seconds of whole schedules: what is timed, and against what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from effi.data.opening import Opened
from effi.mixed_sparsity import timing
from effi.mixed_sparsity.experiment import Experiment
from effi.mixed_sparsity.positions import Pattern
from effi.mixed_sparsity.recipes import PHASES, STILL, Dense, Sparse, mst, rigl, static
from effi.mixed_sparsity.settings import Settings
from tests.mixed_sparsity.toy import MODEL, TOKENS, TRAINING, text
from tests.training.conftest import one_thread as one_thread

TOY = Opened("toy", text(), {"length": TOKENS + 1, "whole": 1})
WORK = Experiment({"toy": TOY})
DENSE = Settings(TOY.settings, MODEL, TRAINING, Dense())
METHOD = mst(4, Pattern("merged", 4), PHASES)


def test_ratios_are_of_seconds_of_the_same_round(monkeypatch):
    told = iter([9.0, 9.0, 9.0, 2.0, 1.0, 3.0, 4.0, 1.0, 2.0])
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(timing, "_seconds", lambda *_: next(told))
    arms = dict.fromkeys(("dense", "quarter", "mst"), DENSE)
    found = timing.time_ratios(WORK, arms, "dense", seed=0, steps=10, budget_s=60)
    assert found["time_ratio/dense"] == 1
    assert found["time_ratio/quarter"] == (1 / 2 + 1 / 4) / 2
    assert found["time_ratio/mst"] == (3 / 2 + 2 / 4) / 2
    assert found["step_seconds/dense"] == 3


def test_a_schedule_costs_its_steps_and_one_update_in_so_many(monkeypatch):
    """Seconds that grow with what is kept; an update takes 1 on top."""

    def step(work, settings, seed, steps, recipe):
        kept = 1 - recipe.phases.ultra if isinstance(recipe, Sparse) else 1.0
        return kept + (1.0 if isinstance(recipe, Sparse) and recipe.evolution.every == 1 else 0.0)

    monkeypatch.setattr(timing, "_step", step)
    middles = [(part + 0.5) / 10 for part in range(10)]

    def seconds(recipe):
        return timing._seconds(WORK, replace(DENSE, recipe=recipe), 0, 5)

    mean = sum(1 - PHASES.sparsity(share) for share in middles) / 10
    assert seconds(METHOD) == pytest.approx(mean + 1 / 4)
    assert seconds(rigl(0.75, 8)) == pytest.approx(0.25 + 0.75 / 8)  # for three quarters of the training
    assert seconds(replace(static(0.75), evolution=replace(STILL, every=5))) == pytest.approx(0.25)
    assert seconds(Dense(0.25)) == 0.25


def test_a_step_is_made_as_the_schedule_is_there():
    ultra, restored = (timing.as_at(METHOD, share, STILL) for share in (0.5, 0.99))
    assert (ultra.phases.ultra, ultra.attention) == (0.8, Pattern("merged", 4))
    assert (restored.phases.ultra, restored.attention) == (0.0, None)
    task = WORK.task(DENSE, 0, timing.Ledger())
    assert ultra(task).told["sparsity"] == pytest.approx([0.8], abs=0.01)
    assert task.model.attention is not None


def test_steps_are_made_and_evaluation_is_left_out(monkeypatch):
    seen, whole = [], WORK.task

    def task(settings, *args, **more):
        seen.append(settings.training.steps)
        return whole(settings, *args, **more)

    monkeypatch.setattr(WORK, "task", task)
    arms = {name: replace(DENSE, recipe=recipe) for name, recipe in (("dense", Dense()), ("mst", METHOD))}
    found = timing.time_ratios(WORK, arms, "dense", seed=0, steps=3, budget_s=0)
    assert seen == [3] * 2 * (1 + 10 + 1)  # a warm-up and a round: dense, ten parts, an update
    assert found["time_ratio/mst"] > 0
