"""A model as matrices: it is put together again to the bit, kinds are those of the axes, and wrong pairs are named."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from effi.errors import ParameterError
from effi.ligo.pieces import Piece, check_pair, forms, join, pieces, shapes, split, tied_head
from effi.models.gpt import GPT
from effi.models.language import TextSize, language_model
from tests.axes.tiny import TINY, scattered
from tests.ligo.beginnings import LARGER, MODELS, SMALL, gpt, vit, words

NAMELESS = ("CLIP", "our Swin", "torchvision Swin")  # of some of their parameters nothing is said
WHOLE = {name: partial(make, SMALL) for name, make in MODELS.items()}
WHOLE |= {name: tiny.make for name, tiny in TINY.items() if name not in NAMELESS}


def first(model: nn.Module) -> dict[str, Piece]:
    """Family -> its piece in the first layer."""
    return {piece.family: piece for piece in pieces(model) if piece.layer in (None, 0)}


@pytest.mark.parametrize("name", WHOLE)
def test_split_and_join_keep_every_bit(name: str):
    model = scattered(WHOLE[name]())
    joined = join(model, split(model))
    assert list(joined) == [name for name, _ in model.named_parameters()]
    assert all(torch.equal(joined[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("name", MODELS)
def test_only_what_is_no_unit_stays(name: str):
    """Every axis of a large model that grows is one of a kind; all others are as long as in the small model."""
    small, large = MODELS[name](SMALL), MODELS[name](LARGER)
    few, many = shapes(forms(small)), shapes(forms(large))
    for family, piece in first(small).items():
        kinds = (piece.out,) if piece.into is None else (piece.out, piece.into)
        for kind, ours, theirs in zip(kinds, few[family], many[family], strict=True):
            assert (theirs > ours) == bool(kind), (family, kind)


def test_kinds_and_roles_of_a_gpt():
    found = first(gpt(SMALL, bias=True, tied=False))
    kinds = {family: (piece.out, piece.into) for family, piece in found.items() if not piece.bias}
    assert kinds == {
        "embedding": ("", "width"),
        "positions": ("", "width"),
        "blocks.norm1": ("width", None),
        "blocks.attention.qkv.query": ("query", "width"),
        "blocks.attention.qkv.key": ("key", "width"),
        "blocks.attention.qkv.value": ("value", "width"),
        "blocks.attention.out": ("width", "value"),
        "blocks.norm2": ("width", None),
        "blocks.mlp.0": ("neurons", "width"),
        "blocks.mlp.2": ("width", "neurons"),
        "norm": ("width", None),
        "lm_head": ("", "width"),
    }
    bias = found["blocks.attention.qkv.key.bias"]
    assert bias == Piece("blocks.0.attention.qkv.bias", "key", "blocks", 0, "attention.qkv.key", "key", None)
    assert bias.bias and bias.module == "blocks.attention.qkv.key"


def test_transposed_and_stacked_matrices_are_rows_of_outputs():
    """transformers' Conv1D stores (in, out): three matrices side by side."""
    model = scattered(words("gpt2", SMALL))
    stored = model.net.transformer.h[1].attn.c_attn.weight
    found = {(piece.part, piece.layer): value for piece, value in split(model).items() if ".c_attn.w" in piece.name}
    for place, part in enumerate(("query", "key", "value")):
        assert torch.equal(found[part, 1], stored[:, 16 * place : 16 * (place + 1)].T)


def test_kernels_of_patches_and_tables_are_matrices():
    model = scattered(TINY["torchvision ViT"].make())
    found = {piece.name: (piece, value) for piece, value in split(model).items()}
    piece, kernel = found["conv_proj.weight"]
    assert (piece.out, piece.into) == ("width", "") and torch.equal(kernel, model.conv_proj.weight.flatten(1))
    piece, table = found["encoder.pos_embedding"]
    assert (piece.out, piece.into) == ("", "width") and torch.equal(table, model.encoder.pos_embedding[0])


def test_values_of_the_same_shapes_are_split_alike():
    model = scattered(words("gpt2", SMALL))
    doubled = {name: 2 * parameter.detach() for name, parameter in model.named_parameters()}
    whole = split(model)
    assert all(torch.equal(value, 2 * whole[piece]) for piece, value in split(model, doubled).items())


def test_a_tied_head_has_one_name():
    assert tied_head(forms(gpt(SMALL))) and not tied_head(forms(gpt(SMALL, tied=False)))
    assert tied_head(forms(words("bert", SMALL)))
    assert sum(piece.name.endswith("word_embeddings.weight") for piece in pieces(words("bert", SMALL))) == 1
    assert not any("decoder" in piece.name for piece in pieces(words("bert", SMALL)))


def test_what_the_transform_of_a_head_writes_is_an_axis_of_its_own():
    found = first(words("bert", SMALL))
    transform = found["net.cls.predictions.transform.dense"]
    assert (transform.out, transform.into) == ("head", "width")
    assert found["net.cls.predictions.transform.LayerNorm"].out == "head"


def test_a_parameter_without_a_description_is_named():
    model = gpt(SMALL)
    model.register_parameter("temperature", nn.Parameter(torch.ones(3)))
    with pytest.raises(ParameterError, match="nothing says what the axes of temperature are: describe the class"):
        pieces(model)


# --- pairs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_pairs_of_an_architecture_pass(name: str):
    check_pair(MODELS[name](SMALL), MODELS[name](LARGER))
    check_pair(MODELS[name](SMALL), MODELS[name](SMALL))


WRONG = {
    "another class": (gpt(SMALL), vit(LARGER), "a GPT does not grow into a ViT"),
    "another net": (words("bert", SMALL), words("gpt2", LARGER), "stacks of layers are net.bert.encoder.layer and net"),
    "tied and untied": (gpt(SMALL), gpt(LARGER, tied=False), "the head of one model is its embedding"),
    "biases": (gpt(SMALL), gpt(LARGER, bias=True), "only one of the models has blocks.attention.out.bias"),
    "shallower": (gpt(SMALL), gpt(TextSize(24, 1, 3, 48)), "shallower: 1 layers of blocks, the small one has 2"),
    "narrower": (gpt(LARGER), gpt(TextSize(16, 4, 2, 48)), "narrower: 16 width in embedding, the small one has 24"),
    "fewer neurons": (gpt(SMALL), gpt(TextSize(24, 2, 3, 30)), "narrower: 30 neurons in blocks.mlp.0"),
    "head width": (gpt(SMALL), gpt(TextSize(24, 2, 2, 48)), "a head is 8 wide in the small model and 12 in the large"),
    "vocabulary": (gpt(SMALL), GPT(33, 20, LARGER), "embedding has 32 vocabulary in the small model and 33"),
    "length": (gpt(SMALL), GPT(32, 21, LARGER), "positions has 20 positions in the small model and 21"),
}


@pytest.mark.parametrize(("small", "large", "said"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_pair_is_named(small: nn.Module, large: nn.Module, said: str):
    with pytest.raises(ParameterError, match=said):
        check_pair(small, large)


def test_layers_of_different_sizes_do_not_grow():
    from effi.axes import slim

    uneven = slim(gpt(SMALL), {"blocks.1.mlp.neurons": range(20)})
    with pytest.raises(ParameterError, match="layers of the small model differ in size"):
        check_pair(uneven, gpt(LARGER))


def test_classes_are_counted():
    make = partial(language_model, "bert", size=SMALL, length=20)
    with pytest.raises(ParameterError, match="30 vocabulary in the small model and 40"):
        check_pair(make(vocabulary=30), make(vocabulary=40))
