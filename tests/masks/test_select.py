"""Masks prune exactly floor(s N) weights, ties by position; both ways to find the threshold agree with sorting."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from effi import masks
from effi.errors import ParameterError
from effi.kernels.selection import Keyed, by_torch
from effi.masks import select, threshold
from tests.kernels.waits import Waits

KNOWN = torch.tensor([0.5, -0.1, 0.3, 0.2, -0.9, 0.05, 0.4, -0.6, 0.7, 0.8])


def pruned(mask: dict[str, Tensor]) -> list[int]:
    """Flat indices that are pruned."""
    return torch.cat([kept.reshape(-1) for kept in mask.values()]).logical_not().nonzero()[:, 0].tolist()


def sorted_mask(scores: dict[str, Tensor], k: int) -> list[int]:
    """The k smallest by a full stable sort: the definition."""
    flat = torch.cat([score.reshape(-1).float() for score in scores.values()])
    return sorted(flat.sort(stable=True).indices[:k].tolist())


def strict(weights: Tensor, sparsity: float) -> Tensor:
    """What prior code does (Early-Bird-Tickets, main.py): keep what is strictly above sorted[floor(N p)]."""
    return weights.abs() > weights.abs().sort().values[int(weights.numel() * sparsity)]


def test_the_sheets_case():
    assert pruned(masks.magnitude({"w": KNOWN}, 0.3)) == [1, 3, 5]


def test_exact_count_where_prior_code_prunes_one_more_or_all():
    assert pruned({"w": strict(KNOWN, 0.3)}) == [1, 2, 3, 5]
    constant = torch.full((10,), 0.7)
    assert pruned({"w": strict(constant, 0.3)}) == list(range(10))
    assert pruned(masks.magnitude({"w": constant}, 0.3)) == [0, 1, 2]


@pytest.mark.parametrize(("count", "sparsity", "k"), [(100, 0.29, 29), (100, 0.57, 57), (10, 0.05, 0), (7, 0.5, 3)])
def test_floor_of_the_share_without_float_traps(count, sparsity, k):
    assert len(pruned(masks.magnitude({"w": torch.randn(count)}, sparsity))) == k


@pytest.mark.parametrize(
    ("weights", "sparsity", "k"),
    [
        (9_437_184, 0.1, 943_718),
        (9_437_184, 0.3, 2_831_155),
        (26_542_080, 0.1, 2_654_208),
        (26_542_080, 0.3, 7_962_624),
        (84_934_656, 0.1, 8_493_465),
        (84_934_656, 0.3, 25_480_396),
    ],
)
def test_pruned_counts_of_the_sheets_models(weights, sparsity, k):
    assert masks.pruned_count(sparsity, weights) == k


def tensors(kind: str, seed: int) -> dict[str, Tensor]:
    """Three tensors with few, many or only ties, or of very different scales."""
    draw = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(size, generator=draw) for name, size in {"a": (37, 11), "b": (5,), "c": (64, 8)}.items()}
    changes = {
        "normal": lambda w: w,
        "ties": lambda w: (w * 2).round(),
        "constant": lambda w: torch.full_like(w, -0.25),
        "zeros": lambda w: w * (w > 0),
        "scales": lambda w: w * 10.0 ** torch.randint(-40, 38, w.shape, generator=draw),
        "infinite": lambda w: torch.where(w > 1, torch.inf, torch.where(w < -1, -torch.inf, w)),
        "bf16": lambda w: w.bfloat16(),
    }
    return {name: changes[kind](weight) for name, weight in made.items()}


KINDS = ("normal", "ties", "constant", "zeros", "scales", "infinite", "bf16")


@pytest.mark.parametrize("way", [select._keep_on_cpu, by_torch])
@pytest.mark.parametrize("kind", KINDS)
def test_both_thresholds_agree_with_a_stable_sort(monkeypatch, kind, way):
    monkeypatch.setattr(select, "_keep_on_cpu", way)
    for seed in range(3):
        scores = tensors(kind, seed)
        absolute = {name: score.abs() for name, score in scores.items()}
        count = sum(score.numel() for score in scores.values())
        for sparsity in (0.002, 0.1, 0.3, 0.5, 0.9, 0.998):
            k = masks.pruned_count(sparsity, count)
            assert pruned(masks.smallest(scores, sparsity)) == sorted_mask(scores, k)
            assert pruned(masks.magnitude(scores, sparsity)) == sorted_mask(absolute, k)


@pytest.mark.parametrize("way", [select._keep_on_cpu, by_torch])
def test_every_rank_and_every_piece(monkeypatch, way):
    """Pieces and samples far smaller than tensors, so that brackets are wide, miss and meet the ends."""
    monkeypatch.setattr(threshold, "CHUNK", 7)
    monkeypatch.setattr(threshold, "SAMPLE", 10)
    monkeypatch.setattr(threshold, "DEVIATIONS", 0.1)
    monkeypatch.setattr(select, "_keep_on_cpu", way)
    scores = {name: score[:40] for name, score in tensors("ties", 0).items()}
    count = sum(score.numel() for score in scores.values())
    for k in range(1, count, 13):
        assert pruned(masks.smallest(scores, k / count)) == sorted_mask(scores, k)


def test_minus_zero_ties_with_zero():
    assert pruned(masks.smallest({"w": torch.tensor([0.0, -0.0, 1.0, -0.0])}, 0.25)) == [0]


def test_per_tensor_scope_counts_in_each():
    weights = {"small": torch.rand(40), "large": torch.rand(7, 9) + 1}
    globally, layerwise = masks.magnitude(weights, 0.3), masks.magnitude(weights, 0.3, scope="tensor")
    assert masks.layer_sparsity(globally)["small"] == 30 / 40
    assert masks.layer_sparsity(layerwise) == {"small": 12 / 40, "large": 18 / 63}
    for name, weight in weights.items():
        assert pruned({name: layerwise[name]}) == sorted_mask({name: weight.abs()}, int(0.3 * weight.numel()))


@pytest.mark.parametrize("way", [select._keep_on_cpu, by_torch])
def test_within_prunes_more_and_never_less(monkeypatch, way):
    monkeypatch.setattr(select, "_keep_on_cpu", way)
    weights = {"a": torch.randn(50, 4), "b": torch.randn(100)}
    first = masks.random(weights, 0.4, generator=torch.Generator().manual_seed(1))
    second = masks.magnitude(weights, 0.7, within=first)
    assert len(pruned(second)) == 210
    assert set(pruned(first)) < set(pruned(second))
    alive = {name: weight.abs().where(first[name], -1) for name, weight in weights.items()}
    assert pruned(second) == sorted_mask(alive, 210)


def test_within_stays_pruned_beside_scores_of_minus_infinity():
    scores = {"w": torch.tensor([-torch.inf, 1.0, 2.0, 3.0])}
    within = {"w": torch.tensor([True, True, True, False])}
    assert pruned(masks.smallest(scores, 0.25, within=within)) == [3]
    assert pruned(masks.smallest(scores, 0.5, within=within)) == [0, 3]


def test_scores_need_not_lie_in_order_in_memory():
    weight = torch.randn(30, 20)
    assert pruned(masks.magnitude({"w": weight.T}, 0.3)) == pruned(masks.magnitude({"w": weight.T.contiguous()}, 0.3))


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_sparsity_outside_its_range(sparsity):
    for make in (masks.magnitude, masks.random):
        with pytest.raises(ParameterError, match=r"outside \(0, 1\)"):
            make({"w": KNOWN}, sparsity)


def test_what_cannot_be_ranked_is_named():
    bad = {"fine": KNOWN, "broken.weight": torch.tensor([1.0, torch.nan])}
    with pytest.raises(ParameterError, match=r'"broken.weight" holds values that are not numbers'):
        masks.magnitude(bad, 0.5)
    with pytest.raises(ParameterError, match="no scores"):
        masks.smallest({}, 0.5)
    with pytest.raises(ParameterError, match='scope "layer"'):
        masks.magnitude({"w": KNOWN}, 0.5, scope="layer")
    with pytest.raises(ParameterError, match='"w" has shape'):
        masks.magnitude({"w": KNOWN}, 0.5, within={"w": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(ParameterError, match=r'already prunes 5 weights of "w", more than the 3'):
        masks.magnitude({"w": KNOWN}, 0.3, within=masks.magnitude({"w": KNOWN}, 0.5))


def test_random_masks_are_exact_repeatable_and_uniform():
    weights = {"a": torch.empty(200, 100), "b": torch.empty(5000)}
    first, again, other = (masks.random(weights, 0.3, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert pruned(first) == pruned(again)
    assert masks.sparsity(first) == masks.sparsity(other) == 0.3
    assert masks.layer_sparsity(first)["b"] == pytest.approx(0.3, abs=0.03)
    assert masks.distance(first, other) == pytest.approx(0.42, abs=0.015)


def test_random_like_keeps_the_count_of_every_tensor():
    mask = {
        "some": torch.arange(90).view(9, 10) % 3 > 0,
        "none": torch.zeros(8, dtype=torch.bool),
        "all": torch.ones(8, dtype=torch.bool),
    }
    drawn = masks.random_like(mask, torch.Generator().manual_seed(0))
    assert masks.layer_sparsity(drawn) == masks.layer_sparsity(mask)
    assert {name: kept.shape for name, kept in drawn.items()} == {name: kept.shape for name, kept in mask.items()}
    assert masks.distance(drawn, mask) > 0


def test_gradients_of_parameters_are_left_alone():
    parameter = torch.nn.Parameter(torch.randn(10))
    mask = masks.magnitude({"w": parameter}, 0.5)
    assert not mask["w"].requires_grad
    assert Keyed(parameter).keys().dtype == torch.int32


def test_the_largest_are_those_within():
    scores, within = torch.tensor([9.0, -3, 2, -8, 1]), torch.tensor([False, True, True, False, True])

    def kept(count: int, inside: Tensor | None = within) -> list[bool]:
        return masks.largest({"w": scores}, {"w": count}, within=None if inside is None else {"w": inside})[
            "w"
        ].tolist()

    assert kept(2) == [False, True, True, False, False]
    assert kept(3) == within.tolist() and not any(kept(0))
    assert all(kept(5, None)) and kept(3, None) == [True, True, False, True, False]
    with pytest.raises(ParameterError, match=r'already prunes 2 weights of "w", more than the 1 asked for'):
        kept(4)
    assert masks.largest({}, {}) == {}


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_a_selection_waits_once_and_a_trusted_one_never(monkeypatch, scope):
    """As a GPU computes."""
    monkeypatch.setattr(select, "_keep_on_cpu", by_torch)
    weights = {str(size): torch.randn(size) for size in range(50, 60)}
    within = masks.random(weights, 0.2)
    for trusted, waits_of in ((False, ["tolist"]), (True, [])):
        with Waits() as waits:
            mask = masks.magnitude(weights, 0.5, scope=scope, within=within, trusted=trusted)
        assert waits.names == waits_of and masks.sparsity(mask) == pytest.approx(0.5, abs=0.01)
    with Waits() as waits:
        masks.random_like(masks.random(weights, 0.3, scope=scope))
    assert waits.names == []
