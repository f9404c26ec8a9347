"""A model as matrices (out, in) whose axes have kinds: what every way of growing works on.

Kinds of an axis: "width" (the residual stream), "query", "key", "value" (the units of all heads together), "heads"
(one unit a head), "neurons", "head" (what the transform of a masked-language head writes), and "" for what never
grows: vocabulary, positions, types, tokens, pixels, classes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from effi.axes import Layered, axes, depth, layered, units
from effi.errors import ParameterError

KINDS = ("width", "heads", "neurons", "head")


@dataclass(frozen=True)
class Piece:
    """A matrix or a vector of a model: a parameter, or one of the matrices that are stacked in it.

    `part` is which of the stacked ones, or None. `stack` and `layer` are as in `effi.axes.layered`; `role` is the
    module inside the layer, outside of every stack inside the model, and the part. `out` and `into` are the kinds of
    rows and columns; a vector's `into` is None.
    """

    name: str
    part: str | None
    stack: str
    layer: int | None
    role: str
    out: str
    into: str | None

    @property
    def bias(self) -> bool:
        """Whether it is a bias, of a linear layer or of a norm."""
        return self.name.endswith("bias")

    @property
    def module(self) -> str:
        """The module, the same for all layers of a stack; weight and bias share it."""
        return f"{self.stack}.{self.role}".lstrip(".") if self.layer is not None else self.role

    @property
    def family(self) -> str:
        """What depth mixing mixes: pieces that differ in their layer alone."""
        return f"{self.module}.bias" if self.bias else self.module


@dataclass(frozen=True)
class Form:
    """A parameter and its pieces; `dimensions` names the axes as they are stored, `transposed` is (in, out)."""

    shape: torch.Size
    dimensions: tuple[str, ...]
    transposed: bool
    pieces: tuple[Piece, ...]

    def matrices(self, value: Tensor) -> tuple[Tensor, ...]:
        """The parameter's value, or one of its shape such as a moment, as its pieces."""
        if value.ndim > 2:
            value = value.flatten(1) if _kinds(self.dimensions[0]) != [""] else value.flatten(0, -2)
        whole = value.mT if self.transposed else value
        return whole.chunk(len(self.pieces)) if len(self.pieces) > 1 else (whole,)

    def value(self, matrices: Mapping[Piece, Tensor]) -> Tensor:
        """The parameter's value of its pieces."""
        parts = [matrices[piece] for piece in self.pieces]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        return (whole.mT if self.transposed else whole).reshape(self.shape)


def forms(model: nn.Module) -> dict[str, Form]:
    """Parameter name -> how it is made of pieces; tied parameters once.

    ParameterError for a model without a known block, or with a parameter that no description covers.
    """
    dimensions, places = axes(model), layered(model)
    found = {}
    for name, parameter in model.named_parameters():
        if len(dimensions.get(name, ())) != parameter.ndim:
            raise ParameterError(
                f"nothing says what the axes of {name} are: describe the class that holds it with effi.axes.describe"
            )
        found[name] = _form(model, name, parameter, dimensions[name], places[name])
    return found


def shapes(found: Mapping[str, Form]) -> dict[str, torch.Size]:
    """Family -> shape of one layer's matrix or vector."""
    made = ((form, form.matrices(torch.empty(form.shape, device="meta"))) for form in found.values())
    return {
        piece.family: matrix.shape
        for form, matrices in made
        for piece, matrix in zip(form.pieces, matrices, strict=True)
    }


def pieces(model: nn.Module) -> list[Piece]:
    """All pieces of a model, in the order of its parameters. Errors as `forms`."""
    return [piece for form in forms(model).values() for piece in form.pieces]


def split(model: nn.Module, values: Mapping[str, Tensor] | None = None) -> dict[Piece, Tensor]:
    """Piece -> its matrix (out, in) or vector (out,), a view of the model's weight where it can be, without gradient.

    Rows of an embedding are its tokens; kernels of a patch convolution are flattened to (width, pixels). `values` by
    name take the place of the model's own. Errors as `forms`.
    """
    found: dict[Piece, Tensor] = {}
    for name, form in forms(model).items():
        value = model.get_parameter(name).detach() if values is None else values[name]
        found |= zip(form.pieces, form.matrices(value), strict=True)
    return found


def join(model: nn.Module, tensors: Mapping[Piece, Tensor]) -> dict[str, Tensor]:
    """Parameter name -> tensor of the parameter's shape, from all pieces of `model`; differentiable."""
    return joined(forms(model), tensors)


def joined(target: Mapping[str, Form], tensors: Mapping[Piece, Tensor]) -> dict[str, Tensor]:
    """Like `join`, for a model of which the forms are known."""
    return {name: form.value(tensors) for name, form in target.items()}


