"""Scores that rank weights before any training, by gradients on a few batches: SNIP and GraSP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from effi.cost import Ledger, count_flops
from effi.errors import ParameterError
from effi.instant_soup.accounts import SEARCH
from effi.instant_soup.pruned import chosen
from effi.instant_soup.weak_nets import Data
from effi.models.attention import plain_attention
from effi.seeds import generator
from effi.training import Objective
from effi.training.evaluation import CLASSES, evaluating
from effi.training.objectives import fitting

Criterion = Literal["snip", "grasp"]
Gradients = dict[str, Tensor]


def scores(
    model: nn.Module,
    data: Data,
    criterion: Criterion,
    *,
    batches: int,
    batch_size: int,
    seed: int,
    ledger: Ledger,
    objective: Objective = CLASSES,
    names: Sequence[str] | None = None,
) -> Gradients:
    """Importance of every weight, the lowest of which are pruned; the model is left as it was.

    g and H are gradient and Hessian of the mean loss of `batches` random training batches, in evaluation mode:
    |w g| ("snip", Lee et al. 2019), or w (H g) ("grasp", Wang et al. 2020, whose scores -w (H g) lose the highest).
    What it takes is booked as "search". ParameterError for an unknown criterion.
    """
    if criterion not in get_args(Criterion):
        raise ParameterError(f"criterion {criterion!r} is unknown; give one of {', '.join(get_args(Criterion))}")
    weights, found = chosen(model, names), Gradients()
    order = torch.randperm(len(data.train), generator=generator(seed, "criterion"))[: batches * batch_size]
    rows = order.to(data.train.inputs.device).split(batch_size)

    def losses() -> Iterator[Tensor]:
        """The loss of each batch, by its share of all examples."""
        for index in rows:
            outputs, labels = model(data.prepare(data.train.inputs[index])).float(), data.train.labels[index]
            labels = fitting(labels, outputs, objective)
            loss = objective.losses(outputs, labels).sum() / objective.counted(labels).sum().clamp_min(1)
            yield loss * len(index) / len(order)

    def work() -> None:
        found.update(_snip(weights, losses) if criterion == "snip" else _grasp(weights, losses))

    with ledger.phase(SEARCH), evaluating(model), plain_attention():
        ledger.add_flops(count_flops(work))
    return found


def _snip(weights: Mapping[str, nn.Parameter], losses: Callable[[], Iterator[Tensor]]) -> Gradients:
    gradients = _gradients(weights, losses())
    return {name: (weight.detach() * gradients[name]).abs() for name, weight in weights.items()}


def _grasp(weights: Mapping[str, nn.Parameter], losses: Callable[[], Iterator[Tensor]]) -> Gradients:
    fixed, all_weights = _gradients(weights, losses()), list(weights.values())

    def slopes() -> Iterator[Tensor]:
        """g . (gradient of a batch), whose gradient is H g."""
        for loss in losses():
            own = torch.autograd.grad(loss, all_weights, create_graph=True)
            yield torch.stack([(fixed[name] * g).sum() for name, g in zip(weights, own, strict=True)]).sum()

    curved = _gradients(weights, slopes())
    return {name: weight.detach() * curved[name] for name, weight in weights.items()}


def _gradients(weights: Mapping[str, nn.Parameter], losses: Iterator[Tensor]) -> Gradients:
    """Sum of the gradients of several numbers."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for loss in losses:
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            total[name] += gradient
    return total
