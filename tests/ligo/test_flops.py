"""The paper's FLOPs to the integer, against the official counter term by term, and savings of Table 3."""

from __future__ import annotations

import pytest

from effi.errors import ParameterError
from effi.ligo.flops import Sizes, bert, expansion, growth_step, official_expansion, sizes
from effi.ligo.savings import savings
from effi.models.gpt import GPT
from effi.models.language import TextSize, language_model
from effi.models.vit import ViT, ViTShape

SMALL, BASE = bert(6, 512), bert(12, 768)
SCRATCH = 5.865e18  # FLOPs of scratch to log-ppl 1.80, read off Table 3


@pytest.mark.parametrize(
    ("layers", "width", "flops"),
    [
        (6, 512, 4_977_349_455_872),
        (12, 768, 15_068_231_331_840),
        (3, 768, 6_452_456_878_080),
        (6, 768, 9_324_381_696_000),
        (12, 512, 7_569_632_620_544),
        (3, 128, 689_008_701_440),
        (6, 192, 1_286_795_784_192),
    ],
)
def test_steps_of_the_papers_models_are_counted_to_the_integer(layers: int, width: int, flops: int) -> None:
    assert bert(layers, width).step(256) == flops


def test_the_closed_form_with_four_times_the_width_is_the_sheets() -> None:
    h, s, a, v = 768, 128, 12, 30522
    assert BASE.block() == s * (24 * h**2 + 4 * h * s + 10 * s * a + 56 * h + 5)
    assert BASE.embedding() == s * (2 * h * v + 2 * h * (s + 2) + 11 * h)
    assert BASE.head() == 0.15625 * s * (2 * h * v + 2 * h**2 + 14 * h + 7 * v)
    assert BASE.step(256) - 512 * 128 * 2 * h * v == 11_995_786_211_328


def test_a_layer_is_the_sum_of_its_parts() -> None:
    """Any hidden width: bias 1, dropout 4, skip 1, GELU 8, LayerNorm 5, softmax 5, and a scale per score."""
    own = Sizes(1, 10, 2, 30, 7, vocabulary=11)
    attention = 3 * (2 * 10 * 10 + 10) + 2 * 2 * 10 * 7 + (5 + 4 + 1) * 7 * 2 + 2 * 10 * 10 + (1 + 4 + 1) * 10 + 5
    forward = 2 * 10 * 30 + (8 + 1) * 30 + 2 * 30 * 10 + (1 + 4 + 1 + 5) * 10
    assert own.block() == 7 * (attention + forward)


def test_growth_steps_are_the_official_codes() -> None:
    assert official_expansion(SMALL, BASE) == 3_427_981_312
    assert growth_step(SMALL, BASE, 256) == 36_129_748_512_768
    assert 100 * growth_step(SMALL, BASE, 256) == pytest.approx(3.613e15, rel=1e-4)
    assert 100 * growth_step(SMALL, BASE, 256, "batch") == pytest.approx(1.515e15, rel=1e-4)


def test_the_official_expansion_is_the_sum_of_its_roles() -> None:
    l1, d1, d2, f2 = 3, 5, 7, 29
    new = d2 - d1
    square = 2 * d2 * d2 * l1 + 4 * new * d1**2 + d2 * l1 + new * d1
    norms = 2 * d2 * l1 + 2 * new * d1 + 2 * d2 * l1 + new * d2
    up = 2 * d2 * f2 * l1 + 4 * new * d1 * f2 + f2 * l1 + new * f2
    down = 2 * d2 * f2 * l1 + 2 * new * f2 * d2 + 2 * d2 * l1 + new * d2
    given = Sizes(l1, d1, 1, 20, 4, vocabulary=9), Sizes(6, d2, 1, f2, 4, vocabulary=9)
    assert official_expansion(*given) == 2 * square + norms + up + down


def test_our_count_of_growth_is_the_products_that_are_made() -> None:
    assert expansion(SMALL, BASE) == 8_090_812_416
    assert 100 * growth_step(SMALL, BASE, 256, "ours") == pytest.approx(1.526e15, rel=1e-3)
    share = growth_step(SMALL, BASE, 256, "ours") / BASE.step(256) - 1
    assert share == pytest.approx(0.0129, abs=5e-5)
    # Nothing is widened: what is left is the mixing of six layers.
    assert expansion(bert(6, 768), BASE) == 2 * 6 * 12 * 768**2


