"""Each rival's rule in closed form, and its errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from effi.errors import ParameterError
from effi.ligo.copying import drawn, equally, rules, unequally
from effi.ligo.pieces import forms
from effi.ligo.rivals import RIVALS
from effi.models.language import TextSize
from effi.seeds import generator
from tests.axes.tiny import scattered
from tests.ligo.beginnings import DEEPER, LARGER, MODELS, POST, SMALL, TWICE, WIDER, begun, gpt, inputs, pair, vit

rivals = pytest.mark.parametrize("rival", RIVALS)


def sources(small: nn.Module, large: nn.Module) -> dict[str, torch.Tensor]:
    """The old unit of each new one that seed 0 draws, by kind."""
    made = rules(small, large, drawn(generator(0, "growth")), equally)
    return {kind: rule.source for (_, kind), rule in made.items()}


def shared(source: torch.Tensor) -> torch.Tensor:
    """One over how often a unit's old unit is copied."""
    return 1 / source.bincount()[source]


@pytest.mark.parametrize(
    ("name", "rival"),
    [(name, rival) for name in MODELS for rival in RIVALS if name not in POST or rival != "zero-pad-fixed"],
)
def test_every_parameter_gets_a_finite_value_of_its_shape(name: str, rival: str):
    small, large = pair(name, TWICE)
    before = [value.clone() for value in small.parameters()]
    weights = RIVALS[rival](small, large, 0)
    assert {key: value.shape for key, value in weights.items()} == {
        key: form.shape for key, form in forms(large).items()
    }
    assert all(value.isfinite().all() and not value.requires_grad for value in weights.values())
    assert all(map(torch.equal, before, small.parameters()))


@rivals
def test_an_equal_pair_is_left_as_it_is(rival: str):
    small, large = pair("GPT", SMALL)
    assert torch.equal(begun(rival, small, large)(inputs("GPT")), small(inputs("GPT")))


@rivals
def test_only_what_is_drawn_hangs_on_the_seed(rival: str):
    small, large = pair("GPT", TWICE)
    draws = [RIVALS[rival](small, large, seed) for seed in (0, 0, 1)]
    assert all(torch.equal(value, draws[1][name]) for name, value in draws[0].items())
    changed = any(not torch.equal(value, draws[2][name]) for name, value in draws[0].items())
    assert changed == (rival in ("stack", "interpolate", "fpi", "aki", "lemon", "select"))


@pytest.mark.parametrize(
    ("rival", "layers"),
    [("stack", [0, 1, 2, 0, 1, 2, 0]), ("interpolate", [0, 0, 0, 1, 1, 2, 2]), ("aki", [0, 1, 2, 0, 1, 2, 0])],
)
def test_layers_come_from(rival: str, layers: list[int]):
    small, large = gpt(TextSize(16, 3, 2, 32)), gpt(TextSize(16, 7, 2, 32))
    weights = RIVALS[rival](small, large, 0)
    for layer, old in enumerate(layers):
        for role in ("norm1.weight", "attention.qkv.weight", "mlp.2.weight"):
            assert torch.equal(weights[f"blocks.{layer}.{role}"], small.get_parameter(f"blocks.{old}.{role}"))


