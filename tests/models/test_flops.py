"""Closed forms of FLOPs equal torch's counter to the last operation, forward and backward."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from effi.cost import count_flops, forward_flops, train_flops
from effi.minimal import Mixing, QueryKey, ValueOutput, Variant
from effi.models.attention import plain_attention
from effi.models.vit import ViT, ViTShape

SHAPE = ViTShape(image_size=8, patch_size=4, channels=3, classes=7, width=48, depth=2, hidden=20)
BATCH = 3
VARIANTS = [
    Variant(query_key=form, value_output=values, heads=heads, width=48, hidden=20, depth=2)
    for form, values, heads in product(QueryKey.__args__, ValueOutput.__args__, (1, 3))
    if not (values == "merged" and heads > 1)
]
CONTROLS = [
    replace(variant, **change)
    for variant, change in product(
        [VARIANTS[0], Variant(query_key="collapsed", value_output="dropped", width=48, depth=2)],
        [{"mixing": mixing} for mixing in Mixing.__args__[1:]] + [{"mlp": False}, {"mlp": False, "pool": "cls"}],
    )
]


def images(batch: int = BATCH) -> torch.Tensor:
    return torch.randn(batch, 3, 8, 8)


def name(variant: Variant) -> str:
    plain = Variant(width=48, hidden=20, depth=2)
    return "-".join(f"{key}={value}" for key, value in vars(variant).items() if value != getattr(plain, key)) or "full"


def check(model: ViT) -> None:
    """Forward with the MATH backend, forward and backward with plain attention: both to the last operation."""
    assert sum(forward_flops(model, images()).values()) == count_flops(lambda: model(images()))
    with plain_attention():
        assert train_flops(model, images()) == count_flops(lambda: model(images()).sum().backward())


@pytest.mark.parametrize("variant", VARIANTS + CONTROLS, ids=name)
def test_variants_of_the_minimal_transformer(variant):
    check(variant.model((3, 8, 8), 4, 7, seed=0))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pool": "cls", "positions": "learned"},
        {"positions": "none", "final_norm": True},
        {"norm": "post"},
        {"norm": "none", "skip": False},
        {"hidden": 0, "without_mlp": "residual"},
        {"hidden": 0, "without_mlp": "plain"},
        {"stem_bias": False, "attention_bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("heads", [1, 3])
def test_ordinary_vits(heads, changes):
    check(ViT(replace(SHAPE, **changes), heads=heads))


def test_flops_grow_with_the_batch_alone():
    model = ViT(SHAPE)
    one, five = forward_flops(model, images(1)), forward_flops(model, images(5))
    assert five == {part: 5 * flops for part, flops in one.items()}
    assert train_flops(model, images(5)) == 5 * train_flops(model, images(1))


def test_flops_by_hand_at_width_128():
    tokens, width, hidden, layers = 64, 128, 512, 6
    model = ViT(ViTShape(32, 4, 3, 10, width, layers, hidden), heads=4)
    block = 8 * tokens * width**2 + 4 * tokens**2 * width + 4 * tokens * width * hidden
    stem = 2 * tokens * 48 * width
    assert sum(model.forward_flops(1).values()) == layers * block + stem + 2 * width * 10 == 164_366_848
    assert model.train_flops(1) == 3 * 164_366_848 - stem


def test_the_minimum_needs_a_sixth_of_the_flops():
    sizes = {"width": 128, "hidden": 512}
    full = Variant(**sizes).model((3, 32, 32), 4, 10, seed=0)
    minimum = Variant(**sizes, mlp=False, query_key="collapsed", value_output="dropped")
    ratio = full.train_flops(64) / minimum.model((3, 32, 32), 4, 10, seed=0).train_flops(64)
    assert ratio == pytest.approx(6.3, abs=0.3)


def test_the_default_backend_hides_attention_from_the_counter():
    """Why closed forms are the record: on a CPU the counter sees no scaled dot-product attention."""
    model, counter = ViT(SHAPE, heads=3), FlopCounterMode(display=False)
    with counter:
        model(images())
    attention = sum(flops for part, flops in model.forward_flops(BATCH).items() if part.endswith(("scores", "mix")))
    assert counter.get_total_flops() == sum(model.forward_flops(BATCH).values()) - attention
