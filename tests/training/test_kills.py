"""Trainings whose process is killed at random steps: they go on to the same bits, and all their seconds are paid."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.arms import ARMS, STEPS, Pulse, differing, live, make

KILLS = 3
CONTEXT = multiprocessing.get_context("forkserver")
# Imported once, also what optimisers import at their first step: a fork is there in milliseconds.
CONTEXT.set_forkserver_preload(["pytest", "torch._dynamo", "tests.training.arms"])


@dataclass
class Attempts:
    """The processes of one training, one after another.

    `least` are the seconds between the first and the last step of each, `most` those since before its training.
    """

    name: str
    folder: Path
    every_s: float = 0.02
    rest_s: float = 0.0
    least: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "arm"

    def until(self, step: int, end: int) -> int:
        """Start, and send a signal somewhere after a step is made; the exit code."""
        process, told = self._started(step + 4)
        while told[0] < step and process.is_alive():
            time.sleep(0.0005)
        time.sleep(random.Random(step).random() * 0.01)
        os.kill(process.pid, end)
        return self._ended(process, told)

    def finish(self) -> dict[str, Any]:
        """Start, and wait for what the training leaves behind."""
        assert self._ended(*self._started(STEPS + 1)) == 0
        return torch.load(self.folder / "out", weights_only=False)

    def _started(self, stop: int) -> tuple[Any, Any]:
        told = CONTEXT.Array("d", 4, lock=False)  # a killed process would keep the lock
        pulse = Pulse(told, stop, self.rest_s)
        arguments = self.name, self.file, self.folder / "out", pulse, self.every_s
        process = CONTEXT.Process(target=live, args=arguments)
        process.start()
        return process, told

    def _ended(self, process: Any, told: Any) -> int:
        process.join()
        _, began, first, last = told
        self.least.append(last - first)
        self.most.append(last - began)
        return process.exitcode


@pytest.mark.slow
@pytest.mark.parametrize("name", ARMS)
def test_killed_at_random_steps_it_ends_with_the_bits_of_an_undisturbed_run(name, tmp_path):
    steps = sorted(random.Random(name).sample(range(2, STEPS - 6), KILLS))
    attempts = Attempts(name, tmp_path)
    for step in steps:
        assert attempts.until(step, signal.SIGKILL) == -signal.SIGKILL
    found, undisturbed = attempts.finish(), make(ARMS[name])
    assert not differing(found, undisturbed), f"killed after steps {steps}"
    assert found["cost"]["flops"] == undisturbed["cost"]["flops"]
    for history in found["histories"]:
        seconds = history["curves"]["seconds"]
        assert seconds == sorted(set(seconds)), "seconds go on from those of the parts before"
    paid = found["cost"]["seconds"] + sum(phase["seconds"] for phase in found["cost"]["aside"].values())
    # What passes between the last beat and a kill, or while a killed process wrote, is nobody's.
    assert 0.5 * sum(attempts.least) - 0.1 < paid < sum(attempts.most) + 0.1


@pytest.mark.slow
def test_seconds_of_lost_steps_are_paid(tmp_path):
    """Two kills before any checkpoint, SIGTERM, then a kill that loses all since its checkpoint."""
    attempts = Attempts("dense", tmp_path, every_s=60, rest_s=0.01)
    for step in (20, 30):
        assert attempts.until(step, signal.SIGKILL) == -signal.SIGKILL
    assert not attempts.file.with_name("arm.safetensors").exists()
    assert attempts.until(15, signal.SIGTERM) != 0
    assert attempts.until(40, signal.SIGKILL) == -signal.SIGKILL
    found = attempts.finish()
    assert not differing(found, make(ARMS["dense"]))
    lost, killed = found["cost"]["phases"]["lost"], (0, 1, 3)
    assert lost["flops"] == 0
    least, most = (sum(seconds[part] for part in killed) for seconds in (attempts.least, attempts.most))
    assert 0.9 * least - 0.05 < lost["seconds"] < most + 0.05
    assert 0.9 * sum(attempts.least) - 0.05 < found["cost"]["seconds"] < sum(attempts.most) + 0.1


@pytest.mark.slow
def test_sigterm_is_answered_with_a_checkpoint_at_once(tmp_path):
    attempts = Attempts("everything", tmp_path, every_s=60)
    assert attempts.until(25, signal.SIGTERM) == 1, "a KeyboardInterrupt nobody caught"
    assert attempts.file.with_name("arm.safetensors").exists()
    found = attempts.finish()
    assert not differing(found, make(ARMS["everything"]))
    assert found["cost"]["phases"].get("lost", {"seconds": 0.0})["seconds"] < 0.05, "only what came before its answer"
