"""Learnable coefficients on the units of a model: EarlyBERT's (arXiv 2101.00063, finetune/)."""

from __future__ import annotations

from torch import Tensor, nn

from effi.axes.description import Place, places
from effi.errors import ParameterError


class Gates(nn.Module):
    """A coefficient for each head and each neuron of a model, all 1 at first, as parameters of that model.

    They scale the input of the layer that reads the units. On a head this equals a coefficient on its attention
    probabilities after dropout; on a neuron one on its activation.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        found = places(model)
        self.table = nn.ParameterDict({_key(axis): _ones(place) for axis, place in found.items()})
        # A list hides the model from parameters(): it holds the gates, not they it.
        self._model = [model]
        self._classes = [(place.module, type(place.module)) for place in found.values() if place.units.opened]
        for place in found.values():
            place.open()
        self._hooks = [
            place.reader.register_forward_pre_hook(_Scale(self, _key(axis))) for axis, place in found.items()
        ]

    @property
    def coefficients(self) -> dict[str, nn.Parameter]:
        """Axis name -> coefficients of its units."""
        return {key.replace("/", "."): value for key, value in self.table.items()}

    def remove(self) -> None:
        """Take the coefficients off the model, which then computes as before `with_gates`."""
        for hook in self._hooks:
            hook.remove()
        for module, kind in self._classes:
            module.__class__ = kind
        del self._model[0].gates


class _Scale:
    """A forward-pre-hook that scales the units in a layer's input.

    It looks its coefficients up when called, so that copies and functional calls of the model use their own.
    """

    def __init__(self, gates: Gates, key: str) -> None:
        self.gates, self.key = gates, key

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, coefficients = inputs[0], self.gates.table[self.key].to(inputs[0].dtype)
        if len(coefficients) == x.shape[-1]:
            return (x * coefficients, *inputs[1:])
        return ((x.unflatten(-1, (len(coefficients), -1)) * coefficients[:, None]).flatten(-2), *inputs[1:])


def with_gates(model: nn.Module) -> Gates:
    """Put coefficients on all heads and neurons of a model; an optimiser made afterwards trains them too.

    They are the submodule `gates` of the model and part of its state until `remove()`. torch's and torchvision's
    attention classes, which never call their output layer, compute meanwhile by `effi.axes.opened` and `.windows`.
    ParameterError for a model without a known block or with a `gates` of its own.
    """
    if hasattr(model, "gates"):
        raise ParameterError(f"this {type(model).__name__} has gates already: call remove() on them first")
    model.gates = Gates(model)
    return model.gates


def _key(axis: str) -> str:
    """The axis as a parameter's name, which must not contain a dot."""
    return axis.replace(".", "/")


def _ones(place: Place) -> nn.Parameter:
    like = next(place.reader.parameters())
    return nn.Parameter(like.new_ones(place.count))
