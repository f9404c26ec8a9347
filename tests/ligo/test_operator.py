"""The growth operator: its size, what it makes of small weights, which rules it contains, and what it never touches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from effi.cost import count_flops
from effi.errors import ParameterError
from effi.ligo.maps import Extended, Maps, expand, tied
from effi.ligo.operator import GrowthOperator
from effi.ligo.pieces import Piece
from effi.models.gpt import GPT
from effi.models.language import TextSize, language_model
from effi.models.vit import ViT, ViTShape
from tests.axes.tiny import SIZES, Adapter, scattered
from tests.ligo.beginnings import DEEPER, LARGER, MODELS, SMALL, WIDER, gpt, pair

SHARES = ("per_large", "per_small", "all")
BRIEF = ("GPT", "BERT", "transformers GPT-2", "ViT")


def grown(operator: GrowthOperator) -> dict[str, Tensor]:
    with torch.no_grad():
        return operator()


def blocks(state: dict[str, Tensor], name: str) -> Tensor:
    """The weights of that name in all layers of a GPT."""
    layers = len([key for key in state if key.endswith(f".{name}")])
    return torch.stack([state[f"blocks.{layer}.{name}"] for layer in range(layers)])


# --- sizes -------------------------------------------------------------------------------------------------------


def bert(layers: int, width: int) -> nn.Module:
    size = TextSize(width, layers, width // 64, 4 * width)
    return language_model("bert", size=size, vocabulary=30522, length=128)


def deit(width: int) -> nn.Module:
    shape = ViTShape(224, 16, 3, 1000, width, 12, 4 * width, final_norm=True, pool="cls", positions="learned")
    return ViT(shape, heads=width // 64)


PAPER: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], dict[str, int]]] = {
    "BERT-Small to Base": (lambda: bert(6, 512), lambda: bert(12, 768), {"width": 30_146_560, "depth": 1_152}),
    "3 x 128 to 6 x 192": (lambda: bert(3, 128), lambda: bert(6, 192), {"width": 950_272, "depth": 288}),
    "4 x 128 to 8 x 192": (lambda: bert(4, 128), lambda: bert(8, 192), {"width": 1_261_568, "depth": 512}),
    "DeiT-S to B": (lambda: deit(384), lambda: deit(768), {"width": 33_767_424, "depth": 2_304}),
    "depth alone": (lambda: bert(6, 768), lambda: bert(12, 768), {"width": 0, "depth": 1_152}),
}


@pytest.mark.parametrize(("small", "large", "sizes"), PAPER.values(), ids=list(PAPER))
def test_sizes_of_the_papers_pairs(small, large, sizes):
    """2 (D2 - D1) D1 + L2 (3 (D2 - D1) D1 + (F2 - F1) F1) with a map of the head, and 16 L1 L2."""
    with torch.device("meta"):
        operator = GrowthOperator(small(), large(), head="own", width="zero")
    assert operator.sizes() == sizes


@pytest.mark.parametrize(("share", "full"), list(product(SHARES, (False, True))))
def test_sizes_of_every_way_to_share(share: str, full: bool):
    """Full maps of the paper: B_e, B_Q, B_K, B_V and B_1 alone."""
    (d1, l1, _, f1), (d2, l2, _, f2) = (vars(size).values() for size in (SMALL, LARGER))
    layers = {"per_large": l2, "per_small": l1, "all": 1}[share]
    square, neurons = (d2 * d1, f2 * f1) if full else ((d2 - d1) * d1, (f2 - f1) * f1)
    operator = GrowthOperator(*pair("BERT", LARGER), share=share, full=full)
    assert operator.sizes() == {"width": square + layers * (3 * square + neurons), "depth": 16 * l1 * l2}
    shared = GrowthOperator(*pair("BERT", LARGER), share=share, full=full, bias_depth=False)
    assert shared.sizes() == {"width": operator.sizes()["width"], "depth": 8 * l1 * l2}


def test_untied_every_module_has_maps_of_its_own():
    """Rows and columns of four attention and two feed-forward matrices, of norms, tables and the last norm."""
    operator = GrowthOperator(*pair("GPT", LARGER), tie=False)
    new, neurons = (24 - 16) * 16, (48 - 32) * 32
    layer = 2 * new * 4 + 2 * (new + neurons) + 2 * new
    assert operator.sizes()["width"] == 4 * layer + 2 * new + new


@pytest.mark.parametrize(("head", "tied_head", "own"), [("auto", True, 0), ("auto", False, 1), ("own", True, 1)])
def test_the_map_of_a_head(head: str, tied_head: bool, own: bool):
    import transformers

    def make(width: int) -> nn.Module:
        sizes = SIZES | {"hidden_size": width, "num_attention_heads": width // 4, "tie_word_embeddings": tied_head}
        return Adapter(transformers.BertForMaskedLM(transformers.BertConfig(**sizes)))

    small = scattered(make(16))
    operator = GrowthOperator(small, make(24), head=head)
    assert ("head" in operator.maps()) == own
    transform = small.model.cls.predictions.transform.dense.weight
    maps, found = operator.maps(), grown(operator)["model.cls.predictions.transform.dense.weight"]
    rows = maps["head" if own else "width"].dense()
    assert torch.allclose(found, rows @ transform @ maps["width"].dense().T, atol=1e-5)
    if not tied_head:
        decoder = grown(operator)["model.cls.predictions.decoder.weight"]
        assert torch.allclose(decoder, small.model.cls.predictions.decoder.weight @ rows.T, atol=1e-5)


# --- what it makes -----------------------------------------------------------------------------------------------


def test_old_units_keep_their_weights_and_new_ones_are_made_of_them():
    """[I; C]: the mixed weight, new columns W C_in^T, new rows C_out W, and the corner C_out W C_in^T."""
    small, large = pair("GPT", WIDER)
    operator = GrowthOperator(small, large, depth="stackbert")
    found, maps = grown(operator), operator.maps()
    up, into, out = small.blocks[1].mlp[0].weight, maps["width"].new, maps["blocks.neurons"].new[1]
    weight = found["blocks.1.mlp.0.weight"]
    assert torch.equal(weight[:32, :16], up)
    assert torch.allclose(weight[:32, 16:], up @ into.T, atol=1e-6)
    assert torch.allclose(weight[32:, :16], out @ up, atol=1e-6)
    assert torch.allclose(weight[32:, 16:], out @ up @ into.T, atol=1e-6)
    assert torch.allclose(found["blocks.1.mlp.0.bias"][32:], out @ small.blocks[1].mlp[0].bias, atol=1e-6)
    assert torch.allclose(found["embedding.weight"][:, 16:], small.embedding.weight @ into.T, atol=1e-6)
    assert torch.allclose(found["norm.bias"][16:], into @ small.norm.bias, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_of_the_large_model_is_made(name: str):
    small, large = pair(name, LARGER)
    found = grown(GrowthOperator(small, large))
    assert {key: value.shape for key, value in found.items()} == {k: p.shape for k, p in large.named_parameters()}


@pytest.mark.parametrize(("name", "share", "full", "tie"), list(product(BRIEF, SHARES, (False, True), (False, True))))
def test_the_gradient_reaches_every_coefficient(name: str, share: str, full: bool, tie: bool):
    operator = GrowthOperator(*pair(name, LARGER), share=share, full=full, tie=tie, head="own")
    draw = torch.Generator().manual_seed(0)
    sum((value * torch.randn(value.shape, generator=draw)).sum() for value in operator().values()).backward()
    for key, parameter in operator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


def test_maps_of_each_layer_that_are_equal_are_one_for_all():
    small, large = pair("BERT", LARGER)
    shared = GrowthOperator(small, large, share="all")
    for share, layers in (("per_large", 4), ("per_small", 2)):
        own = GrowthOperator(small, large, share=share)
        with torch.no_grad():
            for key, value in shared.width.items():
                own.width[key].copy_(value.expand_as(own.width[key]))
            for key, value in shared.depth.items():
                own.depth[key].copy_(value)
        assert own.maps()["net.bert.encoder.layer.neurons"].new.shape == (layers, 16, 32)
        for key, value in grown(shared).items():
            assert torch.allclose(value, grown(own)[key], atol=1e-5), key


def test_small_weights_stay_to_the_bit():
    small, large = pair("BERT", LARGER)
    before = [copy.deepcopy(model.state_dict()) for model in (small, large)]
    operator = GrowthOperator(small, large)
    first = grown(operator)
    optimizer = torch.optim.SGD(operator.parameters(), lr=1e-3)
    sum(value.square().sum() for value in operator().values()).backward()
    optimizer.step()
    for model, kept in zip((small, large), before, strict=True):
        assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert not torch.equal(
        grown(operator)["net.bert.embeddings.LayerNorm.weight"], first["net.bert.embeddings.LayerNorm.weight"]
    )


def test_it_keeps_the_weights_that_it_was_made_with():
    small, large = pair("GPT", LARGER)
    operator = GrowthOperator(small, large)
    first = grown(operator)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert all(torch.equal(value, first[key]) for key, value in grown(operator).items())


def test_no_step_is_the_beginning():
    """The same seed draws the same, another one another; nothing has moved."""
    small, large = pair("GPT", LARGER)
    first, again, other = (GrowthOperator(small, large, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, grown(again)[key]) for key, value in grown(first).items())
    assert not torch.equal(first.width["width"], other.width["width"])
    assert set(first.moved().values()) == {0.0}


def test_how_far_coefficients_have_moved():
    operator = GrowthOperator(*pair("GPT", LARGER))
    with torch.no_grad():
        operator.depth["blocks/mlp/0"][0, 0] += 0.5
        for value in operator.width.values():
            value.add_(0.125)
    moved = operator.moved()
    assert moved["width"] == pytest.approx(0.125) and moved["width_largest"] == pytest.approx(0.125)
    assert moved["depth_largest"] == pytest.approx(0.5)
    assert moved["depth"] == pytest.approx(0.5 / operator.sizes()["depth"] ** 0.5)


def test_depth_weights_by_role():
    operator = GrowthOperator(*pair("GPT", LARGER), depth="stackbert")
    found = operator.depth_weights()
    assert {"norm1", "norm1.bias", "attention.qkv.query", "attention.out.bias", "mlp.2"} <= found.keys()
    assert len(found) == 16
    assert all(torch.equal(weights, torch.eye(2).repeat(2, 1)) for weights in found.values())


def test_what_is_not_tuned_has_no_gradient():
    small, large = pair("GPT", LARGER)
    frozen = GrowthOperator(small, large, tune_width=False)
    learned = {name for name, parameter in frozen.named_parameters() if parameter.requires_grad}
    assert learned == {f"depth.{key}" for key in frozen.depth}
    frozen = GrowthOperator(small, large, tune_depth=False)
    assert not any(parameter.requires_grad for parameter in frozen.depth.values())
    assert all(parameter.requires_grad for parameter in frozen.width.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": "none"}, "share 'none' of a growth operator is unknown; use per_large, per_small, all"),
        ({"width": "random"}, "width 'random' of a growth operator is unknown"),
        ({"noise": -1.0}, "noise=-1 of a growth operator: give 0 or more"),
    ],
)
def test_unknown_options_are_named(options: dict[str, Any], said: str):
    with pytest.raises(ParameterError, match=said):
        GrowthOperator(*pair("GPT", LARGER), **options)


def test_flops_are_those_of_products_and_of_their_gradients():
    """2 L1 o1 i1 + 2 o1 i1 (i2 - i1) + 2 (o2 - o1) o1 i2 a matrix and large layer, or the same with o and i exchanged.

    Gradients cost twice as much, but none are made of small weights: of mixing, and outside of the stack, as much.
    """
    small, large = GPT(32, 20, SMALL), GPT(32, 20, LARGER)
    operator = GrowthOperator(small, large)

    def matrix(o1: int, o2: int, i1: int, i2: int) -> int:
        columns_first = o1 * i1 * (i2 - i1) + (o2 - o1) * o1 * i2
        return 2 * min(columns_first, (o2 - o1) * o1 * i1 + o2 * i1 * (i2 - i1))

    expanded = 4 * (4 * matrix(16, 24, 16, 24) + matrix(32, 48, 16, 24) + matrix(16, 24, 32, 48))
    expanded += 4 * 2 * 2 * (24 - 16) * 16  # two norms of a layer
    mixed = 2 * 4 * 2 * (4 * 16 * 16 + 2 * 16 * 32 + 2 * 16)
    outside = 2 * (32 + 20 + 1) * 16 * (24 - 16)
    with torch.no_grad():
        assert count_flops(lambda: grown(operator)) == expanded + mixed + outside
    assert operator.flops() == 3 * expanded + 2 * mixed + 2 * outside


# --- rules that it contains --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "source"), [("stackbert", lambda i: i % 2), ("interlace", lambda i: i // 2)])
@pytest.mark.parametrize("name", ["GPT", "BERT"])
def test_stacking_and_interpolation_are_recovered_exactly(name: str, depth: str, source: Callable[[int], int]):
    small, large = pair(name, DEEPER)
    own, stack = dict(small.named_parameters()), "net.bert.encoder.layer." if name == "BERT" else "blocks."
    for key, value in grown(GrowthOperator(small, large, depth=depth)).items():
        if key.startswith(stack):
            layer, _, role = key.removeprefix(stack).partition(".")
            key = f"{stack}{source(int(layer))}.{role}"
        assert torch.equal(value, own[key])


def copies(large: int, small: int) -> tuple[list[int], Tensor, Tensor]:
    """Which old unit each unit is, and Net2Net's maps of rows [I; S] and of columns, shared out among copies."""
    chosen = torch.randint(small, (large - small,), generator=torch.Generator().manual_seed(large)).tolist()
    units = [*range(small), *chosen]
    out = torch.eye(small)[units]
    return units, out, out / out.sum(0)


