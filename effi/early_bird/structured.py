"""Structured tickets: which heads and neurons to remove, by EarlyBERT's recipe (arXiv 2101.00063, finetune/).

Coefficients (`effi.axes.with_gates`) are trained with an L1 penalty for a fixed share of an epoch; those that are small
by then name the units that go. They count signed: a negative coefficient is smaller than zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from effi.axes import Gates, mask_units, units
from effi.errors import ParameterError

HEADS, NEURONS, PENALTY, SEARCH = 1 / 3, 0.4, 1e-4, 0.2


class Handles:
    """Hooks on tensors, taken off together."""

    def __init__(self, removes: Sequence[Callable[[], None]]) -> None:
        self._removes = removes

    def remove(self) -> None:
        """Take the hooks off."""
        for remove in self._removes:
            remove()


def draw_step(steps_per_epoch: int, share: float = SEARCH) -> int:
    """The step after which the ticket is drawn: round(share x steps per epoch), at least 1."""
    return max(1, round(share * steps_per_epoch))


def penalise(gates: Gates, *, heads: float = PENALTY, neurons: float = PENALTY) -> Handles:
    """From now on add to the coefficients' gradients that of heads x sum|c_head| + neurons x sum|c_neuron|.

    Exactly the gradient of EarlyBERT's penalty, summed over layers, so that the loss itself needs no second term. It is
    added in every backward pass (once per micro-batch where gradients accumulate), for a model trained alone.
    """

    def hook(coefficients: nn.Parameter, strength: float) -> Callable[[], None]:
        return coefficients.register_hook(lambda grad: grad + strength * coefficients.detach().sign()).remove

    strengths = {axis: heads if _is_heads(axis) else neurons for axis in gates.coefficients}
    return Handles([hook(value, strengths[axis]) for axis, value in gates.coefficients.items()])


class Log:
    """The coefficients of every training step, each taken after its backward pass and before its optimiser step."""

    def __init__(self, gates: Gates) -> None:
        self._taken: dict[str, list[Tensor]] = {axis: [] for axis in gates.coefficients}
        self._hooks = [
            value.register_post_accumulate_grad_hook(self._taker(axis)) for axis, value in gates.coefficients.items()
        ]

    def __len__(self) -> int:
        return min(map(len, self._taken.values()))

    def at(self, step: int) -> dict[str, Tensor]:
        """Coefficients by axis that the released code looks up for a step: those at index step - 1.

        ParameterError for a step that has not been taken.
        """
        if not 1 <= step <= len(self):
            raise ParameterError(f"coefficients of step {step} were not logged: {len(self)} steps were, from 1 on")
        return {axis: taken[step - 1] for axis, taken in self._taken.items()}

    def remove(self) -> None:
        """Stop logging."""
        for hook in self._hooks:
            hook.remove()

    def _taker(self, axis: str) -> Callable[[Tensor], None]:
        return lambda value: self._taken[axis].append(value.detach().clone())


def draw(coefficients: Mapping[str, Tensor], *, heads: float = HEADS, neurons: float = NEURONS) -> dict[str, list[int]]:
    """The units that stay, by axis: those above the quantile `heads` of their layer or `neurons` of all layers.

    Linearly interpolated quantiles, compared with the signed coefficients. Ours: a layer that would be left without
    a unit keeps its largest. ParameterError for ratios outside [0, 1) and for coefficients that are not numbers.
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
        axis: _above(value, _threshold(value, heads) if _is_heads(axis) else everywhere)
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


def _above(values: Tensor, threshold: float) -> list[int]:
    kept = (values > threshold).nonzero().flatten().tolist()
    return kept or [int(values.argmax())]