@torch.no_grad()
def place(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a model these weights by name, all that it has; a tied one has one name."""
    own = dict(model.named_parameters())
    for name in own.keys() | weights.keys():
        own[name].copy_(weights[name])


def _form(model: nn.Module, name: str, parameter: nn.Parameter, dimensions: tuple[str, ...], place: Layered) -> Form:
    # transformers' Conv1D stores its matrix as (in, out) and has the number of outputs as `nf`.
    transposed = parameter.ndim == 2 and hasattr(model.get_submodule(name.rpartition(".")[0]), "nf")
    rows, columns = _ends(dimensions, transposed)
    outs = _kinds(rows)
    into = None if columns is None else _kinds(columns)[0]
    role = re.sub(r"[._](weight|bias)$", "", place.role)
    parts = [(None, role)] if len(outs) == 1 else [(out, f"{role}.{out}") for out in outs]
    made = (
        Piece(name, part, place.stack, place.layer, own, out, into)
        for (part, own), out in zip(parts, outs, strict=True)
    )
    return Form(parameter.shape, dimensions, transposed, tuple(made))


def _ends(dimensions: tuple[str, ...], transposed: bool) -> tuple[str, str | None]:
    """The axes of rows and columns; of more than two dimensions the first or the last is an end of its own."""
    if len(dimensions) < 2:
        return "".join(dimensions), None
    first, last = dimensions[0], dimensions[-1]
    if len(dimensions) > 2:
        return (first, "") if _kinds(first) != [""] else ("", last)
    return (last, first) if transposed else (first, last)


def _kinds(axis: str) -> list[str]:
    """The kinds of an axis, one for each matrix stacked on it."""
    name, _, roles = axis.partition(":")
    leaf = name.rpartition(".")[2]
    if leaf not in KINDS:
        return [""]
    return roles.split("+") if roles else [leaf]


# --- pairs -------------------------------------------------------------------------------------------------------


def check_pair(small: nn.Module, large: nn.Module) -> None:
    """ParameterError unless `large` is `small` with as many or more layers, channels, heads and neurons.

    Named are: another architecture, a tied head beside an untied one, fewer layers, another vocabulary, length or
    number of classes, a narrower axis, heads of another width, and a model whose layers differ in size.
    """
    if type(small) is not type(large):
        raise ParameterError(
            f"a {type(small).__name__} does not grow into a {type(large).__name__}: give two models of one architecture"
        )
    ours, theirs = forms(small), forms(large)
    if tied_head(ours) != tied_head(theirs):
        raise ParameterError(
            "the head of one model is its embedding and that of the other is not, so that what is exported would not "
            "be what was tuned: make both tied or both untied"
        )
    _check_depth(depth(small), depth(large))
    few, many = _families(ours, "small"), _families(theirs, "large")
    if strange := sorted(few.keys() ^ many.keys()):
        raise ParameterError(f"only one of the models has {strange[0]}: give two models of one architecture")
    for family in few:
        _check_family(family, few[family], many[family])
    _check_heads(small, large)


def tied_head(found: Mapping[str, Form]) -> bool:
    """Whether words have one matrix, which is embedding and head."""
    return sum(len(form.dimensions) == 2 and "vocabulary" in form.dimensions for form in found.values()) == 1


def _check_depth(few: Mapping[str, int], many: Mapping[str, int]) -> None:
    if few.keys() != many.keys():
        raise ParameterError(
            f"the stacks of layers are {', '.join(few)} and {', '.join(many)}: give two models of one architecture"
        )
    for stack, layers in few.items():
        if many[stack] < layers:
            raise ParameterError(
                f"the large model is shallower: {many[stack]} layers of {stack or 'the model'}, the small one has "
                f"{layers}; growth adds layers, so exchange the two or give a deeper one"
            )


def _families(found: Mapping[str, Form], which: str) -> dict[str, Form]:
    """Family of the first piece -> form of its first layer, whose shape all layers share."""
    alike = defaultdict(list)
    for form in found.values():
        alike[form.pieces[0].family].append(form)
    for forms_ in alike.values():
        shapes = {tuple(form.shape) for form in forms_}
        if len(shapes) > 1:
            raise ParameterError(
                f"layers of the {which} model differ in size ({forms_[0].pieces[0].role}: "
                f"{' and '.join(map(str, sorted(shapes)))}): only stacks of equal layers grow"
            )
    return {family: forms_[0] for family, forms_ in alike.items()}


def _check_family(family: str, few: Form, many: Form) -> None:
    names = [[_kinds(axis) for axis in form.dimensions] for form in (few, many)]
    if names[0] != names[1]:
        raise ParameterError(f"{family} has other axes in the two models: give two models of one architecture")
    sizes = zip(few.dimensions, few.shape, many.shape, strict=True)
    for axis, ours, theirs in sizes:
        name = axis.partition(":")[0].rpartition(".")[2]
        if _kinds(axis) == [""] and ours != theirs:
            raise ParameterError(
                f"{family} has {ours} {name or 'entries'} in the small model and {theirs} in the large one: growth "
                "leaves vocabulary, lengths and classes as they are, so make both models with the same"
            )
        if theirs < ours:
            raise ParameterError(
                f"the large model is narrower: {theirs} {name} in {family}, the small one has {ours}; growth adds "
                "units, so exchange the two or give a wider one"
            )


def _check_heads(small: nn.Module, large: nn.Module) -> None:
    ours, theirs = (sorted(set(_head_widths(model))) for model in (small, large))
    if ours != theirs:
        raise ParameterError(
            f"a head is {' or '.join(map(str, ours))} wide in the small model and {' or '.join(map(str, theirs))} in "
            "the large one: growth adds whole heads, so give the large one width / head width many of the same width"
        )


def _head_widths(model: nn.Module) -> Iterator[int]:
    """Width of a head of every attention, by every matrix that has its heads."""
    counts = units(model)
    for name, dimensions in axes(model).items():
        for dimension, axis in enumerate(dimensions):
            heads, _, roles = axis.partition(":")
            if roles and heads in counts:
                yield model.get_parameter(name).shape[dimension] // (roles.count("+") + 1) // counts[heads]
