"""Removing heads and neurons: the operation beside torch-pruning's, and what a training step gains by it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from effi.axes import slim, units
from effi.bench.peers import needed
from effi.bench.rounds import Case, Competitor
from effi.bench.suites import trained
from effi.early_bird.structured import HEADS, NEURONS, draw
from effi.models.attention import SelfAttention
from effi.models.vision import cifar_vit
from effi.models.vit import ViT, ViTShape
from effi.seeds import generator

BATCH = 128
QUANTILES = (0.25, 0.5, 0.75)  # of the heads of a layer, and of all neurons


def kept(model: nn.Module, heads: float = HEADS, neurons: float = NEURONS) -> dict[str, list[int]]:
    """What lies above these quantiles of heads and neurons, EarlyBERT's unless given, drawn at random."""
    stream = generator(0, "bench")
    drawn = {axis: torch.rand(count, generator=stream) for axis, count in units(model).items()}
    return draw(drawn, heads=heads, neurons=neurons)


def torch_pruning(model: ViT, keep: Mapping[str, Sequence[int]]) -> ViT:
    """The same removal by torch-pruning's dependency graph on a copy.

    Its graph finds the columns that read removed neurons and heads, given the rows of query, key and value. It leaves
    to be set by hand: the counts of heads, the size of the output layer, from which it subtracts three times too much,
    and the training flag.
    """
    library, training = needed("torch_pruning", "torch-pruning"), model.training
    model, shape = copy.deepcopy(model), model.shape
    example = torch.zeros(1, shape.channels, shape.image_size, shape.image_size)
    tables = [(table, 2) for table in (model.cls, model.positions) if isinstance(table, nn.Parameter)]
    graph = library.DependencyGraph().build_dependency(model, example, unwrapped_parameters=tables)

    def remove(layer: nn.Linear, rows: list[int]) -> None:
        if rows:
            graph.get_pruning_group(layer, library.prune_linear_out_channels, idxs=rows).prune()

    for index, block in enumerate(model.each_block()):
        heads, neurons = (keep[f"blocks.{index}.{axis}"] for axis in ("attention.heads", "mlp.neurons"))
        assert block.mlp is not None
        remove(cast(nn.Linear, block.mlp[0]), _without(block.mlp.hidden, neurons))
        attention = cast(SelfAttention, block.attention)
        every = torch.arange(attention.qkv.out_features).view(3, attention.heads, -1)
        remove(attention.qkv, every[:, _without(attention.heads, heads)].flatten().tolist())
        attention.heads, attention.out.in_features = len(heads), attention.out.weight.shape[1]
    return model.train(training)


def _without(count: int, keep: Sequence[int]) -> list[int]:
    return sorted(set(range(count)) - set(keep))


def slimming(model: ViT | None = None, batch: int = BATCH) -> list[Case]:
    """The CIFAR ViT slimmed by us and by torch-pruning, and training steps before and after, in fp32."""
    model = model or cifar_vit()
    keep = kept(model)

    def removed(way: str) -> Competitor:
        operation = {"effi": slim, "torch-pruning": torch_pruning}[way]
        smaller = operation(model, keep)
        return Competitor(lambda: operation(model, keep), sum(p.numel() for p in smaller.parameters()))

    operations = {way: partial(removed, way) for way in ("effi", "torch-pruning")}
    return [Case("removal", "effi", operations), steps_after_removal(model, batch)]


def steps_after_removal(
    model: ViT | None = None, batch: int = BATCH, precision: str = "fp32", device: str = "cpu"
) -> Case:
    """A training step of the CIFAR ViT, and of what either way of removal leaves of it."""
    model = model or cifar_vit()
    keep = kept(model)
    makers: dict[str, Callable[[], nn.Module]] = {
        "dense": partial(copy.deepcopy, model),
        "slim": partial(slim, model, keep),
        "torch-pruning": partial(torch_pruning, model, keep),
    }
    return _steps(f"training step, batch {batch}", makers, model.shape, batch, precision, device)


def steps_by_share(model: ViT | None = None, batch: int = BATCH, precision: str = "fp32", device: str = "cpu") -> Case:
    """A training step of the CIFAR ViT without the heads and neurons below a quantile, about that share of them."""
    model = model or cifar_vit()
    makers: dict[str, Callable[[], nn.Module]] = {"dense": partial(copy.deepcopy, model)}
    makers |= {f"quantile {each:g}": partial(slim, model, kept(model, each, each)) for each in QUANTILES}
    return _steps(f"training step by share removed, batch {batch}", makers, model.shape, batch, precision, device)


def _steps(title: str, makers: Mapping[str, Callable[[], nn.Module]], shape: ViTShape, *how: Any) -> Case:
    return Case(title, "dense", {name: partial(trained, make, shape, *how) for name, make in makers.items()})
