"""Stacks of layers are found in every architecture, and every parameter has one place."""

from __future__ import annotations

import pytest
from torch import nn

from effi.axes import Layered, depth, layered
from effi.errors import ParameterError
from effi.models.gpt import GPT
from effi.models.language import TextSize
from tests.axes.tiny import DEPTH, HEADS, HIDDEN, TINY, WIDTH

STACKS = {
    "our ViT": ["blocks"],
    "our Swin": ["stages.0", "stages.2"],
    "torchvision ViT": ["encoder.layers"],
    "torchvision Swin": ["features.1", "features.3"],
    "GPT-2": ["model.transformer.h"],
    "our RoBERTa": ["net.roberta.encoder.layer"],
    "our MiniLM": ["net.bert.encoder.layer"],
    "CLIP": ["model.text_model.encoder.layers", "model.vision_model.encoder.layers"],
}


def gpt(layers: int = 3) -> nn.Module:
    return GPT(11, 5, TextSize(WIDTH, layers, HEADS, HIDDEN))


@pytest.mark.parametrize("name", STACKS)
def test_the_stacks_of_every_architecture(name: str):
    model = TINY[name].make()
    assert depth(model) == dict.fromkeys(STACKS[name], DEPTH)
    for stack, layers in depth(model).items():
        assert len(model.get_submodule(stack)) == layers


def test_depth_counts_layers():
    assert depth(gpt(3)) == {"blocks": 3} and depth(gpt(1)) == {"blocks": 1}


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_has_one_place(name: str):
    """Layers of a stack have the same roles, and stack, layer and role make up the name."""
    model = TINY[name].make()
    places = layered(model)
    assert list(places) == [parameter for parameter, _ in model.named_parameters()]
    for stack, layers in depth(model).items():
        children = [child for child, _ in model.get_submodule(stack).named_children()]
        roles: dict[int, set[str]] = {layer: set() for layer in range(layers)}
        for parameter, place in places.items():
            if place.stack == stack:
                assert place.layer is not None
                assert parameter == f"{stack}.{children[place.layer]}.{place.role}"
                roles[place.layer].add(place.role)
        assert len(set(map(frozenset, roles.values()))) == 1


def test_what_is_outside_keeps_its_name():
    places = layered(gpt())
    assert places["embedding.weight"] == Layered("", None, "embedding.weight")
    assert places["blocks.2.mlp.0.weight"] == Layered("blocks", 2, "mlp.0.weight")


def test_a_stack_may_be_the_model_itself():
    model = nn.Sequential(*gpt(2).blocks)
    assert depth(model) == {"": 2}
    assert layered(model)["1.mlp.2.weight"] == Layered("", 1, "mlp.2.weight")


def test_an_unknown_model_is_refused():
    with pytest.raises(ParameterError, match="no attention or feed-forward block of Linear is known"):
        depth(nn.Linear(2, 2))
