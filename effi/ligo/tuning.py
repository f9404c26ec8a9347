"""The large model under grown weights, so that training it trains the growth operator, and the export of the weights.

Two ways to the same gradients: a functional call of the model, which `Grown` makes, and an ordinary backward pass of
the model whose gradients then go back through the operator (`two_stage_gradients`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from effi.ligo.operator import GrowthOperator
from effi.ligo.pieces import place


class Grown(nn.Module):
    """`large` computed with the weights that `operator` grows; parameters are the operator's alone.

    The large model's own weights are neither used nor changed. Its mode follows; it moves to no device with this. In
    evaluation without gradients the weights are grown once until the operator changes.
    """

    def __init__(self, operator: GrowthOperator, large: nn.Module) -> None:
        super().__init__()
        self.operator = operator
        # A list hides the model from parameters(): it is not what is trained.
        self._large = [large]
        self._kept: tuple[object, dict[str, Tensor]] | None = None
        self._flops: int | None = None

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the large model makes of these inputs; its weights are made in the operator's own precision."""
        with torch.autocast(inputs[0].device.type, enabled=False):
            weights = self._weights()
        return functional_call(self._large[0], weights, inputs)

    def train(self, mode: bool = True) -> Grown:
        """Set the mode, of the large model, too."""
        super().train(mode)
        self._large[0].train(mode)
        self._kept = None
        return self

    def _weights(self) -> dict[str, Tensor]:
        if self.training or torch.is_grad_enabled():
            return self.operator()
        version = tuple(parameter._version for parameter in self.operator.parameters())
        if self._kept is None or self._kept[0] != version:
            self._kept = version, self.operator()
        return self._kept[1]

    @property
    def flops_version(self) -> object:
        """What FLOPs hang on beside shapes, as the large model says."""
        return getattr(self._large[0], "flops_version", 0)

    @property
    def forward_flops(self) -> Callable[..., dict[str, int]] | None:
        """The large model's closed form of one forward, where it has one: in evaluation growth is made once for all."""
        return getattr(self._large[0], "forward_flops", None)

    @property
    def train_flops(self) -> Callable[..., int] | None:
        """FLOPs of a step, growth and its backward pass included, where the large model has a closed form."""
        closed: Callable[..., int] | None = getattr(self._large[0], "train_flops", None)
        if closed is None:
            return None
        if self._flops is None:
            self._flops = self.operator.flops()
        growth = self._flops
        return lambda *sizes: closed(*sizes) + growth


def two_stage_gradients(
    operator: GrowthOperator, large: nn.Module, loss_of: Callable[[nn.Module], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of `large` under grown weights, and the gradient of every coefficient that is learned, by name.

    The weights are copied into `large`, which keeps them; `loss_of(large)` is differentiated as usual, and its
    gradients go on through the operator. Works with whatever an ordinary training step works with.
    """
    grown = operator()
    place(large, grown)
    loss, found = _backward(large, loss_of)
    reached = [(grown[name], gradient) for name, gradient in found.items() if grown[name].requires_grad]
    values, gradients = zip(*reached, strict=True)
    learned = {name: parameter for name, parameter in operator.named_parameters() if parameter.requires_grad}
    through = torch.autograd.grad(values, list(learned.values()), gradients, allow_unused=True, materialize_grads=True)
    return loss, dict(zip(learned, through, strict=True))


def _backward(model: nn.Module, loss_of: Callable[[nn.Module], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and gradients of all weights that it hangs on by name; frozen ones are frozen again afterwards."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    model.requires_grad_(True).zero_grad()
    loss = loss_of(model)
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    for parameter in frozen:
        parameter.requires_grad_(False)
    return loss.detach(), found


def export(operator: GrowthOperator, large: nn.Module) -> None:
    """Copy the grown weights into the large model, which is ordinary from then on; no gradient is kept."""
    with torch.no_grad():
        place(large, operator())