def test_untied_it_contains_net2net():
    """Rows are copied and columns shared out among copies, which maps that are the same for both cannot say."""
    small, large = pair("GPT", WIDER)
    operator = GrowthOperator(small, large, full=True, tie=False, depth="stackbert")
    chosen = {16: copies(24, 16), 32: copies(48, 32)}
    with torch.no_grad():
        for key, value in operator.width.items():
            _, out, into = chosen[value.shape[-1]]
            value.copy_((out if key.endswith("/out") else into).expand_as(value))
    found = grown(operator)
    (wide, *_), (hidden, *_) = chosen[16], chosen[32]
    counts = {units: torch.bincount(torch.tensor(chosen[units][0])) for units in chosen}
    for layer in range(2):
        up, down = small.blocks[layer].mlp[0], small.blocks[layer].mlp[2]
        prefix = f"blocks.{layer}.mlp"
        assert torch.allclose(found[f"{prefix}.0.weight"], (up.weight / counts[16])[hidden][:, wide])
        assert torch.equal(found[f"{prefix}.0.bias"], up.bias[hidden])
        assert torch.allclose(found[f"{prefix}.2.weight"], (down.weight / counts[32])[wide][:, hidden])
        query = small.blocks[layer].attention.qkv.weight[:16]
        assert torch.allclose(found[f"blocks.{layer}.attention.qkv.weight"][:24], (query / counts[16])[wide][:, wide])