def test_savings_of_table_3_and_net_of_the_source() -> None:
    step, reference = BASE.step(256), SCRATCH / BASE.step(256)
    growth = growth_step(SMALL, BASE, 256)
    gross = savings(215_000, reference, step, growth_flops=100 * growth)
    assert gross == pytest.approx(0.4470, abs=5e-5)
    assert savings(215_000, reference, step, growth_flops=1000 * growth) == pytest.approx(0.4415, abs=5e-5)
    source = 220_000 * SMALL.step(256)
    assert source / SCRATCH == pytest.approx(0.187, abs=5e-4)
    net = savings(215_000, reference, step, growth_flops=100 * growth, source_flops=source)
    assert net == pytest.approx(0.260, abs=5e-4) and net == pytest.approx(gross - source / SCRATCH)
    assert 50_000 * SMALL.step(256) / SCRATCH == pytest.approx(0.042, abs=5e-4)
    assert SMALL.step(256) / step == pytest.approx(0.3303, abs=5e-5)


def test_an_evaluation_every_thousand_steps_tells_savings_to_a_quarter_of_a_point() -> None:
    step, reference = BASE.step(256), SCRATCH / BASE.step(256)
    steps = [savings(count, reference, step) for count in (215_000, 216_000)]
    assert 100 * (steps[0] - steps[1]) == pytest.approx(0.257, abs=5e-4)


def test_an_arm_that_takes_longer_saves_less_than_nothing() -> None:
    assert savings(150, 100, 7.0) == pytest.approx(-0.5)
    assert savings(100, 100, 7.0) == 0
    assert savings(50, 100, 2.0, growth_flops=20, source_flops=40) == pytest.approx(1 - 160 / 200)


@pytest.mark.parametrize(("steps", "reference", "flops"), [(-1, 10, 1), (1, 0, 1), (1, 10, 0)])
def test_costs_that_make_no_sense_are_refused(steps: float, reference: float, flops: float) -> None:
    with pytest.raises(ParameterError, match="a reference above 0"):
        savings(steps, reference, flops)


def test_sizes_are_those_of_models() -> None:
    gpt = GPT(50, 16, TextSize(12, 3, 2, 30))
    assert sizes(gpt, 9) == Sizes(3, 12, 2, 30, 9, vocabulary=50)
    vit = ViT(ViTShape(8, 4, 3, 5, width=12, depth=2, hidden=20, pool="cls"), heads=3)
    assert sizes(vit) == Sizes(2, 12, 3, 20, 5, patch=48, classes=5)
    made = language_model("bert", size=TextSize(16, 2, 4, 24), vocabulary=60, length=8)
    assert sizes(made, 8) == Sizes(2, 16, 4, 24, 8, vocabulary=60)


@pytest.mark.parametrize("kind", ["gpt", "vit", "bert"])
def test_products_of_layers_are_those_that_the_model_counts_itself(kind: str) -> None:
    if kind == "vit":
        model, path = ViT(ViTShape(8, 4, 3, 5, width=12, depth=2, hidden=20, pool="cls"), heads=3), "blocks."
        forward = model.forward_flops(1)
    elif kind == "gpt":
        model, path = GPT(50, 16, TextSize(12, 3, 2, 30)), "blocks."
        forward = model.forward_flops(1, 9)
    else:
        size = TextSize(16, 2, 4, 24)
        model, path = language_model("bert", size=size, vocabulary=60, length=9), "net.bert.encoder."
        forward = model.forward_flops(1, 9)
    own = sizes(model, 9)
    counted = sum(flops for name, flops in forward.items() if name.startswith(path))
    elementwise = 10 * own.heads * own.tokens + 20 * own.width + 9 * own.hidden + 5
    assert counted == own.layers * (own.block() - own.tokens * elementwise)


def test_an_image_model_counts_patches_and_classes_alone() -> None:
    vit = Sizes(2, 12, 3, 20, 5, patch=48, classes=4)
    assert vit.step(2) == 4 * (2 * vit.block() + 2 * 5 * 48 * 12 + 2 * 12 * 4)


def test_what_has_no_count_is_refused() -> None:
    gpt = GPT(50, 16, TextSize(12, 3, 2, 30))
    with pytest.raises(ParameterError, match="give tokens"):
        sizes(gpt)
    with pytest.raises(ParameterError, match="of a Linear are not known"):
        sizes(gpt.blocks[0].mlp[0], 9)
    with pytest.raises(ParameterError, match="a vocabulary or patch and classes"):
        Sizes(2, 12, 3, 20, 5)
    with pytest.raises(ParameterError, match="did you mean 'batch'"):
        growth_step(SMALL, BASE, 256, "batches")  # type: ignore[arg-type]
