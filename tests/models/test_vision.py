"""The CIFAR-10 ViT has the published sizes, its source's formulas and its source's places of dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effi.cost import count_flops, forward_flops, train_flops
from effi.masks import prunable
from effi.models.attention import plain_attention
from effi.models.vision import cifar_vit
from effi.models.vit import ViT

TINY = {"image_size": 8, "patch": 2, "channels": 1, "width": 16, "depth": 2, "heads": 4, "hidden": 24}


def tiny(**changes: object) -> ViT:
    return cifar_vit(**TINY | changes)


def images(channels: int = 1, count: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def test_golden_counts():
    with torch.device("meta"):
        model = cifar_vit()
    assert sum(p.numel() for p in model.parameters()) == 9_523_722
    assert sum(p.numel() for p in prunable(model).values()) == 9_437_184


def test_forward_by_hand():
    """The source's modules written out with functions."""
    model = tiny().eval()
    x = F.unfold(images(), 2, stride=2).mT @ model.stem.weight.mT + model.stem.bias
    x = torch.cat([model.cls.expand(3, 1, 16), x], 1) + model.positions
    for block in model.blocks:
        qkv = F.layer_norm(x, (16,), block.norm1.weight, block.norm1.bias) @ block.attention.qkv.weight.mT
        q, k, v = (part.view(3, 17, 4, 4).transpose(1, 2) for part in qkv.chunk(3, -1))
        mixed = ((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).reshape(3, 17, 16)
        x = x + F.linear(mixed, block.attention.out.weight, block.attention.out.bias)
        first, second = block.mlp[0], block.mlp[2]
        hidden = F.gelu(F.linear(F.layer_norm(x, (16,)), first.weight, first.bias))
        x = x + F.linear(hidden, second.weight, second.bias)
    assert torch.allclose(model(images()), model.head(F.layer_norm(x[:, 0], (16,))), atol=1e-5)


def test_dropout_falls_on_four_places_and_not_on_attention_weights():
    model = tiny(depth=1, dropout=0.25)
    dropped = [path for path, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p == 0.25]
    expected = ["blocks.0.attention.out_dropout", "blocks.0.mlp.1.1", "blocks.0.mlp.3", "embedding_dropout"]
    assert sorted(dropped) == expected
    assert model.blocks[0].attention.dropout == 0
    share = (model.train().tokens(images(count=200)) == 0).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.01)


def test_initial_weights_as_in_the_source():
    model = tiny(width=64, depth=1)
    assert model.positions.std().item() == pytest.approx(1, abs=0.1)
    assert model.cls.std().item() == pytest.approx(1, abs=0.3)
    bound = 64**-0.5
    for layer in (model.blocks[0].attention.qkv, model.blocks[0].mlp[0]):
        assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert model.head.bias.abs().max() > 0


def test_glorot_is_the_other_choice():
    model = tiny(width=64, init="glorot")
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.head.bias.abs().max() == 0


@pytest.mark.parametrize("init", ["torch", "glorot"])
def test_weights_follow_the_seed(init):
    first, again, other = (tiny(init=init, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(first[name].equal(again[name]) for name in first)
    drawn = [name for name in first if "norm" not in name and not (init == "glorot" and name.endswith("bias"))]
    assert not any(first[name].equal(other[name]) for name in drawn)


@pytest.mark.parametrize("channels", [1, 3])
def test_flops(channels):
    model, x = tiny(channels=channels), images(channels)
    assert sum(forward_flops(model, x).values()) == count_flops(lambda: model(x))
    with plain_attention():
        assert train_flops(model, x) == count_flops(lambda: model(x).sum().backward())


def test_every_parameter_is_trained():
    model = tiny()
    model(images()).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
