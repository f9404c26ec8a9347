"""Scores that rank weights without a search: gradient, and magnitude times gradient, on a few training batches."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effi import masks
from effi.data import Dataset, TextDataset
from effi.seeds import generator
from effi.training.evaluation import evaluating

Criterion = Literal["snip", "gradient"]


def scores(
    model: nn.Module, data: Dataset | TextDataset, criterion: Criterion, *, batches: int, batch_size: int, seed: int
) -> dict[str, Tensor]:
    """Score of every prunable weight, high is important: |w dL/dw| ("snip", Lee et al. 2019) or |dL/dw|.

    L is the cross-entropy over `batches` random training batches, in evaluation mode; the model is left as it was.
    """
    weights = masks.prunable(model)
    order = torch.randperm(len(data.train), generator=generator(seed, "criterion"))[: batches * batch_size]
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    with evaluating(model):
        for index in order.to(data.train.labels.device).split(batch_size):
            loss = F.cross_entropy(model(data.prepare(data.train.inputs[index])), data.train.labels[index])
            for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
                sums[name] += gradient * len(index)
    return {
        name: (weights[name].detach() * total if criterion == "snip" else total).abs() for name, total in sums.items()
    }
