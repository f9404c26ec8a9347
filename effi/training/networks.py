"""One model, or several seeds of it at once, behind one interface.

Shapes: R replicas (seeds trained together, 1 on a CPU), B batch, then those of an image or T tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from effi.models.attention import plain_attention


class Single(nn.Module):
    """One model behind the interface of `Replicas`, with R = 1 and nothing stacked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_RB: Tensor) -> Tensor:
        return self.model(x_RB[0])[None]

    def trainable(self) -> Iterator[tuple[str, nn.Parameter, int]]:
        """Name, parameter and dimensions of what is trained."""
        return ((name, p, p.ndim) for name, p in self.model.named_parameters() if p.requires_grad)

    def clip(self, norm: float) -> None:
        """Scale gradients down to a global norm."""
        nn.utils.clip_grad_norm_(self.parameters(), norm)

    def state(self, replica: int) -> dict[str, Tensor]:
        """A copy of the weights of one replica."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, shared weights once."""
        return dict(self.model.named_parameters()) | dict(self.model.named_buffers())

    def finish(self) -> None:
        """Leave the trained weights in the models that were given."""


class Headless(nn.Module):
    """What one model's head reads, (1, B, T) -> (1, B, T, N), where it has `hidden` and a `head_matrix` (V, N)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    @classmethod
    def of(cls, network: nn.Module) -> Headless | None:
        """That of a network that is one model and lies on one process."""
        return cls(network.model) if type(network) is Single and hasattr(network.model, "head_matrix") else None

    @property
    def matrix(self) -> Tensor | None:
        """What the head is a product with; None where it is no such thing."""
        matrix: Tensor | None = self.model.head_matrix
        return matrix

    def forward(self, x_RB: Tensor) -> Tensor:
        hidden: Tensor = self.model.hidden(x_RB[0])
        return hidden[None]


class Replicas(nn.Module):
    """R models of one shape as one, (R, B, ...) -> (R, B, classes): one kernel launch for all seeds."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        stacked, self.stacked_buffers = stack_module_state(list(models))
        self.names = list(stacked)
        self.stacked = nn.ParameterList(
            nn.Parameter(value.detach(), requires_grad=value.requires_grad) for value in stacked.values()
        )
        # A list hides the template and the models from parameters(): they are not what is trained.
        self.template, self.models = [copy.deepcopy(models[0]).to("meta")], list(models)

    def forward(self, x_RB: Tensor) -> Tensor:
        self.template[0].train(self.training)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x_B: Tensor) -> Tensor:
            return functional_call(self.template[0], (parameters, buffers), (x_B,))

        with plain_attention():
            parameters = dict(zip(self.names, self.stacked, strict=True))
            return vmap(one, randomness="different")(parameters, self.stacked_buffers, x_RB)

    def trainable(self) -> Iterator[tuple[str, nn.Parameter, int]]:
        """As in `Single`, with the dimensions of one replica's parameter."""
        named = zip(self.names, self.stacked, strict=True)
        return ((name, p, p.ndim - 1) for name, p in named if p.requires_grad)

    def clip(self, norm: float) -> None:
        """Scale each replica's gradients down to a global norm of its own."""
        gradients = [p.grad for p in self.stacked if p.grad is not None]
        squares = (g.flatten(1).square().sum(1) for g in gradients)
        lengths = sum(squares, gradients[0].new_zeros(())).sqrt()
        factors = (norm / (lengths + 1e-6)).clamp_max(1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))

    def state(self, replica: int) -> dict[str, Tensor]:
        """A copy of the weights of one replica, under the names of the single model."""
        values = self.tensors()
        kept = self.template[0].state_dict()
        return {name: values[name][replica].detach().clone() for name in kept}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, stacked."""
        return dict(zip(self.names, self.stacked, strict=True)) | self.stacked_buffers

    def finish(self) -> None:
        """Leave the trained weights in the models that were given."""
        for replica, model in enumerate(self.models):
            model.load_state_dict(self.state(replica))


Network = Single | Replicas
