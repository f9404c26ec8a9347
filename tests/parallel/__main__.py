"""What each of two processes does under torchrun: all trainings, of which one process is killed in the first."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from effi.bench import processes
from effi.cost import Ledger
from effi.errors import EffiError
from effi.ligo.recipes import Ligo
from effi.ligo.thrift import LayerDrop
from effi.records import Arm, Run
from effi.training import Classification, Contrastive, Step, Training, checkpoint, fit
from effi.training.ranks import Ranks, part, world
from tests.ligo import toy as pairs
from tests.parallel import trainings
from tests.parallel.trainings import COMMON, IN_PARTS, KINDS, Found, at, file
from tests.training.test_checkpoints import Cut
from tests.training.tiny import images, vit

FIRST_TIME = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"


def killed(folder: Path, ranks: Ranks) -> Found:
    """A training that loses its second process after step 10."""

    def die() -> None:
        if FIRST_TIME and not ranks.first:
            os.kill(os.getpid(), signal.SIGKILL)

    seen: list[int] = []
    listeners = [*at(10, die), lambda step: seen.append(step.index)]
    found = trainings.noisy("ddp", checkpoint=file(folder, "killed"), after_step=listeners)
    return found | {"steps": seen}


def cut(folder: Path) -> None:
    """A training that ends after step 10, for another number of processes to go on with."""

    def end() -> None:
        raise Cut

    with suppress(Cut):
        trainings.dense("ddp", checkpoint=file(folder, "cut"), after_step=at(10, end))


def cut_in_parts(folder: Path) -> None:
    """The same with weights in parts, of which no listener is told."""

    def end(step: Step, executed: int) -> int:
        if step.index == 11:
            raise Cut
        return executed

    with suppress(Cut):
        trainings.masked("fsdp", checkpoint=file(folder, "parts"), paper_flops=end)


def train(arm: Arm) -> None:
    """An arm of a run, at a rate that its settings name."""
    training = Training(**COMMON | {"lr": arm.settings["lr"]}, parallel="ddp")
    (history,) = fit(vit(arm.seed), images(), training, seeds=arm.seeds, ledger=arm.ledger, checkpoint=arm.checkpoint)
    arm.record({"loss": history.curves["validation_loss"][-1]}, history.curves)


def recorded(folder: Path) -> Found:
    """What each process sees of a run of two arms, one of which fails."""
    run = Run("paper", "smoke", results_dir=folder / "results", uses=["effi.seeds"])
    made = run.artefacts(make).get({}, 1)
    arms = {"fine": {"lr": 1e-2}, "wild": {"lr": 1e30}}
    run.each(train, arms, [0, 1], jobs=2)
    run.derived("both", lambda rows: {"rows": len(rows)}, of=run.records())
    records = [(row["arm"], row["seed"], row["metrics"]) for row in run.records()]
    return {"records": records, "failed": [row["error"] for row in run.failed()], "made": made.tensors["x"]}


def make(settings: Any, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """An artefact, other than its like on another process."""
    return {"x": torch.full((2,), float(world().rank))}, {}


def refused(ranks: Ranks) -> list[str]:
    """What processes cannot do together, in words."""

    def other_masks() -> None:
        draw = torch.Generator().manual_seed(ranks.rank)
        model = vit()
        mask = {name: torch.rand(w.shape, generator=draw) < 0.5 for name, w in model.named_parameters()}
        trainings.trained(model, images(), training, mask=mask)

    def several() -> None:
        fit([vit(0), vit(1)], images(), training, seeds=[0, 1], ledger=Ledger())

    def whole() -> None:
        trainings.trained(vit(), images(), training, objective=Contrastive())

    def normed() -> None:
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(192), torch.nn.Linear(192, 4))
        trainings.trained(model, images(), training, objective=Classification())

    def looked_at() -> None:
        trainings.plain("fsdp", after_step=at(1, lambda: None))

    def orthogonal() -> None:
        trainings.trained(vit(), images(), Training(**COMMON, optimizer="muon", parallel="fsdp"))

    def resting() -> None:
        task = pairs.task("gpt", replace(pairs.TRAINING, parallel="fsdp"))
        Ligo(steps=0, thrift=LayerDrop(0.5))(task)

    training = Training(**COMMON, parallel="ddp")
    said = []
    for act in (other_masks, several, whole, normed, looked_at, orthogonal, resting):
        try:
            act()
        except EffiError as error:
            said.append(str(error))
    return said


def main(folder: Path) -> None:
    """Leave what this process found in a file of its own."""
    torch.set_num_threads(1)
    ranks, usual, checkpoint.EVERY_S = world(), checkpoint.EVERY_S, 0.0
    found: dict[str, Any] = {"killed": killed(folder, ranks), "undisturbed": trainings.noisy("ddp")}
    cut(folder)
    cut_in_parts(folder)
    checkpoint.EVERY_S = usual
    found |= {name: kind("ddp") for name, kind in KINDS.items()}
    found |= {f"{name} in parts": KINDS[name]("fsdp") for name in IN_PARTS}
    found |= {"recorded": recorded(folder), "refused": refused(ranks), "size": ranks.size}
    found["step"] = processes.readings(processes.Load(batch=2, tokens=8, steps=1, rounds=2))
    part()
    found["alone"] = world().size
    torch.save(found, folder / f"rank-{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
