"""What merging, tying and dropping matrices keeps and what it breaks, in float64."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch.nn.functional import layer_norm

from effi.errors import ParameterError
from effi.minimal import Attention, Variant, copy_merged, diagnose, merged_model, score_matrix, stack, start
from effi.models.attention import attend
from effi.models.vit import ViT

FORMS = list(itertools.product(["separate", "collapsed", "tied", "mirrored", "gram"], [1, 4]))


@pytest.fixture(autouse=True)
def double():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def tokens(n: int = 12, t: int = 7) -> torch.Tensor:
    return layer_norm(torch.randn(3, t, n), (n,))


def with_biases(module: torch.nn.Module) -> torch.nn.Module:
    for name, parameter in module.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("value_output", ["separate", "merged"])
def test_merged_equals_factored_with_one_head(bias, value_output):
    full = with_biases(Attention(12, bias=bias))
    merged = with_biases(Attention(12, query_key="collapsed", value_output=value_output, bias=bias))
    copy_merged(full, merged)
    assert (full(x := tokens()) - merged(x)).abs().max() <= 1e-10


def test_full_matrices_per_head_equal_factored_heads():
    full = Attention(12, 3, bias=False)
    merged = Attention(12, 3, query_key="collapsed", bias=False)
    with torch.no_grad():
        merged.named_rows()["query"].copy_(score_matrix(full).mT.flatten(0, 1))
        merged.named_rows()["value"].copy_(full.named_rows()["value"])
        merged.out.load_state_dict(full.out.state_dict())
    assert (full(x := tokens()) - merged(x)).abs().max() <= 1e-10
    assert full.scale == merged.scale == 4**-0.5


def bare_model(norm: str, skip: bool) -> ViT:
    variant = Variant(mlp=False, width=12, depth=4, norm=norm, skip=skip, attention_bias=False, positions="none")
    return variant.model((3, 8, 8), 2, 10, seed=1)


def merging_gap(model: ViT) -> float:
    (smaller, value), x = merged_model(model), tokens()
    return (stack(model, x) - stack(smaller, x) @ value).abs().max().item()


def test_stack_without_skip_and_norm_needs_one_value_matrix():
    model = bare_model("none", skip=False)
    assert merging_gap(model) <= 1e-10
    smaller, value = merged_model(model)
    assert sum(p.numel() for p in smaller.blocks.parameters()) + value.numel() == (4 + 1) * 12**2
    assert sum(p.numel() for p in model.blocks.parameters()) == 4 * 4 * 12**2


@pytest.mark.parametrize(("norm", "skip"), [("none", True), ("pre", False), ("pre", True), ("post", True)])
def test_a_skip_or_a_norm_breaks_the_product(norm, skip):
    assert merging_gap(bare_model(norm, skip)) > 1e-2


@pytest.mark.parametrize(("query_key", "heads"), FORMS)
def test_rows_sum_to_one(query_key, heads):
    weights = Attention(12, heads, query_key=query_key).weights(tokens())
    assert weights.shape == (3, heads, 7, 7)
    assert (weights.sum(-1) - 1).abs().max() <= 1e-12


def in_hull(points: torch.Tensor, weights: torch.Tensor, output: torch.Tensor) -> bool:
    """Whether output = weights @ points with weights non-negative and summing to one."""
    convex = bool((weights >= 0).all()) and bool(((weights.sum(-1) - 1).abs() < 1e-12).all())
    return convex and bool(((weights @ points - output).abs() < 1e-12).all())


@pytest.mark.parametrize("query_key", ["collapsed", "tied", "gram"])
def test_dropped_values_stay_in_the_convex_hull(query_key):
    x = tokens()
    one = Attention(12, 1, query_key=query_key, value_output="dropped")
    assert in_hull(x, one.weights(x)[:, 0], one(x))
    sliced = Attention(12, 4, query_key=query_key, value_output="dropped")
    for head in range(4):
        part = slice(3 * head, 3 * head + 3)
        assert in_hull(x[..., part], sliced.weights(x)[:, head], sliced(x)[..., part])
    averaged = Attention(12, 4, query_key=query_key, value_output="averaged")
    assert in_hull(x, averaged.weights(x).mean(1), averaged(x))


def test_a_residual_leaves_the_hull():
    x = tokens()
    bare = Attention(12, query_key="collapsed", value_output="dropped")
    direction = x[0, 0]
    assert ((x + bare(x))[0] @ direction).max() > (x[0] @ direction).max()


def test_uniform_mixing_gives_the_token_mean():
    x = tokens()
    for heads, value_output in ((1, "dropped"), (4, "dropped"), (4, "averaged")):
        mixed = Attention(12, heads, mixing="uniform", value_output=value_output)(x)
        assert (mixed - x.mean(1, keepdim=True)).abs().max() <= 1e-12


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("query_key", ["tied", "mirrored", "gram"])
def test_symmetric_forms_have_symmetric_logits(query_key, heads):
    x = tokens()
    attention = Attention(12, heads, query_key=query_key)
    logits = attention.logits(x)
    assert attention.symmetric
    assert (logits - logits.mT).abs().max() <= 1e-10
    weights = attention.weights(x)
    assert (weights - weights.mT).abs().max() > 1e-3
    if query_key != "mirrored":
        assert torch.linalg.eigvalsh(logits).min() >= -1e-10
    if query_key == "tied":
        assert torch.linalg.matrix_rank(score_matrix(attention)).max() <= 12 // heads


def test_a_mirrored_matrix_may_be_indefinite_and_separate_ones_are_not_symmetric():
    mirrored = Attention(12, query_key="mirrored")
    assert torch.linalg.eigvalsh(mirrored.matrix()).min() < 0
    free = Attention(12)
    logits = free.logits(tokens())
    assert not free.symmetric and (logits - logits.mT).abs().max() > 1e-2


def test_positive_semidefinite_bounds_but_a_token_may_prefer_another():
    x = torch.tensor([[[1.0, 0.0], [3.0, 0.1]]])
    gram = Attention(2, query_key="gram", value_output="dropped")
    s = gram.logits(x)[0, 0]
    assert (s.diagonal() >= 0).all()
    assert s[0, 1] ** 2 <= s[0, 0] * s[1, 1] + 1e-12
    assert s[0, 1] > s[0, 0]


@pytest.mark.parametrize(("query_key", "heads"), FORMS)
def test_score_matrix_is_what_the_logits_apply(query_key, heads):
    x = tokens()
    attention = Attention(12, heads, query_key=query_key, bias=False)
    wanted = (x[:, None] @ score_matrix(attention)) @ x[:, None].mT * attention.scale
    assert (attention.logits(x) - wanted).abs().max() <= 1e-10


@pytest.mark.parametrize(("query_key", "heads"), FORMS)
@pytest.mark.parametrize("value_output", ["separate", "dropped", "averaged"])
def test_forward_is_weights_times_values(query_key, heads, value_output):
    x = tokens()
    attention = with_biases(Attention(12, heads, query_key=query_key, value_output=value_output))
    _, value = attention._parts(x)
    mixed = attention.weights(x) @ value
    joined = mixed.mean(1) if value_output == "averaged" else mixed.transpose(1, 2).flatten(2)
    assert (attention.out(joined) - attention(x)).abs().max() <= 1e-10


def test_heads_that_read_the_same_tokens_are_queries_of_one(monkeypatch):
    x, seen = tokens(), []
    attention = Attention(12, 4, query_key="collapsed", value_output="averaged")
    monkeypatch.setattr(
        "effi.minimal.attention.attend", lambda q, k, v, scale: seen.append((q, k, v)) or attend(q, k, v, scale)
    )
    attention(x)
    (query, key, value), (batch, count) = seen[0], x.shape[:2]
    assert query.shape == (batch, 1, 4 * count, 12)
    assert key.data_ptr() == value.data_ptr() == x.data_ptr() and key.shape == (batch, 1, count, 12)
    assert query._base is not None, "no copy of the queries either"


def test_symmetric_shorthand_names_the_symmetric_form():
    assert Attention(12, symmetric=True).query_key == "tied"
    assert Attention(12, query_key="collapsed", symmetric=True).query_key == "mirrored"
    assert Attention(12, query_key="gram", symmetric=True).query_key == "gram"


def test_score_scale_by_head_or_by_width():
    by_head, by_width = Attention(12, 4), Attention(12, 4, score_scale="width")
    by_width.load_state_dict(by_head.state_dict())
    assert torch.allclose(by_width.logits(x := tokens()) * 2, by_head.logits(x))


def test_frozen_attention_is_linear_in_the_tokens():
    block = Attention(12, 2, mixing="fixed", tokens=7, bias=False)
    x, y = tokens(), tokens()
    assert (block(2 * x - 3 * y) - (2 * block(x) - 3 * block(y))).abs().max() <= 1e-10
    soft = Attention(12, 2, bias=False)
    assert (soft(2 * x - 3 * y) - (2 * soft(x) - 3 * soft(y))).abs().max() > 1e-2


def test_two_linear_score_layers_grow_with_the_ninth_power():
    first, second = (Attention(12, mixing="linear", bias=False) for _ in range(2))
    x = tokens()
    ratio = second(first(10 * x)) / second(first(x))
    assert torch.allclose(ratio, torch.full_like(ratio, 10.0**9), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "not a multiple of heads 5"),
        ({"query_key": "shared"}, "'shared' is none of separate, collapsed"),
        ({"heads": 2, "value_output": "merged"}, "no single product"),
        ({"mixing": "fixed"}, "pass tokens="),
    ],
)
def test_impossible_options_say_so(options, message):
    with pytest.raises(ParameterError, match=message):
        Attention(12, **options)


class TestStart:
    """17 LayerNormed tokens of width 64, as in the simulation behind these numbers."""

    x = None

    @pytest.fixture(autouse=True)
    def draw(self):
        self.x = tokens(64, 17)

    @pytest.mark.parametrize("query_key", ["tied", "mirrored", "gram"])
    @pytest.mark.parametrize("heads", [1, 4])
    def test_sane_symmetric_forms_start_soft(self, query_key, heads):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            begun = start(Attention(64, heads, query_key=query_key), self.x)
        assert begun.entropy > 1.5
        assert begun.self_weight < 0.6

    def test_unscaled_gram_starts_saturated_and_warns(self):
        with pytest.warns(UserWarning, match="starts saturated"):
            begun = start(Attention(64, query_key="gram", init="unscaled"), self.x)
        assert begun.entropy < 0.01
        assert begun.self_weight > 0.99
        assert 60 < begun.logit_sd < 100

    def test_unscaled_gram_per_slice_is_the_reimplementations_case(self):
        with pytest.warns(UserWarning, match="starts saturated"):
            begun = start(Attention(64, 4, query_key="gram", init="unscaled"), self.x)
        assert begun.entropy == pytest.approx(0.15, abs=0.05)
        assert begun.self_weight == pytest.approx(0.81, abs=0.05)

    def test_tied_sane_matches_the_sheet(self):
        begun = start(Attention(64, query_key="tied"), tokens(64, 17))
        assert begun.logit_sd == pytest.approx(0.79, abs=0.08)
        assert begun.entropy == pytest.approx(2.13, abs=0.15)
        assert begun.self_weight == pytest.approx(0.45, abs=0.06)

    @pytest.mark.parametrize("query_key", ["separate", "collapsed", "mirrored"])
    def test_mimetic_scores_are_near_the_identity(self, query_key):
        attention = Attention(64, query_key=query_key, init="mimetic")
        wqk = score_matrix(attention)[0].detach()
        assert wqk.diagonal().mean() == pytest.approx(0.7, abs=0.05)
        values = (attention.named_rows()["value"].T @ attention.out.weight.T).detach()
        assert values.diagonal().mean() == pytest.approx(-0.4, abs=0.05)


def test_diagnosis_of_known_matrices():
    model = Variant(mlp=False, query_key="gram", width=12, depth=2).model((3, 8, 8), 2, 10, seed=0)
    rows = diagnose(model, torch.randn(4, 3, 8, 8))
    assert len(rows) == 2
    assert all(row["symmetric_fraction"] == pytest.approx(1.0) for row in rows)
    assert all(row["negative_share"] == 0 for row in rows)
    free = Variant(mlp=False, width=60, depth=1).model((3, 8, 8), 2, 10, seed=0)
    row = diagnose(free, torch.randn(4, 3, 8, 8))[0]
    assert row["symmetric_fraction"] == pytest.approx(0.5, abs=0.05)
    assert row["negative_share"] == pytest.approx(0.5, abs=0.1)
    assert 0 < row["entropy"] < torch.log(torch.tensor(16.0))
