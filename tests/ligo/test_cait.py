"""Growth of timm's CaiT and DeiT: two stacks, scales of layers, heads that mix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from effi.axes import depth
from effi.ligo.operator import GrowthOperator
from effi.ligo.pieces import check_pair
from effi.ligo.tuning import Grown, export
from tests.axes.tiny import scattered

timm = pytest.importorskip("timm", reason="timm comes with effi[bench]")


def made(name: str, width: int, layers: int) -> nn.Module:
    sizes = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": width, "num_heads": width // 8}
    kinds = {"CaiT": timm.models.cait.Cait, "DeiT": timm.models.vision_transformer.VisionTransformer}
    return scattered(kinds[name](**sizes, depth=layers), seed=width)


def images() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["CaiT", "DeiT"])
@pytest.mark.parametrize("share", ["per_large", "per_small", "all"])
def test_every_coefficient_matters_and_what_is_exported_is_what_was_tuned(name: str, share: str):
    small, large = made(name, 16, 2), made(name, 24, 4)
    check_pair(small, large)
    operator = GrowthOperator(small, large, share=share)
    logits = Grown(operator, large).eval()(images())
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in operator.parameters())
    export(operator, large)
    assert torch.allclose(large(images()), logits, atol=1e-5)


def test_both_stacks_of_cait_grow_by_weights_of_their_own():
    small, large = made("CaiT", 16, 2), made("CaiT", 24, 4)
    assert depth(large) == {"blocks": 4, "blocks_token_only": 2}
    found = GrowthOperator(small, large).depth_weights()
    assert found["blocks.attn.proj"].shape == (4, 2) and found["blocks_token_only.attn.proj"].shape == (2, 2)


def test_heads_that_mix_are_grown_like_units_and_scales_like_channels():
    """New heads take and give as a sum of old ones; gammas have the map of the residual stream."""
    small, large = made("CaiT", 16, 2), made("CaiT", 24, 4)
    operator = GrowthOperator(small, large, depth="stackbert")
    with torch.no_grad():
        grown, maps = operator(), operator.maps()
    assert maps["blocks.heads"].new.shape == (4, 1, 2)
    heads, width = maps["blocks.heads"].dense()[3], maps["width"].dense()
    mixing = small.blocks[1].attn.proj_l
    assert torch.allclose(grown["blocks.3.attn.proj_l.weight"], heads @ mixing.weight @ heads.T, atol=1e-6)
    assert torch.allclose(grown["blocks.3.attn.proj_l.bias"], heads @ mixing.bias, atol=1e-6)
    assert torch.allclose(grown["blocks.3.gamma_1"], width @ small.blocks[1].gamma_1, atol=1e-6)
