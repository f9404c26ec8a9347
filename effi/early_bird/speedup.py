"""Which share of a model's work its prunable weights do; no arm reads this."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from effi import masks
from effi.cost import forward_flops
from effi.data import Opened
from effi.early_bird.building import build
from effi.early_bird.settings import Settings


def prunable_share(model: nn.Module, example: Tensor) -> float:
    """Share of the FLOPs of a forward that layers with prunable weights do, from 0 to 1."""
    flops, weights = forward_flops(model, example), masks.prunable(model)
    own = [path for path in flops if any(name.startswith(f"{path}.") for name in weights)]
    return sum(flops[path] for path in own) / sum(flops.values())


def prunable_shares(groups: Mapping[str, Settings], opened: Mapping[str, Opened]) -> dict[str, float]:
    """That of each group's dense model on one example of its data."""
    data = {name: opened[name].data for name in groups}
    models = {name: build(group.model, data[name], 0) for name, group in groups.items()}
    one = {name: data[name].prepare(data[name].train.inputs[:1].cpu()) for name in groups}
    return {name: prunable_share(models[name], one[name]) for name in groups}