def test_interpolation_by_a_whole_factor_repeats_each_layer():
    small, large = pair("BERT", DEEPER)
    weights = RIVALS["interpolate"](small, large, 0)
    path = "net.bert.encoder.layer.{}.output.dense.weight"
    for layer in range(4):
        assert torch.equal(weights[path.format(layer)], small.get_parameter(path.format(layer // 2)))


def test_a_direct_copy_leaves_the_rest_as_the_large_model_has_it():
    small, large = pair("GPT", LARGER)
    weights = RIVALS["copy"](small, large, 0)
    for part in range(3):
        old, new = (model.blocks[1].attention.qkv.weight.chunk(3)[part] for model in (small, large))
        made = weights["blocks.1.attention.qkv.weight"].chunk(3)[part]
        assert torch.equal(made[:16, :16], old)
        assert torch.equal(made[16:], new[16:])
        assert torch.equal(made[:, 16:], new[:, 16:])
    assert torch.equal(weights["blocks.3.mlp.0.weight"], large.blocks[3].mlp[0].weight)
    assert torch.equal(weights["embedding.weight"][:, :16], small.embedding.weight)


def test_fpi_copies_rows_and_shares_columns_out():
    small, large = pair("GPT with a head of its own", WIDER)
    found, weights = sources(small, large), RIVALS["fpi"](small, large, 0)
    width, value, neurons = found["width"], found["value"], found["neurons"]
    assert torch.equal(width[:16], torch.arange(16))
    assert torch.equal(found["query"], found["key"])
    assert torch.equal(value.view(3, 8) % 8, torch.arange(8).expand(3, 8))
    block = small.blocks[1]
    expected = {
        "blocks.1.attention.out.weight": (block.attention.out.weight[:, value] * shared(value))[width],
        "blocks.1.mlp.0.weight": (block.mlp[0].weight[:, width] * shared(width))[neurons],
        "blocks.1.norm1.weight": block.norm1.weight[width],
        "embedding.weight": small.embedding.weight[:, width],
        "lm_head.weight": small.lm_head.weight[:, width] * shared(width),
    }
    for name, tensor in expected.items():
        assert torch.allclose(weights[name], tensor, atol=1e-7), name


def test_a_tied_head_is_shared_out_in_the_last_norm():
    small, large = pair("GPT", WIDER)
    width, weights = sources(small, large)["width"], RIVALS["fpi"](small, large, 0)
    assert torch.equal(weights["embedding.weight"], small.embedding.weight[:, width])
    for leaf in ("weight", "bias"):
        old = getattr(small.norm, leaf)
        assert torch.allclose(weights[f"norm.{leaf}"], old[width] * shared(width))
        assert torch.equal(weights[f"blocks.0.norm1.{leaf}"], getattr(small.blocks[0].norm1, leaf)[width])


def test_new_rows_of_aki_come_from_the_layer_above():
    small, large = pair("GPT", LARGER)
    found, weights = sources(small, large), RIVALS["aki"](small, large, 0)
    width, neurons = found["width"], found["neurons"]
    for layer, own, above in ((0, 0, 1), (1, 1, 1), (2, 0, 1), (3, 1, 1)):
        up = weights[f"blocks.{layer}.mlp.0.weight"]
        for rows, old in ((slice(32), own), (slice(32, None), above)):
            columns = small.blocks[old].mlp[0].weight[:, width] * shared(width)
            assert torch.allclose(up[rows], columns[neurons[rows]], atol=1e-7)
        norm, bias = weights[f"blocks.{layer}.norm2.weight"], weights[f"blocks.{layer}.mlp.2.bias"]
        assert torch.equal(norm[16:], small.blocks[above].norm2.weight[width[16:]])
        assert torch.equal(bias[:16], small.blocks[own].mlp[2].bias)
    assert torch.equal(weights["embedding.weight"], small.embedding.weight[:, width])


def test_random_selection_copies_rows_and_columns():
    small, large = pair("GPT", WIDER)
    found, weights = sources(small, large), RIVALS["select"](small, large, 0)
    up = small.blocks[0].mlp[0].weight
    assert torch.allclose(weights["blocks.0.mlp.0.weight"], up[found["neurons"]][:, found["width"]])


def test_zero_padding_is_the_small_model_and_zeros():
    small, large = pair("ViT", WIDER)
    weights = RIVALS["zero-pad"](small, large, 0)
    for name, value in small.named_parameters():
        grown = weights[name]
        if "qkv" in name:
            grown = torch.cat([part[:16] for part in grown.chunk(3)])
        corner = grown[tuple(map(slice, value.shape))]
        assert torch.equal(corner, value)
        assert weights[name].abs().sum().item() == pytest.approx(value.abs().sum().item(), rel=1e-5)


@pytest.mark.parametrize("sharing", [equally, unequally(torch.Generator().manual_seed(0))])
def test_parts_of_a_unit_sum_to_one(sharing):
    source = torch.tensor([0, 1, 2, 0, 0, 2, -1])
    parts = sharing(source)
    assert torch.allclose(torch.zeros(3).index_add(0, source[:6], parts[:6]), torch.ones(3))
    assert (parts[:6] > 0).all()
    assert parts[6] == 0


@rivals
def test_pairs_that_do_not_fit_are_refused(rival: str):
    with pytest.raises(ParameterError, match="narrower"):
        RIVALS[rival](gpt(WIDER), gpt(SMALL), 0)
    with pytest.raises(ParameterError, match="does not grow into"):
        RIVALS[rival](gpt(SMALL), vit(WIDER), 0)
    with pytest.raises(ParameterError, match="make both tied or both untied"):
        RIVALS[rival](gpt(SMALL), gpt(WIDER, tied=False), 0)


def test_double_precision_is_kept():
    small, large = (scattered(gpt(size)).double() for size in (SMALL, TWICE))
    assert {value.dtype for rival in RIVALS.values() for value in rival(small, large, 0).values()} == {torch.float64}
