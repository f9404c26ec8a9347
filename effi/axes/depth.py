"""The depth axis: which stacks of layers a model has, and which layer a parameter belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from effi.axes.description import described


@dataclass(frozen=True)
class Layered:
    """Where a parameter lies: its stack and layer, and its name inside the layer.

    Outside of every stack these are "", None and the whole name.
    """

    stack: str
    layer: int | None
    role: str


def depth(model: nn.Module) -> dict[str, int]:
    """Path of a stack of layers -> how many layers it has; CaiT has two stacks, BERT, GPT-2 and ViT one.

    A stack is a list of modules of one class, each with described units, inside which there is no other such list.
    ParameterError for a model without a known block.
    """
    return {stack: len(layers) for stack, layers in _stacks(model).items()}


def layered(model: nn.Module) -> dict[str, Layered]:
    """Parameter name -> where it lies on the depth axis, for all parameters; a tied one has one name.

    ParameterError for a model without a known block.
    """
    stacks = _stacks(model)
    places = {
        f"{stack}.{layer}.".lstrip("."): (stack, index)
        for stack, layers in stacks.items()
        for index, layer in enumerate(layers)
    }
    return {name: _place(name, places) for name, _ in model.named_parameters()}


def _place(name: str, places: dict[str, tuple[str, int]]) -> Layered:
    for prefix, (stack, layer) in places.items():
        if name.startswith(prefix):
            return Layered(stack, layer, name.removeprefix(prefix))
    return Layered("", None, name)


def _stacks(model: nn.Module) -> dict[str, list[str]]:
    """Path of a stack -> names of its layers, in order."""
    paths = [each.path for each in described(model) if each.structure.units]
    found = dict(_uniform(model, paths))
    return {
        path: layers
        for path, layers in found.items()
        if not any(other != path and f"{other}.".startswith(f"{path}.".lstrip(".")) for other in found)
    }


def _uniform(model: nn.Module, paths: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Lists whose elements are of one class and each hold one of the paths."""
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(module):
            layers = [name for name, _ in module.named_children()]
            inside = [f"{path}.{name}".lstrip(".") for name in layers]
            holds = all(any(f"{held}.".startswith(f"{each}.") for held in paths) for each in inside)
            if holds and len({type(layer) for layer in module.children()}) == 1:
                yield path, layers
