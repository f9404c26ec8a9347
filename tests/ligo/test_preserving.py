"""Which beginnings keep the small model's function, which do not, and why."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effi.axes import describe
from effi.errors import ParameterError
from effi.ligo.rivals import RIVALS
from effi.models.vit import FeedForward
from tests.axes.tiny import scattered
from tests.ligo.beginnings import (
    DEEPER,
    LARGER,
    MODELS,
    POST,
    PRE,
    SMALL,
    TWICE,
    WIDER,
    begun,
    gap,
    inputs,
    pair,
    vit,
)

KEPT = 1e-4


@pytest.mark.parametrize("rival", ["lemon", "zero-pad-fixed"])
@pytest.mark.parametrize("size", [WIDER, DEEPER, LARGER, TWICE], ids=["wider", "deeper", "larger", "twice"])
@pytest.mark.parametrize("name", PRE)
def test_any_width_keeps_the_function_of_pre_norm_models(name: str, size, rival: str):
    assert gap(rival, name, size) < KEPT


@pytest.mark.parametrize("rival", ["lemon", "hyperclone"])
@pytest.mark.parametrize("name", MODELS)
def test_whole_tiles_keep_the_function_of_all(name: str, rival: str):
    assert gap(rival, name, TWICE) < KEPT


@pytest.mark.parametrize("rival", ["lemon", "hyperclone", "zero-pad", "zero-pad-fixed", "fpi"])
@pytest.mark.parametrize("name", MODELS)
def test_added_layers_keep_the_function(name: str, rival: str):
    assert gap(rival, name, DEEPER) < KEPT


@pytest.mark.parametrize("rival", ["fpi", "zero-pad", "hyperclone"])
@pytest.mark.parametrize("name", MODELS)
def test_norms_see_other_statistics_where_channels_count_unequally(name: str, rival: str):
    assert gap(rival, name, WIDER) > 0.1


@pytest.mark.parametrize("name", ["GPT", "BERT"])
def test_fpi_keeps_the_function_where_only_heads_and_neurons_grow(name: str, monkeypatch):
    """So that it is the norms alone that its copies disturb."""
    from effi.ligo import preserving

    whole = preserving.rules

    def without_width(*given):
        made = whole(*given)
        equal = whole(*given[:2], lambda old, new: torch.arange(new) % old, given[3])
        return made | {place: equal[place] for place in made if place[0] == ""}

    monkeypatch.setattr(preserving, "rules", without_width)
    assert gap("fpi", name, TWICE) < KEPT


def test_what_a_norm_sees_of_padding():
    """Mean r m, variance r (v + m^2 (1 - r)); a zero-mean stream is kept by gamma sqrt(r) and epsilon r."""
    x, old, new = torch.randn(5, 16, dtype=torch.float64) + 0.7, 16, 24
    ratio, mean, variance = old / new, x.mean(-1), x.var(-1, correction=0)
    padded = F.pad(x, (0, new - old))
    assert torch.allclose(padded.mean(-1), ratio * mean)
    assert torch.allclose(padded.var(-1, correction=0), ratio * (variance + mean**2 * (1 - ratio)))
    centred, gamma, epsilon = x - mean[:, None], torch.randn(old, dtype=torch.float64), 1e-2
    wide = F.layer_norm(F.pad(centred, (0, 8)), (new,), F.pad(gamma * math.sqrt(ratio), (0, 8)), None, epsilon * ratio)
    assert torch.allclose(wide[:, :old], F.layer_norm(centred, (old,), gamma, None, epsilon))
    with_mean = math.sqrt(new / old) * torch.cat([x, mean[:, None].expand(5, 8)], 1)
    wide = F.layer_norm(with_mean, (new,), F.pad(gamma * math.sqrt(ratio), (0, 8)), None, epsilon)
    assert torch.allclose(wide[:, :old], F.layer_norm(x, (old,), gamma, None, epsilon))


class Plain(nn.Module):
    """MLPs one after the other, without norms and residual stream."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(5, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList(FeedForward(width, hidden) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.fixture
def plain(monkeypatch) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    from effi.axes import description

    monkeypatch.setattr(description, "_STRUCTURES", dict(description._STRUCTURES))
    ends = {"stem.weight": "width pixels", "stem.bias": "width", "head.weight": "classes width", "head.bias": "classes"}
    describe(Plain, ends)
    return scattered(Plain(6, 10)), scattered(Plain(9, 17), seed=1), torch.randn(4, 5)


