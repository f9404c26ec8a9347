"""Structured tickets: which heads and neurons to remove, by EarlyBERT's recipe (arXiv 2101.00063, finetune/).

Coefficients (`effi.axes.with_gates`) are trained with an L1 penalty for a fixed share of an epoch; those that are small
by then name the units that go. They count signed: a negative coefficient is smaller than zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from effi.axes import Gates, mask_units, units
from effi.errors import ParameterError
from effi.training import Step

HEADS, NEURONS, PENALTY, SEARCH = 1 / 3, 0.4, 1e-4, 0.2


def draw_step(steps_per_epoch: int, share: float = SEARCH) -> int:
    """The step after which the ticket is drawn: round(share x steps per epoch), at least 1."""
    return max(1, round(share * steps_per_epoch))


class Penalty:
    """A listener before each step that adds the gradient of heads x sum|c_head| + neurons x sum|c_neuron|.

    Exactly that of EarlyBERT's penalty, summed over layers, so that the loss itself needs no second term; for a model
    trained alone.
    """

    def __init__(self, gates: Gates, *, heads: float = PENALTY, neurons: float = PENALTY) -> None:
        self._strengths = [(c, heads if _is_heads(axis) else neurons) for axis, c in gates.coefficients.items()]

    @torch.no_grad()
    def __call__(self, step: Step) -> None:
        """Act on the gradients of a step."""
        for coefficients, strength in self._strengths:
            assert coefficients.grad is not None
            coefficients.grad += strength * coefficients.sign()


class Log:
    """A listener before each step: the coefficients that it finds, after the backward pass and before the optimiser."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._taken: dict[str, list[Tensor]] = {axis: [] for axis in gates.coefficients}

    def __len__(self) -> int:
        return min(map(len, self._taken.values()))

    def __call__(self, step: Step) -> None:
        """Note the coefficients."""
        for axis, value in self._gates.coefficients.items():
            self._taken[axis].append(value.detach().clone())

    def at(self, step: int) -> dict[str, Tensor]:
        """Coefficients by axis that the released code looks up for a step: those at index step - 1.

        ParameterError for a step that has not been taken.
        """
        if not 1 <= step <= len(self):
            raise ParameterError(f"coefficients of step {step} were not logged: {len(self)} steps were, from 1 on")
        return {axis: taken[step - 1] for axis, taken in self._taken.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: every step so far."""
        return {axis: torch.stack(taken) for axis, taken in self._taken.items() if taken}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        for axis, taken in state.items():
            self._taken[axis] = list(taken.to(self._gates.coefficients[axis].device))


def draw(
    coefficients: Mapping[str, Tensor], *, heads: float = HEADS, neurons: float = NEURONS, multiple: int = 1
) -> dict[str, list[int]]:
    """The units that stay, by axis: those above the quantile `heads` of their layer or `neurons` of all layers.

    Linearly interpolated quantiles, compared with the signed coefficients. Ours: a layer that would be left without
    a unit keeps its largest, and neurons of a layer are the nearest `multiple` of so many, at least one, at most all:
    products whose sides are multiples of 64 suit a GPU. ParameterError for ratios outside [0, 1) and for coefficients
    that are not numbers.
    """
    for name, ratio in (("heads", heads), ("neurons", neurons)):
        if not 0 <= ratio < 1:
            raise ParameterError(f"{name}={ratio:g} is no share of units to remove: give at least 0 and less than 1")
    values = {axis: value.detach().double() for axis, value in coefficients.items()}
    if broken := [axis for axis, value in values.items() if not value.isfinite().all()]:
        raise ParameterError(f"coefficients of {broken[0]} are not numbers: lower the learning rate of the search")
    inner = [value for axis, value in values.items() if not _is_heads(axis)]
    everywhere = _threshold(torch.cat(inner), neurons) if inner else 0.0
    return {
        axis: _above(value, _threshold(value, heads)) if _is_heads(axis) else _above(value, everywhere, multiple)
        for axis, value in values.items()
    }


def kept_share(model: nn.Module, keep: Mapping[str, Sequence[int]]) -> float:
    """The share f of the weights in attention and feed-forward matrices that stays.

    Also that of these layers' FLOPs where all read the same tokens, as everywhere but in Swin. Errors as `slim`.
    """
    whole = {axis: range(count) for axis, count in units(model).items()}
    masks = mask_units(model, {**whole, **keep}).items()
    kept = [mask for name, mask in masks if mask.ndim == 2 and name.endswith("weight")]
    return sum(int(mask.count_nonzero()) for mask in kept) / sum(mask.numel() for mask in kept)


def relative_cost(kept: float, *, search: float = SEARCH, retrain: int = 2, dense: int = 3) -> float:
    """Cost beside `dense` epochs of dense training: (search + retrain x kept share) / dense."""
    return (search + retrain * kept) / dense


def _is_heads(axis: str) -> bool:
    return axis.rpartition(".")[2] == "heads"


def _threshold(values: Tensor, ratio: float) -> float:
    """The linearly interpolated quantile; below all values for ratio 0, which removes nothing."""
    return torch.quantile(values, ratio).item() if ratio else float("-inf")


def _above(values: Tensor, threshold: float, multiple: int = 1) -> list[int]:
    count = int((values > threshold).sum())
    count = min(len(values), multiple * max(1, round(count / multiple)))
    return values.argsort(descending=True, stable=True)[:count].sort().values.tolist()
