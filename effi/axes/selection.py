"""Removing units: a physically smaller model, and the mask that it equals."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effi.axes.description import Place, described, places
from effi.axes.gates import Gates
from effi.errors import ParameterError, did_you_mean

Keep = Mapping[str, Sequence[int]]


def axes(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Parameter name -> the axis of each dimension, for all parameters that a description covers.

    A tied weight has one name. "width" is the residual stream. Axes that can lose units bear the path of their module,
    and after a colon what their rows are: "blocks.0.attention.heads:query+key+value" stacks three matrices. "" is a
    dimension without a name.
    ParameterError for a model without a known block.
    """
    found = {name: names for each in described(model) for name, names in each.dimensions().items()}
    return {name: found[name] for name, _ in model.named_parameters() if name in found}


def units(model: nn.Module) -> dict[str, int]:
    """Axis name -> how many units it has: the heads of an attention ("...heads"), the neurons of an MLP ("...neurons").

    ParameterError for a model without a known block.
    """
    return {axis: place.count for axis, place in places(model).items()}


def slim(model: nn.Module, keep: Keep) -> nn.Module:
    """A copy of the model without the units that `keep` (axis -> indices that stay) leaves out.

    Same class, same function as the model with those units masked; axes that are not in `keep` stay whole. Dropout
    draws fewer numbers, and a saved slim model is read by `restore`. Gradients and optimiser states are not copied.
    ParameterError for an unknown axis, an index out of range, an axis left empty, or a model that carries gates.
    """
    if any(isinstance(module, Gates) for module in model.modules()):
        raise ParameterError("the model carries gates: call remove() on them before slim()")
    kept = checked(places(model), keep)
    smaller = copy.deepcopy(model)
    for axis, place in places(smaller).items():
        if axis in kept and len(kept[axis]) < place.count:
            _cut(place, kept[axis])
    return smaller


def mask_units(model: nn.Module, keep: Keep) -> dict[str, Tensor]:
    """The mask (parameter name -> kept) of all weights and biases of the units that `keep` leaves out.

    A model with these weights at zero computes what `slim(model, keep)` computes. Errors as `slim`.
    """
    found = places(model)
    mask: dict[str, Tensor] = {}
    for axis, kept in checked(found, keep).items():
        place = found[axis]
        for span in place.spans:
            parameter = place.module.get_parameter(span.parameter)
            held = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
            held.index_fill_(span.dimension, place.positions(span, kept), True)
            full = place.described.under(span.parameter)
            mask[full] = mask[full] & held if full in mask else held
    return mask


def restore(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A slim model from its saved weights and a whole model of its architecture: sizes are read off the weights.

    For `state_dict()`, safetensors files and the weights that transformers' save_pretrained writes, whose config cannot
    say that layers have unequal numbers of heads. ParameterError for weights of another architecture.
    """
    keep = {axis: range(_count(place, state)) for axis, place in places(model).items()}
    smaller, complete = slim(model, keep), dict(state)
    named = list(smaller.named_parameters(remove_duplicate=False))
    owners = {id(parameter): name for name, parameter in named if name in state}
    complete |= {name: state[owners[id(p)]] for name, p in named if name not in state and id(p) in owners}
    try:
        smaller.load_state_dict(complete)
    except RuntimeError as error:
        raise ParameterError(f"the saved weights are not those of a slim {type(model).__name__}: {error}") from error
    return smaller


def checked(found: Mapping[str, Place], keep: Keep) -> dict[str, list[int]]:
    """`keep` in rising order, with every index once."""
    return {axis: _indices(found, axis, kept) for axis, kept in keep.items()}


def _indices(found: Mapping[str, Place], axis: str, kept: Sequence[int]) -> list[int]:
    if axis not in found:
        raise ParameterError(f'the model has no axis "{axis}"{did_you_mean(axis, found)}')
    indices, count = sorted({int(index) for index in kept}), found[axis].count
    if not indices:
        raise ParameterError(f"{axis} would keep none of its {count} units: keep at least one in every layer")
    if indices[0] < 0 or indices[-1] >= count:
        wrong = indices[0] if indices[0] < 0 else indices[-1]
        raise ParameterError(f"{axis} has no unit {wrong}: its indices are 0 to {count - 1}")
    return indices


def _cut(place: Place, kept: list[int]) -> None:
    """Leave only the kept units in a module."""
    before, module = place.count, place.module
    positions = [place.positions(span, kept) for span in place.spans]
    for span, where in zip(place.spans, positions, strict=True):
        owner, _, leaf = span.parameter.rpartition(".")
        whole = module.get_parameter(span.parameter)
        part = whole.detach().index_select(span.dimension, where)
        setattr(module.get_submodule(owner), leaf, nn.Parameter(part, requires_grad=whole.requires_grad))
        _tell_size(module.get_submodule(owner))
    for path in (place.units.count, *place.units.sizes):
        if path:
            owner, _, attribute = path.rpartition(".")
            holder = module.get_submodule(owner)
            setattr(holder, attribute, getattr(holder, attribute) // before * len(kept))
    place.open()


def _count(place: Place, state: Mapping[str, Tensor]) -> int:
    """How many units of an axis the saved weights have."""
    span = place.spans[0]
    full, whole = place.described.under(span.parameter), place.module.get_parameter(span.parameter)
    saved = state.get(full)
    if saved is None:
        raise ParameterError(f"the saved weights lack {full}: give a model of their architecture")
    return saved.shape[span.dimension] * place.count // whole.shape[span.dimension]


def _tell_size(layer: Any) -> None:
    """Let a layer's attributes follow its weight: out and in of nn.Linear, in and out of transformers' Conv1D."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif hasattr(layer, "nf"):
        layer.nx, layer.nf = layer.weight.shape
