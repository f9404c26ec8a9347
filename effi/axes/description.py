"""What the dimensions of a module class stand for, and where a model holds such modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor, nn

from effi.errors import ParameterError


@dataclass(frozen=True)
class Units:
    """Removable units of a module class: its heads or its neurons.

    `reader` is the submodule whose input they are. `count` is the attribute with their number; without one every
    position of the dimension is a unit. `sizes` are attributes that hold the number times the width of a unit.
    `opened` is the dotted name of a class that computes the same through `reader` and with any number of units, for
    classes that do not.
    """

    reader: str
    count: str = ""
    sizes: tuple[str, ...] = ()
    opened: str = ""


@dataclass(frozen=True)
class Structure:
    """The description of one module class: the names of its parameters' dimensions, and its units by axis."""

    dimensions: Mapping[str, tuple[str, ...]]
    units: Mapping[str, Units] = field(default_factory=dict)


_STRUCTURES: dict[str, Structure] = {}


def describe(kind: type[nn.Module] | str, dimensions: Mapping[str, str], **units: Units) -> None:
    """Make a module class known to `axes` and `slim`; `kind` is the class or its dotted name.

    `dimensions` gives for each parameter, by its name inside the class, the axes of its dimensions in order, parted by
    spaces: {"qkv.weight": "heads:query+key+value width", "out.weight": "width heads:value"}. Stacked matrices are
    joined by "+"; "-" is a dimension without an axis. Each keyword names an axis that can lose units, as in
    heads=Units(reader="out", count="heads"). A description holds for subclasses that keep the class's forward.
    ParameterError for units that no dimension names.
    """
    name = kind if isinstance(kind, str) else _dotted(kind)
    split = {parameter: tuple(text.split()) for parameter, text in dimensions.items()}
    named = {axis_of(dimension) for every in split.values() for dimension in every}
    if unnamed := [axis for axis in units if axis not in named]:
        raise ParameterError(f"no dimension of {name} is called {unnamed[0]}: name it in `dimensions`")
    _STRUCTURES[name] = Structure(split, units)


def axis_of(dimension: str) -> str:
    """The axis in the name of a dimension: what stands before the roles."""
    return dimension.partition(":")[0]


def _dotted(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def structure_of(kind: type) -> Structure | None:
    """The description of a class or of the nearest base whose forward it keeps."""
    for base in kind.__mro__:
        if _dotted(base) in _STRUCTURES:
            return _STRUCTURES[_dotted(base)]
        if "forward" in vars(base):
            return None
    return None


@dataclass(frozen=True)
class Described:
    """A described module inside a model."""

    path: str
    module: nn.Module
    structure: Structure

    def under(self, name: str) -> str:
        """A name inside the module as a name inside the model."""
        return f"{self.path}.{name}" if self.path else name

    def dimensions(self) -> dict[str, tuple[str, ...]]:
        """Dimension names of its parameters; the removable axes carry the module's path."""
        held, units = dict(self.module.named_parameters()), self.structure.units

        def full(dimension: str) -> str:
            return self.under(dimension) if axis_of(dimension) in units else dimension.replace("-", "")

        return {
            self.under(name): tuple(map(full, dimensions))
            for name, dimensions in self.structure.dimensions.items()
            if name in held
        }


class Span(NamedTuple):
    """A dimension of a parameter that is an axis; matrices that mix heads have the axis twice."""

    parameter: str
    dimension: int
    stacked: int


@dataclass(frozen=True)
class Place:
    """The units of one axis in one described module."""

    described: Described
    name: str

    @property
    def axis(self) -> str:
        """The axis's name in the model."""
        return self.described.under(self.name)

    @property
    def units(self) -> Units:
        return self.described.structure.units[self.name]

    @property
    def module(self) -> nn.Module:
        return self.described.module

    @property
    def reader(self) -> nn.Module:
        """The submodule whose input is the axis."""
        return self.module.get_submodule(self.units.reader)

    @cached_property
    def spans(self) -> list[Span]:
        """Where the parameters have the axis, in the order of the description."""
        held = {name for name, _ in self.module.named_parameters()}
        return [
            Span(parameter, dimension, name.count("+") + 1)
            for parameter, names in self.described.structure.dimensions.items()
            for dimension, name in enumerate(names)
            if parameter in held and axis_of(name) == self.name
        ]

    @property
    def count(self) -> int:
        """How many units there are now."""
        if self.units.count:
            owner, _, attribute = self.units.count.rpartition(".")
            return getattr(self.module.get_submodule(owner), attribute)
        span = self.spans[0]
        return self.module.get_parameter(span.parameter).shape[span.dimension] // span.stacked

    def open(self) -> None:
        """Let the module compute through its reader, with any number of units, where its class does not."""
        if self.units.opened:
            home, _, name = self.units.opened.rpartition(".")
            self.module.__class__ = getattr(import_module(home), name)

    def positions(self, span: Span, kept: list[int]) -> Tensor:
        """Indices that the kept units occupy on the axis in one of the parameters."""
        held = self.module.get_parameter(span.parameter)
        every = torch.arange(held.shape[span.dimension], device=held.device)
        return every.view(span.stacked, self.count, -1)[:, kept].flatten()


def described(model: nn.Module) -> list[Described]:
    """All described modules of a model, in order. ParameterError when none of them has units to remove."""
    found = list(_walk(model))
    if not any(each.structure.units for each in found):
        raise ParameterError(
            f"no attention or feed-forward block of {type(model).__name__} is known: describe the class of its blocks "
            "with effi.axes.describe(BlockClass, dimensions, heads=Units(...), neurons=Units(...))"
        )
    return found


def places(model: nn.Module) -> dict[str, Place]:
    """The axes of a model that can lose units, by name."""
    found = (Place(each, name) for each in described(model) for name in each.structure.units)
    return {place.axis: place for place in found}


def _walk(model: nn.Module) -> Iterator[Described]:
    for path, module in model.named_modules():
        structure = structure_of(type(module))
        if structure is not None:
            found = Described(path, module, structure)
            _check(found)
            yield found


def _check(found: Described) -> None:
    """Removing units is safe only where every parameter beside them is described."""
    if not found.structure.units:
        return
    inner = {name for name, child in found.module.named_modules() if name and structure_of(type(child))}
    for name, _ in found.module.named_parameters():
        own = not any(name.startswith(f"{child}.") for child in inner)
        if own and name not in found.structure.dimensions:
            raise ParameterError(
                f"{type(found.module).__name__} at {found.path or 'the top'} has a parameter {name} that its "
                "description lacks: describe this form of it with effi.axes.describe"
            )
