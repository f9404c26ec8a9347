"""A model whose upper layers alone are trained."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn


class Partly(nn.Module):
    """A model whose layers below `first` rest: nothing flows back beyond its input, so that a tied embedding is head.

    The stack of layers is at `path`.
    """

    def __init__(self, model: nn.Module, path: str, first: int) -> None:
        super().__init__()
        self.model, self.path, self.first = model, path, first

    def forward(self, x_B: Tensor) -> Tensor:
        layer = cast(nn.ModuleList, self.model.get_submodule(self.path))[self.first]
        hook = layer.register_forward_pre_hook(lambda _, read: (read[0].detach(), *read[1:]))
        try:
            outputs: Tensor = self.model(x_B)
        finally:
            hook.remove()
        return outputs

    def forward_flops(self, *size: int) -> dict[str, int]:
        """FLOPs of one forward by part."""
        return cast(Any, self.model).forward_flops(*size)

    def train_flops(self, *size: int) -> int:
        """FLOPs of forward and backward; of what rests the forward alone.

        Of a post-norm model gradients of what the lowest trained queries, keys and values read count, and are not made.
        """
        flops = self.forward_flops(*size)
        below = tuple(f"{self.path}.{layer}." for layer in range(self.first))
        resting = sum(value for name, value in flops.items() if name.startswith(below))
        # Of patches a backward pass makes the gradient of the weights alone.
        return cast(Any, self.model).train_flops(*size) - 2 * resting - flops.get("stem", 0)
