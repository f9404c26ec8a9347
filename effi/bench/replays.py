"""Steps of a model so small that launching takes longer than computing: as they are, compiled, and as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn import functional as F

from effi.bench.load import needed_bytes
from effi.bench.peers import PEERS, tried
from effi.bench.rounds import Case, Competitor
from effi.bench.suites import BATCH, HEADS, SHAPE, noise
from effi.cost import Ledger
from effi.data import Dataset, normalise
from effi.minimal import Variant
from effi.models.vit import ViT, ViTShape
from effi.training import Classification, Training, parallel
from effi.training.loop import Loop
from effi.training.replay import USUAL

BY_HAND = "by hand, compiled with graphs"
SEEDS = 3
How = Literal["graphs", "step"] | bool
WAYS: dict[str, How] = {"effi": False, "compiled": True, "passes replayed": "graphs", "step replayed": "step"}


def steps(shape: ViTShape = SHAPE, heads: int = HEADS, batch: int = BATCH, device: str = "cpu") -> Case:
    """A step of paper 4's minimum, its batch drawn from a set on the device; of three seeds at once, too.

    Beside it are steps of whole networks of its width and depth, others' and ours, in the fastest way of torch.compile.
    """
    data = noise(shape, 8 * batch, batch).to(device)
    minimum = partial(_minimum, shape, data)
    makers: dict[str, Callable[[], Competitor]] = {BY_HAND: lambda: _by_hand(minimum(0).to(device), data, batch)}
    makers |= {name: partial(_by_loop, minimum, data, batch, how) for name, how in WAYS.items()}
    makers |= {f"step of {SEEDS} seeds replayed": partial(_by_loop, minimum, data, batch, "step", SEEDS)}

    def whole(make: Callable[[ViTShape, int], nn.Module]) -> Competitor:
        return _by_hand(make(shape, heads).to(device), data, batch)

    makers |= {f"{name}, whole": partial(whole, make) for name, make in {"effi": standard, **PEERS}.items()}
    return Case(f"a step of the minimum, batch {batch}", BY_HAND, makers)


def standard(shape: ViTShape, heads: int) -> ViT:
    """Our network, nothing left out."""
    return ViT(shape, heads=heads)


def _minimum(shape: ViTShape, data: Dataset, seed: int) -> ViT:
    least: dict[str, Any] = {"mlp": False, "query_key": "collapsed", "value_output": "dropped"}
    variant = Variant(width=shape.width, hidden=shape.hidden, depth=shape.depth, **least)
    return variant.model(data.shape, shape.patch_size, shape.classes, seed=seed)


def _by_loop(make: Callable[[int], ViT], data: Dataset, batch: int, how: How, seeds: int = 1) -> Competitor:
    device = data.train.inputs.device
    training = Training(epochs=1, batch_size=batch, compile=how)
    models = [make(seed).to(device) for seed in range(seeds)]
    network = parallel.network(models, training)
    loop = Loop(network, models[0], data, training, Classification(), tuple(range(seeds)), Ledger(str(device)))
    return _warmed(lambda: loop.update(loop.batch()), device.type)


def _by_hand(model: nn.Module, data: Dataset, batch: int) -> Competitor:
    called = cast(nn.Module, torch.compile(model, mode="reduce-overhead"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    middle, scale = (torch.tensor(each, device=data.train.inputs.device) for each in (data.mean, data.std))

    def step() -> None:
        index = torch.randint(len(data.train), (batch,), device=middle.device)
        logits = called(normalise(data.train.inputs[index], middle, scale))
        F.cross_entropy(logits, data.train.labels[index]).backward()
        optimizer.step()
        optimizer.zero_grad()

    return _warmed(step, middle.device.type)


def _warmed(step: Callable[[], object], device: str) -> Competitor:
    """After the steps that compile and capture, with their memory: a replay works in what the capture took.

    Missing where torch.compile does not work.
    """

    def first() -> None:
        for _ in range(USUAL + 1):
            tried(step)

    return Competitor(step, extra_bytes=needed_bytes(first, device))
