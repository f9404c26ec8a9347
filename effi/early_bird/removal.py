"""Which heads and neurons a structured ticket keeps, and whether the model without the others is the masked one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from effi import axes
from effi.cost import Ledger
from effi.data import Dataset, TextDataset
from effi.early_bird.settings import Removal
from effi.early_bird.structured import Log, Penalty, draw, draw_step
from effi.seeds import generator
from effi.training import Listener, Training, fit

Keep = Mapping[str, Sequence[int]]


def learn_units(
    model: nn.Module,
    data: Dataset | TextDataset,
    training: Training,
    recipe: Removal,
    *,
    seed: int,
    ledger: Ledger,
    checkpoint: Path | None = None,
) -> dict[str, list[int]]:
    """Units to keep by axis, by coefficients trained with the model as a recipe says; the model is used up."""
    gates = axes.with_gates(model)
    log, steps = Log(gates), draw_step(training.steps_of_epoch(len(data.train)), recipe.search)
    order = torch.randperm(len(data.train), generator=generator(seed, "structured search"))
    chosen = order[: steps * training.batch_size].to(data.train.labels.device)
    part = replace(data, train=data.train.take(chosen))
    # The draw comes at the start of a long schedule, whose rate has hardly fallen by then.
    schedule = replace(training, epochs=1, schedule="constant")
    listeners: list[Listener] = [Penalty(gates), log]
    fit(model, part, schedule, seeds=[seed], ledger=ledger, before_step=listeners, checkpoint=checkpoint)
    if ledger.dry_run:  # after a step or two, all coefficients have moved alike
        return random_units(model, seed, recipe.multiple)
    return draw(log.at(min(len(log), steps)), multiple=recipe.multiple)


def random_units(model: nn.Module, seed: int, multiple: int = 1) -> dict[str, list[int]]:
    """Units to keep by axis, drawn by random coefficients: as many as by learnt ones, and no search to pay for."""
    stream = generator(seed, "structured")
    drawn = {axis: torch.rand(count, generator=stream) for axis, count in axes.units(model).items()}
    return draw(drawn, multiple=multiple)


def heads_kept(keep: Keep, model: nn.Module) -> tuple[int, list[float]]:
    """Number of layers with heads, and 1 or 0 for every head, layer by layer."""
    layers = [axis for axis in keep if axis.endswith("heads")]
    counts = axes.units(model)
    return len(layers), [float(head in keep[axis]) for axis in layers for head in range(counts[axis])]


@torch.no_grad()
def slim_equals_masked(model: nn.Module, keep: Keep, data: Dataset | TextDataset) -> bool:
    """Whether the slim model's logits of 32 validation examples are those of the masked whole within 1e-5."""
    small, masked = axes.slim(model, keep).eval(), axes.slim(model, {}).eval()
    for name, kept in axes.mask_units(model, keep).items():
        masked.get_parameter(name).mul_(kept)
    x = data.prepare(data.validation.inputs[:32])
    return torch.allclose(small(x), masked(x), atol=1e-5)