@torch.no_grad()
def test_fpi_keeps_an_mlp_without_norms_and_equal_maps_of_rows_and_columns_do_not(plain):
    small, large, x = plain
    for rival in ("fpi", "hyperclone", "lemon", "zero-pad"):
        assert torch.allclose(begun(rival, small, large)(x), small(x), atol=1e-5), rival
    assert (begun("select", small, large)(x) - small(x)).abs().max() > 0.1


def test_what_zero_padding_adds_gets_no_gradient_and_what_lemon_adds_does():
    moved = {}
    for rival in ("zero-pad-fixed", "zero-pad", "lemon"):
        small, large = pair("GPT", WIDER)
        logits = begun(rival, small, large)(inputs("GPT"))
        logits.logsumexp(-1).mean().backward()
        block = large.blocks[0]
        moved[rival] = [
            block.mlp[0].weight.grad[32:],
            block.mlp[2].weight.grad[:, 32:],
            block.attention.out.weight.grad[:, 16:],
            block.attention.qkv.weight.grad[16:24],
        ]
    assert all(not grad.any() for rival in ("zero-pad", "zero-pad-fixed") for grad in moved[rival])
    assert all((grad != 0).float().mean() > 0.5 for grad in moved["lemon"])


@torch.no_grad()
def test_copies_of_lemon_have_unequal_parts_that_sum_to_the_whole():
    small, large = pair("GPT", TWICE)
    begun("lemon", small, large)
    for before, after in zip(small.blocks, large.blocks, strict=False):
        whole, parts = before.attention.out.weight, after.attention.out.weight[:16]
        assert torch.allclose(parts[:, :16] + parts[:, 16:], whole, atol=1e-6)
        assert (parts[:, :16] - parts[:, 16:]).abs().max() > 0.01
    begun("hyperclone", small, large)
    assert torch.equal(large.blocks[1].attention.out.weight[:16, :16], small.blocks[1].attention.out.weight / 2)


@torch.no_grad()
def test_lemon_leaves_what_reads_nothing_as_the_large_model_has_it():
    small, large = pair("GPT", WIDER)
    before = large.blocks[1].mlp[0].weight.clone()
    begun("lemon", small, large)
    assert torch.equal(large.blocks[1].mlp[0].weight[:, 16:], before[:, 16:])
    assert torch.equal(large.blocks[1].mlp[0].weight[:32, :16], small.blocks[1].mlp[0].weight)
    assert not large.blocks[1].norm2.bias[16:].any()


@pytest.mark.parametrize("rival", ["lemon", "zero-pad-fixed"])
@pytest.mark.parametrize("name", POST)
def test_post_norm_models_must_be_tiled(name: str, rival: str):
    with pytest.raises(
        ParameterError, match=r'width 16 to 24 cannot keep .* norms follow the sum: take the rival "hyperclone"'
    ):
        gap(rival, name, WIDER)


def test_fixed_positions_do_not_grow():
    small, large = vit(SMALL, positions="sincos"), vit(WIDER, positions="sincos")
    with pytest.raises(ParameterError, match=r"positions is a fixed table, which does not grow: make both"):
        RIVALS["lemon"](small, large, 0)


def timm(name: str, size, **more) -> nn.Module:
    module, kind = {"ViT": ("vision_transformer", "VisionTransformer"), "CaiT": ("cait", "Cait")}[name]
    models = pytest.importorskip(f"timm.models.{module}", reason="timm is not installed: uv pip install timm")
    sizes = {"embed_dim": size.width, "depth": size.depth, "num_heads": size.heads, "mlp_ratio": 2}
    return getattr(models, kind)(img_size=8, patch_size=4, num_classes=5, init_values=0.1, **sizes, **more)


@torch.no_grad()
@pytest.mark.parametrize("rival", ["hyperclone", "lemon"])
@pytest.mark.parametrize("name", ["ViT", "CaiT"])
def test_layer_scales_and_talking_heads_are_tiled(name: str, rival: str):
    small, large = scattered(timm(name, SMALL)), scattered(timm(name, TWICE), seed=1)
    x = torch.randn(2, 3, 8, 8)
    assert (begun(rival, small, large)(x) - small(x)).abs().max() < KEPT
    with pytest.raises(ParameterError, match="LayerScale, which would scale means"):
        RIVALS["lemon"](small, timm(name, WIDER), 0)
