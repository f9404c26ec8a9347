"""What it costs that several processes share a training step (DDP): one start of torchrun, timed inside by turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.distributed as dist

from effi.bench import gpts
from effi.cost import Ledger
from effi.training import LanguageModelling, Training
from effi.training.loop import Loop
from effi.training.networks import Single
from effi.training.ranks import world

ALONE, APART, TOGETHER = "one process, whole batch", "each its part, nothing exchanged", "together"


@dataclass(frozen=True)
class Load:
    """A step of our small GPT: rows in a batch, tokens in a row; so many steps are a reading, so many readings made."""

    batch: int = 8
    tokens: int = 128
    steps: int = 5
    rounds: int = 9


def shared_step(load: Load | None = None, processes: int = 2) -> dict[str, list[float]]:
    """Seconds of a step in each round, on one thread a process: of ALONE, APART and TOGETHER.

    TOGETHER over APART is what the exchange of gradients costs, ALONE over TOGETHER what the processes gain.
    RuntimeError with the last words of a process that failed.
    """
    options = ["--standalone", f"--nproc-per-node={processes}", "-m", "effi.bench.processes"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, json.dumps(asdict(load or Load()))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    found: dict[str, list[float]] = json.loads(ended.stdout.splitlines()[-1])
    return found


def readings(load: Load) -> dict[str, list[float]]:
    """As one of the processes; the first one's readings count."""
    ranks = world()
    part = replace(load, batch=load.batch // ranks.size)
    kinds = {ALONE: _step(load, None), APART: _step(part, None), TOGETHER: _step(load, "ddp")}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(load.rounds + 1):
        for name, step in kinds.items():
            dist.barrier()
            if name != ALONE or ranks.first:
                seconds[name].append(_reading(step, load.steps))
    return {name: made[1:] for name, made in seconds.items()}  # the first one warms up


def _reading(step: Callable[[], object], steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def _step(load: Load, parallel: Any) -> Callable[[], object]:
    """One training step on one batch; together with the question whether to save, which an arm asks."""
    shape = replace(gpts.SMALL, context=load.tokens)
    model, training = gpts.effi(shape), Training(steps=1, batch_size=load.batch, parallel=parallel)
    data = gpts.corpus(shape, load.batch)
    loop = Loop(Single(model), model, data, training, LanguageModelling(), (0,), Ledger())
    index_RB = loop.batch()

    def step() -> None:
        loop.update(index_RB)
        loop.ranks.any(False, False)

    return step


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = readings(Load(**json.loads(sys.argv[1])))
    if world().first:
        print(json.dumps(found))
