"""The Vision Transformer equals torch's layers where these exist, and its written formulas elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effi.errors import ParameterError
from effi.models.vit import Block, ViT, ViTShape, patchify, sincos_positions

SHAPE = ViTShape(image_size=8, patch_size=2, channels=3, classes=5, width=12, depth=2, hidden=20)


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def scattered(model: nn.Module) -> nn.Module:
    """The model with every parameter drawn, so that no bias or norm is trivial."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def vit(heads: int = 2, **changes: object) -> ViT:
    return scattered(ViT(replace(SHAPE, **changes), heads=heads))


def test_patches_in_row_order_channel_first():
    x = torch.arange(2 * 4 * 4).reshape(1, 2, 4, 4)
    patches = patchify(x, 2)
    assert patches.shape == (1, 4, 8)
    assert patches[0, 1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]
    assert patches[0, 2].tolist() == [8, 9, 12, 13, 24, 25, 28, 29]


def test_stem_equals_a_strided_convolution():
    model = vit(positions="none")
    weight = model.stem.weight.view(12, 3, 2, 2)
    convolved = F.conv2d(images(), weight, model.stem.bias, stride=2).flatten(2).mT
    assert (model.tokens(images()) - convolved).abs().max() <= 1e-5


def test_sincos_table():
    table = sincos_positions(16, 12)
    row, column = 2, 3
    frequency = torch.tensor([10000.0 ** (-i / 3) for i in range(3)])
    waves = [wave(place * frequency) for place in (row, column) for wave in (torch.sin, torch.cos)]
    assert torch.allclose(table[4 * row + column], torch.cat(waves), atol=1e-6)
    assert len(torch.unique(table, dim=0)) == 16


def test_sincos_table_leaves_a_rest_of_the_width_zero():
    table = sincos_positions(4, 10)
    assert table.shape == (4, 10)
    assert torch.equal(table[:, 8:], torch.zeros(4, 2))
    assert torch.equal(table[:, :8], sincos_positions(4, 8))


@pytest.mark.parametrize(("kind", "trainable"), [("none", 0), ("sincos", 0), ("learned", 16 * 12)])
def test_positions_count_as_parameters_only_when_learned(kind, trainable):
    bare = sum(p.numel() for p in ViT(replace(SHAPE, positions="none")).parameters())
    assert sum(p.numel() for p in ViT(replace(SHAPE, positions=kind)).parameters()) - bare == trainable


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_without_positions_patches_may_be_shuffled(pool):
    x, order = images(), torch.randperm(16, generator=torch.Generator().manual_seed(1))
    shuffled = F.fold(F.unfold(x, 2, stride=2)[:, :, order], (8, 8), 2, stride=2)
    blind, sighted = vit(positions="none", pool=pool), vit(positions="sincos", pool=pool)
    assert torch.allclose(blind(shuffled), blind(x), atol=1e-5)
    assert (sighted(shuffled) - sighted(x)).abs().max() > 1e-3


def test_the_class_token_has_no_position_and_is_what_the_head_reads():
    model = vit(pool="cls")
    assert model.shape.tokens == 17
    assert torch.equal(model.tokens(images())[:, 0], model.cls[0].expand(3, -1))
    x = model.tokens(images())
    for block in model.blocks:
        x = block(x)
    assert torch.allclose(model(images()), model.head(x[:, 0]), atol=1e-6)


@pytest.mark.parametrize("order", ["pre", "post"])
def test_block_equals_torch_encoder_layer(order):
    block = vit(heads=4, norm=order).blocks[0]
    layer = nn.TransformerEncoderLayer(12, 4, 20, 0.0, "gelu", batch_first=True, norm_first=order == "pre")
    pairs = {
        layer.self_attn.in_proj_weight: block.attention.qkv.weight,
        layer.self_attn.in_proj_bias: block.attention.qkv.bias,
    }
    for theirs, ours in (
        (layer.self_attn.out_proj, block.attention.out),
        (layer.linear1, block.mlp[0]),
        (layer.linear2, block.mlp[2]),
        (layer.norm1, block.norm1),
        (layer.norm2, block.norm2),
    ):
        pairs |= {theirs.weight: ours.weight, theirs.bias: ours.bias}
    with torch.no_grad():
        for theirs, ours in pairs.items():
            theirs.copy_(ours)
    x = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(5))
    assert (block(x) - layer(x)).abs().max() <= 1e-5


