"""AdamW under a mask: what is pruned keeps weight, gradient and moments of zero, in one pass over memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.kernels.dispatch import takes


class Weight(NamedTuple):
    """A parameter and what belongs to it, all of its shape; `stencil` has a byte of ones where it is kept, else 0."""

    parameter: Tensor
    gradient: Tensor
    mean: Tensor
    square: Tensor
    stencil: Tensor | None


@dataclass(frozen=True)
class Rates:
    """What weights of one group share at a step, counted from 1."""

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    step: float

    @property
    def size(self) -> float:
        """Rate of the step, its mean corrected for its start at 0."""
        return self.lr / (1 - self.betas[0] ** self.step)

    @property
    def root(self) -> float:
        """What corrects the root of the mean square."""
        return (1 - self.betas[1] ** self.step) ** 0.5


def by_torch(weights: Sequence[Weight], rates: Rates) -> None:
    """One step of AdamW (Loshchilov and Hutter 2019, as torch has it) and the mask, in plain torch."""
    beta1, beta2 = rates.betas
    for parameter, gradient, mean, square, stencil in weights:
        if stencil is not None:
            gradient = gradient.masked_fill(stencil == 0, 0)
        parameter.mul_(1 - rates.lr * rates.weight_decay)
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        parameter.addcdiv_(mean, (square.sqrt() / rates.root).add_(rates.eps), value=-rates.size)
        if stencil is not None:
            for value in (parameter, mean, square):
                value.masked_fill_(stencil == 0, 0)


class MaskedAdamW(torch.optim.AdamW):
    """Torch's AdamW, whose step also keeps what `stencils` leave out at zero: parameter -> int8, all bits or none.

    Its state is that of torch's, with counts of steps on the CPU. Weights in float32 that lie in order are computed
    by the kernel "adamw" where it is taken, others in plain torch. `effi.masks.hold` sets the stencils. ParameterError
    for options of torch's step that this one does not have.
    """

    def __init__(self, params: Any, **options: Any) -> None:
        for name in ("amsgrad", "maximize", "capturable", "differentiable"):
            if options.get(name):
                raise ParameterError(f"AdamW under a mask has no {name}; take torch.optim.AdamW")
        super().__init__(params, **options, foreach=False)
        self.stencils: Mapping[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of all parameters that have a gradient; they lie on one device."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        taken = bool(parameters) and takes("adamw", parameters[0].device, sum(p.numel() for p in parameters))
        for rates, weights in self._batches():
            (_by_kernel if taken else by_torch)(weights, rates)
        return loss

    def _batches(self) -> Iterator[tuple[Rates, list[Weight]]]:
        """Weights of each group that have made as many steps, this one counted."""
        for group in self.param_groups:
            found: dict[float, list[Weight]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    found.setdefault(self._count(parameter), []).append(self._weight(parameter))
            for step, weights in found.items():
                yield Rates(group["lr"], group["betas"], group["eps"], group["weight_decay"], step), weights

    def _count(self, parameter: nn.Parameter) -> float:
        """The number of this step; the first one makes the state."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] = state["step"].cpu()  # a checkpoint's lies with its weights
        state["step"] += 1
        return float(state["step"])

    def _weight(self, parameter: nn.Parameter) -> Weight:
        state, stencil = self.state[parameter], self.stencils.get(parameter)
        return Weight(parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"], stencil)  # type: ignore[arg-type]


def _by_kernel(weights: Sequence[Weight], rates: Rates) -> None:
    from effi.kernels.gpu import adamw

    fits = [adamw.fits(weight) for weight in weights]
    adamw.step([weight for weight, fit in zip(weights, fits, strict=True) if fit], rates)
    by_torch([weight for weight, fit in zip(weights, fits, strict=True) if not fit], rates)