UP = Piece("up.weight", None, "", None, "up", "neurons", "width")
SHIFT = Piece("up.bias", None, "", None, "up", "neurons", None)
DOWN = Piece("down.weight", None, "", None, "down", "", "neurons")


def test_net2net_keeps_a_plain_network_and_tied_maps_do_not():
    draw = torch.Generator().manual_seed(0)
    up, shift, down, x = (torch.randn(shape, generator=draw) for shape in ((8, 5), (8,), (3, 8), (10, 5)))
    _, out, into = copies(13, 8)

    def computed(maps: Maps) -> Tensor:
        wide, moved, last = (expand(piece, w, maps) for piece, w in ((UP, up), (SHIFT, shift), (DOWN, down)))
        return (x @ wide.T + moved).relu() @ last.T

    before = (x @ up.T + shift).relu() @ down.T
    assert torch.allclose(computed(Maps({"neurons": out}, {"neurons": into})), before, atol=1e-5)
    assert (computed(tied({"neurons": out})) - before).abs().max() > 0.1
    assert (computed(tied({"neurons": Extended(out[8:])})) - before).abs().max() > 0.1


def test_no_zero_pad_is_lost_in_the_operator():
    """[I; 0] on the same depth: old weights, and zeros beside them."""
    small, large = pair("GPT", WIDER)
    found = grown(GrowthOperator(small, large, width="zero", depth="stackbert"))
    up = blocks(found, "mlp.0.weight")
    assert torch.equal(up[:, :32, :16], torch.stack([block.mlp[0].weight for block in small.blocks]))
    assert not up[:, 32:].any() and not up[:, :, 16:].any()
    assert gpt(WIDER, bias=True).load_state_dict(found).missing_keys == []