class Double(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def doubled(x: torch.Tensor, **changes: object) -> torch.Tensor:
    return Block(replace(SHAPE, hidden=0, **changes), Double())(x)


def test_a_block_without_mlp_keeps_its_second_norm():
    x = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(5))
    ln = lambda y: F.layer_norm(y, (12,))  # noqa: E731
    after = x + 2 * ln(x)
    assert torch.allclose(doubled(x), ln(after), atol=1e-6)
    assert torch.allclose(doubled(x, without_mlp="residual"), after + ln(after), atol=1e-6)
    assert torch.allclose(doubled(x, skip=False), ln(2 * ln(x)), atol=1e-6)
    assert torch.allclose(doubled(x, skip=False, without_mlp="residual"), ln(2 * ln(x)), atol=1e-6)
    assert torch.allclose(doubled(x, norm="post"), ln(ln(3 * x)), atol=1e-6)
    assert torch.allclose(doubled(x, norm="post", skip=False), ln(ln(2 * x)), atol=1e-6)
    assert torch.allclose(doubled(x, norm="none"), 3 * x)


def test_a_plain_block_without_mlp_has_nothing_of_its_second_half():
    x = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(5))
    ln = lambda y: F.layer_norm(y, (12,))  # noqa: E731
    assert torch.allclose(doubled(x, without_mlp="plain"), x + 2 * ln(x), atol=1e-6)
    assert torch.allclose(doubled(x, norm="post", without_mlp="plain"), ln(3 * x), atol=1e-6)
    assert torch.allclose(doubled(x, norm="none", without_mlp="plain"), 3 * x)


@pytest.mark.parametrize("changes", [{}, {"positions": "learned"}, {"positions": "none"}, {"pool": "cls"}], ids=str)
def test_autocast_keeps_the_residual_stream_in_bf16(changes):
    with torch.autocast("cpu", torch.bfloat16):
        x = vit(**changes).tokens(images())
    assert x.dtype == torch.bfloat16


def test_final_norm_normalises_what_is_pooled():
    bare = vit(heads=1)
    normed = ViT(replace(SHAPE, final_norm=True))
    normed.load_state_dict(bare.state_dict(), strict=False)
    x = bare.tokens(images())
    for block in bare.blocks:
        x = block(x)
    assert torch.allclose(normed(images()), bare.head(F.layer_norm(x, (12,)).mean(1)), atol=1e-5)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(11)
    first = ViT(SHAPE, seed=1).state_dict()
    torch.manual_seed(12)
    again, other = ViT(SHAPE, seed=1).state_dict(), ViT(SHAPE, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


def test_weights_begin_glorot_uniform_with_zero_biases():
    model = ViT(replace(SHAPE, pool="cls", positions="learned", width=120, hidden=200))
    for layer in (model.stem, model.blocks[0].mlp[0], model.blocks[1].mlp[2], model.head):
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.cls.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_acts_in_training_only(dropout):
    model = vit(dropout=dropout)
    assert torch.equal(model(images()), model(images())) is (dropout == 0.0)
    model.eval()
    assert torch.equal(model(images()), model(images()))


def test_every_parameter_receives_a_gradient():
    for changes in ({}, {"hidden": 0}, {"hidden": 0, "norm": "post"}, {"pool": "cls", "final_norm": True}):
        model = vit(**changes)
        model(images()).square().sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_patches_must_tile_the_image():
    with pytest.raises(ParameterError, match="image size 28 is not a multiple of patch size 8; choose a patch size"):
        replace(SHAPE, image_size=28, patch_size=8)


def test_heads_must_divide_the_width():
    with pytest.raises(ParameterError, match="width 12 is not a multiple of heads 5"):
        ViT(SHAPE, heads=5)
