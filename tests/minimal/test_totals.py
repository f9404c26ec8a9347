"""Parameter totals: the printed ones, the derived table, and what torch counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from effi.minimal import Variant, matched, overdetermination

MNIST, CIFAR = (1, 32, 32), (3, 32, 32)
FULL = Variant()
WQK = Variant(query_key="collapsed")
MINIMUM_MLP = Variant(query_key="collapsed", value_output="dropped")
BARE = Variant(mlp=False)
WQK_BARE = Variant(mlp=False, query_key="collapsed")
MINIMUM = Variant(mlp=False, query_key="collapsed", value_output="dropped")

TABLE = [
    (FULL, 280_006, 2.14, 287_686, 1.74),
    (WQK, 258_046, 2.33, 265_726, 1.88),
    (MINIMUM_MLP, 214_126, 2.80, 221_806, 2.25),
    (BARE, 93_790, 6.40, 101_470, 4.93),
    (WQK_BARE, 71_830, 8.35, 79_510, 6.29),
    (MINIMUM, 27_910, 21.50, 35_590, 14.05),
]


def counted(variant: Variant, shape: tuple[int, int, int] = CIFAR, patch: int = 8) -> int:
    return sum(p.numel() for p in variant.model(shape, patch, 10, seed=0).parameters())


@pytest.mark.parametrize(("variant", "mnist", "q_mnist", "cifar", "q_cifar"), TABLE)
def test_totals_and_q_of_the_sheet(variant, mnist, q_mnist, cifar, q_cifar):
    assert (variant.parameters(64), variant.parameters(192)) == (mnist, cifar)
    assert (counted(variant, MNIST), counted(variant, CIFAR)) == (mnist, cifar)
    assert round(overdetermination(60_000, 10, mnist), 2) == q_mnist
    assert round(overdetermination(50_000, 10, cifar), 2) == q_cifar


@pytest.mark.parametrize("variant", [WQK, WQK_BARE])
def test_tied_has_the_count_of_collapsed(variant):
    assert counted(replace(variant, query_key="tied")) == counted(variant)


@pytest.mark.parametrize("norm", ["pre", "post", "none"])
def test_a_plain_stream_has_one_norm_a_layer_less(norm):
    plain = replace(BARE, without_mlp="plain", norm=norm)
    assert counted(plain) == plain.parameters(192)
    assert replace(BARE, norm=norm).parameters(192) - plain.parameters(192) == (0 if norm == "none" else 6 * 2 * 60)
    assert replace(FULL, without_mlp="plain").parameters(192) == FULL.parameters(192)


def test_printed_totals_fix_width_and_hidden():
    assert (FULL.parameters(192), BARE.parameters(192)) == (287_686, 101_470)
    assert FULL.parameters(192) - BARE.parameters(192) == 6 * 31_036
    hits = {
        (n, f)
        for n in range(1, 400)
        for f in range(1, 600)
        if 2 * n * f + n + f == 31_036 and replace(FULL, width=n, hidden=f).parameters(192) == 287_686
    }
    assert hits == {(60, 256)}


def test_twelve_encoders_differ_from_the_printed_totals():
    deep = replace(FULL, depth=12).parameters(192), replace(BARE, depth=12).parameters(192)
    assert deep == (563_182, 190_750)
    assert 563_242 - deep[0] == 60
    assert sorted("198100") == sorted(str(deep[1] + 60))


@pytest.mark.parametrize(
    ("variant", "mnist", "cifar"),
    [
        (Variant(), 156_298, 165_450),
        (Variant(mlp=False), 106_378, 115_530),
        (WQK, 131_338, None),
        (MINIMUM_MLP, 81_418, 90_570),
        (WQK_BARE, 81_418, 90_570),
        (MINIMUM, 31_498, 40_650),
        (Variant(depth=12), 307_594, 316_746),
        (Variant(depth=12, mlp=False), 207_754, 216_906),
    ],
)
def test_layout_of_the_reimplementation(variant, mnist, cifar):
    variant = replace(variant, width=64, hidden=64, pool="cls", positions="learned", norm="post")
    assert counted(variant, (1, 28, 28), 7) == mnist
    assert cifar is None or counted(variant, CIFAR, 8) == cifar


FOLLOW_UP = [
    Variant(),
    Variant(mlp=False),
    Variant(mlp=False, query_key="tied"),
    Variant(mlp=False, query_key="tied", value_output="dropped"),
]


@pytest.mark.parametrize("variant", FOLLOW_UP)
@pytest.mark.parametrize("shape", [MNIST, CIFAR])
def test_layouts_of_the_follow_up_are_not_separable(variant, shape):
    shared = replace(variant, depth=3, heads=4, width=64, attention_bias=False)
    no_cls = replace(shared, stem_bias=False, final_norm=True)
    with_cls = replace(shared, pool="cls")
    assert counted(no_cls, shape) == counted(with_cls, shape) == with_cls.parameters(64 * shape[0])


@pytest.mark.parametrize("query_key", ["mirrored", "gram"])
def test_symmetric_matrices_have_half_the_numbers(query_key):
    variant = Variant(mlp=False, query_key=query_key, value_output="dropped")
    assert variant.attention_parameters() == 60 * 61 // 2 == 1_830
    assert counted(variant) == variant.parameters(192)
    assert replace(variant, value_output="separate").attention_parameters() == 1_830 + 2 * 60 * 61


def test_attention_shrinks_four_to_one_and_the_stack_to_seven_twenty_fourths():
    free = replace(FULL, attention_bias=False)
    weights = [replace(v, attention_bias=False).attention_parameters() for v in (FULL, WQK, MINIMUM)]
    assert weights == [4 * 3600, 3 * 3600, 3600]
    assert (6 + 1) * 3600 / (6 * free.attention_parameters()) == pytest.approx(7 / 24)


def test_collapsing_pays_only_with_one_head():
    factored = Variant(attention_bias=False).attention_parameters()
    wqk = replace(WQK, attention_bias=False)
    collapsed = [replace(wqk, heads=h).attention_parameters() for h in (1, 2, 4)]
    assert collapsed[0] < factored == collapsed[1] < collapsed[2]


def test_matched_controls_come_near_their_target():
    small = matched(FULL, MINIMUM.parameters(192), 192)
    wide = matched(BARE, FULL.parameters(192), 192)
    assert small.mlp and small.parameters(192) == pytest.approx(MINIMUM.parameters(192), rel=0.05)
    assert not wide.mlp and wide.parameters(192) == pytest.approx(FULL.parameters(192), rel=0.05)
