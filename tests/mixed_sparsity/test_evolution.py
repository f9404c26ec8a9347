"""One topology update: counts, what is dropped and grown against a sort, and what Adam does to the newly grown."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from effi import masks
from effi.errors import ParameterError
from effi.kernels.selection import by_torch
from effi.masks import select
from effi.mixed_sparsity.evolution import Evolution, drawn, drop_fraction, evolve, turnover
from effi.mixed_sparsity.evolution import _smallest_within as smallest_within
from tests.kernels.waits import Waits

SHAPES = {"wide": (24, 40), "square": (20, 20), "tall": (50, 9)}


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(sparsity: float = 0.6, seed: int = 0, *, ties: bool = False):
    """Weights that obey a random mask, the mask, and dense gradients; with `ties` all of few values."""
    draw = stream(seed)
    weights = {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
    gradients = {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}
    if ties:
        weights, gradients = ({name: value.round() for name, value in each.items()} for each in (weights, gradients))
    mask = masks.random(weights, sparsity, generator=draw) if sparsity else masks.everything(weights)
    return {name: weight * mask[name] for name, weight in weights.items()}, mask, gradients


def updated(weights, mask, gradients, target, *, seed=0, share=0.0, **options):
    targets = target if isinstance(target, dict) else dict.fromkeys(mask, target)
    how = Evolution(**options)
    return evolve(
        weights, mask, targets, share=share, gradients=gradients, options=how, generator=stream(seed), starts=()
    )


def sorted_places(scores, places) -> list[int]:
    """Places from the lowest score to the highest, ties in order."""
    return sorted(places, key=lambda place: (float(scores[place]), place))


def reference(weight, kept, gradient, target, fraction, score, mix):
    """By sorting what stays and what is grown by gradient, and how many are grown at random."""
    on = kept.flatten().tolist()
    active = [place for place, each in enumerate(on) if each]
    scores = score(weight.flatten(), gradient.flatten()).abs()
    gap = math.floor(target * len(on) - (len(on) - len(active)) + 1e-9)
    pruned = max(math.floor(fraction * len(active) + 1e-9), gap)
    stay = set(sorted_places(scores, active)[pruned:])
    free = [place for place in range(len(on)) if place not in stay]
    grown = pruned - gap
    by_gradient = grown if mix == math.inf else int(grown * mix / (mix + 1) + 1e-9)
    return stay, set(sorted_places(gradient.flatten().abs(), free)[len(free) - by_gradient :]), grown - by_gradient


# --- how much ------------------------------------------------------------------------------------------------


def test_the_drop_fraction_falls_along_a_cosine():
    how = Evolution(drop=0.3, restart=False)
    found = [drop_fraction(share, how) for share in (0, 0.25, 1 / 3, 0.5, 0.75, 1)]
    assert found == pytest.approx([0.3, 0.15 * (1 + 0.5**0.5), 0.225, 0.15, 0.15 * (1 - 0.5**0.5), 0])
    assert drop_fraction(0.5, how, [0.0, 0.4]) == pytest.approx(0.15), "no restart where none is asked for"


def test_each_phase_begins_with_the_whole_fraction():
    how, starts = Evolution(drop=0.4), (0.0, 0.2, 0.8)
    found = [drop_fraction(share, how, starts) for share in (0, 0.1, 0.2, 0.5, 0.8, 0.9, 1)]
    assert found == pytest.approx([0.4, 0.2, 0.4, 0.2, 0.4, 0.2, 0])
    assert drop_fraction(0.2 - 1e-9, how, starts) == pytest.approx(0, abs=1e-9)


def test_nothing_is_dropped_from_until_on_and_the_cosine_ends_there():
    """RigL: alpha / 2 (1 + cos(pi t / T_end)), T_end at 75 % of the training."""
    how = Evolution(drop=0.3, until=0.75)
    found = [drop_fraction(share, how) for share in (0, 0.375, 0.75, 0.9)]
    assert found == pytest.approx([0.3, 0.15, 0, 0])
    assert drop_fraction(0.625, how, [0.0, 0.5, 0.9]) == pytest.approx(0.15), "between the restart and the end"


@pytest.mark.parametrize(
    ("mix", "expected"), [(3, (7, 3)), (0, (0, 10)), (math.inf, (10, 0)), (1, (5, 5)), (1 / 3, (2, 8))]
)
def test_the_growth_split(mix, expected):
    """n_grow = 10: r = 3 gives 7 by gradient and 3 at random (MST, 75 % of 10 rounded down)."""
    assert turnover(100, 60, 0.4, 10, mix) == (10, *expected)


def test_counts_close_the_whole_gap():
    draw = np.random.default_rng(0)
    for size, mix in product((1, 7, 100, 999), (0, 3, math.inf)):
        for _ in range(200):
            active, target = int(draw.integers(0, size + 1)), float(draw.random())
            least = int(draw.integers(0, active + 1))
            pruned, by_gradient, at_random = turnover(size, active, target, least, mix)
            gap = math.floor((target - (1 - active / size)) * size + 1e-9)
            assert by_gradient + at_random - pruned == -gap
            assert pruned == max(least, gap) and min(by_gradient, at_random) >= 0
            after = active - pruned + by_gradient + at_random
            assert after <= size and abs(size - after - target * size) < 1, "at most the floor away"


def test_a_target_below_zero_by_rounding_frees_no_weight_that_is_not_there():
    assert turnover(10**8, 10**8 - 3, -1e-16, 5, math.inf) == (5, 8, 0)
    assert turnover(10**8, 10**8 - 3, 0.0, 5, math.inf) == (5, 8, 0)


def test_growth_by_gradient_alone_has_a_number_that_json_holds():
    mix = Evolution(mix=math.inf).mix
    assert math.isfinite(mix) and Evolution(mix=mix).mix == mix and Evolution(mix=3).mix == 3
    for count in (1, 999, 10**9, 10**12 + 1):
        assert turnover(2 * count, count, 0.5, count, mix) == turnover(2 * count, count, 0.5, count, math.inf)


def test_a_share_of_a_round_number_is_not_a_weight_short():
    """0.29 of 100 is 28.999... in floating point; 57 % of 100 are 56.99..."""
    assert turnover(100, 100, 0.29, 0, 0) == (29, 0, 0)
    weights = {"w": torch.arange(1.0, 101).view(10, 10)}
    found = updated(weights, masks.everything(weights), weights, 0.0, drop=0.29)
    assert found.facts["pruned"] == 29


# --- which ---------------------------------------------------------------------------------------------------

SCORES = {
    "magnitude": lambda w, g: w,
    "mest": lambda w, g: w.abs() + 0.5 * g.abs(),
    "sensitivity": lambda w, g: w / (g + 1e-9),
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("target", [0.6, 0.8, 0.3, 0.0])
@pytest.mark.parametrize("mix", [0.0, 3.0, math.inf])
@pytest.mark.parametrize("score", SCORES)
def test_an_update_is_what_sorting_gives(score, mix, target, ties):
    weights, mask, gradients = made(0.6, ties=ties)
    options = {"mix": mix, "score": score, "gradient_weight": 0.5}
    found = updated(weights, mask, gradients, target, **options)
    settled = target == 0.6
    for name, kept in mask.items():
        goal = masks.sparsity({name: kept}) if settled else target
        stay, grown, at_random = reference(weights[name], kept, gradients[name], goal, 0.3, SCORES[score], mix)
        after = set(found.mask[name].flatten().nonzero()[:, 0].tolist())
        assert stay <= after and grown <= after, name
        assert len(after) == len(stay) + len(grown) + at_random, name
        origin = {key: set(own[name].flatten().nonzero()[:, 0].tolist()) for key, own in found.activated.items()}
        before = set(kept.flatten().nonzero()[:, 0].tolist())
        assert origin["gradient"] == grown - before, name
        assert origin["random"] == after - stay - grown - before, name


@pytest.mark.parametrize("target", [0.0, 0.2, 0.65, 0.9])
def test_every_layer_lands_on_its_target(target):
    weights, mask, gradients = made(0.6)
    goals = {"wide": target, "square": min(1.1 * target, 0.95), "tall": target / 2}
    found = updated(weights, mask, gradients, goals)
    for name, kept in found.mask.items():
        assert int((~kept).count_nonzero()) == math.floor(goals[name] * kept.numel() + 1e-9), name
    assert found.facts["active"] == sum(int(kept.count_nonzero()) for kept in found.mask.values())


def test_layers_keep_their_own_sparsity_where_the_whole_is_there():
    """Official code: |S* - S| < 1e-4 leaves targets alone, however unlike the layers'."""
    weights, mask, gradients = made(0.6)
    layers = masks.layer_sparsity(mask)
    whole = masks.sparsity(mask)
    near = updated(weights, mask, gradients, whole + 0.9e-4)
    assert masks.layer_sparsity(near.mask) == layers and near.facts["churn"] > 0
    far = updated(weights, mask, gradients, whole + 1.1e-4)
    assert len({round(share, 2) for share in masks.layer_sparsity(far.mask).values()}) == 1
    assert len({round(share, 2) for share in layers.values()}) > 1


def test_what_is_dropped_and_regrown_at_once_was_never_inactive():
    """At sparsity 0 all that is dropped comes back: the mask is whole, and nothing is new."""
    weights, mask, gradients = made(0)
    for mix in (0.0, 3.0, math.inf):
        found = updated(weights, mask, gradients, 0.0, mix=mix)
        assert all(kept.all() for kept in found.mask.values())
        assert found.facts["pruned"] == sum(int(0.3 * kept.numel()) for kept in mask.values())
        assert found.facts["churn"] == found.facts["activated/gradient"] == found.facts["activated/random"] == 0


def test_facts_are_counts_of_the_masks():
    weights, mask, gradients = made(0.6)
    mask_after, facts, activated = updated(weights, mask, gradients, 0.4)
    new = sum(int((mask_after[name] & ~kept).count_nonzero()) for name, kept in mask.items())
    active = sum(int(kept.count_nonzero()) for kept in mask_after.values())
    assert facts["activated/gradient"] + facts["activated/random"] == new
    assert facts["churn"] == new / active and facts["active"] == active
    assert sum(int(each.count_nonzero()) for each in activated["random"].values()) == facts["activated/random"] > 0
    before = sum(int(kept.count_nonzero()) for kept in mask.values())
    assert facts["gradient"] + facts["random"] - facts["pruned"] == active - before


def test_an_update_changes_neither_weights_nor_the_mask_before():
    weights, mask, gradients = made(0.6)
    copies = [{name: value.clone() for name, value in each.items()} for each in (weights, mask, gradients)]
    updated(weights, mask, gradients, 0.3)
    for before, after in zip(copies, (weights, mask, gradients), strict=True):
        assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_without_a_drop_a_layer_only_follows_its_target():
    """Gradual magnitude pruning: exactly the magnitude cut within what is active, and no growth."""
    weights, mask, _ = made(0.5)
    found = updated(weights, mask, None, 0.7, drop=0.0, mix=0.0)
    assert found.facts["gradient"] == found.facts["random"] == 0
    expected = masks.magnitude(weights, 0.7, scope="tensor", within=mask)
    assert all(torch.equal(kept, expected[name]) for name, kept in found.mask.items())
    still = updated(weights, mask, None, 0.5, drop=0.0, mix=0.0)
    assert all(torch.equal(kept, mask[name]) for name, kept in still.mask.items()) and still.facts["churn"] == 0


def test_ties_are_dropped_in_order_and_grown_from_the_end():
    """Newly grown weights are all 0, and so may gradients be."""
    weights = {"w": torch.tensor([[5.0, 0, 0, 0], [0, -0.0, 0, 7]])}
    mask = {"w": torch.tensor([[True, True, True, True], [False, True, False, True]])}
    found = updated(weights, mask, {"w": torch.ones(2, 4)}, 0.5, drop=0.0, mix=math.inf)
    assert found.mask["w"].int().tolist() == [[1, 0, 0, 1], [0, 1, 0, 1]], "two of four zeros, the first ones"
    found = updated(weights, mask, {"w": torch.ones(2, 4)}, 0.25, drop=0.5, mix=math.inf)
    # Three are dropped, places 1, 2 and 3, and of the five that are free three grown.
    assert found.mask["w"].int().tolist() == [[1, 0, 0, 1], [1, 1, 1, 1]]


def test_accumulated_magnitude_drops_a_share_of_the_sum():
    """1 + 2 + ... + 12 = 78: a third of it, 26, holds 1 to 6 (21), and not 7."""
    weights = {"w": torch.tensor([[12.0, -11, 10, -9], [8, -7, 6, -5], [4, -3, 2, -1]])}
    mask = {"w": torch.ones(3, 4, dtype=torch.bool)}
    options = {"score": "accumulated", "mix": 0.0, "drop": 1 / 3 + 1e-9}
    assert updated(weights, mask, None, 0.0, **options).facts["pruned"] == 6
    assert updated(weights, mask, None, 0.75, **options).facts == {
        "pruned": 9, "gradient": 0, "random": 0, "active": 3,
        "activated/gradient": 0, "activated/random": 0, "churn": 0.0,
    }  # fmt: skip
    grown_once = {"w": weights["w"] * (weights["w"] > 6)}
    still = updated(grown_once, mask, None, 0.0, **(options | {"drop": 0.0}))
    assert still.facts["pruned"] == 0, "zeros sum to nothing, and a share of nothing drops none"


def test_a_budget_counts_like_running_sums():
    draw = np.random.default_rng(1)
    for size in (0, 1, 2, 5, 100, 1000):
        values = np.abs(draw.standard_normal(size)).astype(np.float32).round(1)
        sums = np.cumsum(np.sort(values), dtype=np.float64)
        for share in (0, 0.01, 0.3, 0.99, 2):
            budget = share * float(values.sum(dtype=np.float64)) + 1e-6
            assert smallest_within(values.copy(), budget) == int((sums <= budget).sum())


# --- at random -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_set_of_free_places_is_as_likely(count):
    free = torch.tensor([[True, False, True, True], [False, True, True, False]])
    draw, seen, draws = stream(3), Counter(), 3000
    for _ in range(draws):
        found = drawn({"w": free}, {"w": count}, {"w": 5}, draw)["w"]
        assert int(found.count_nonzero()) == count and not (found & ~free).any()
        seen[tuple(found.flatten().tolist())] += 1
    sets = math.comb(5, count)
    expected = draws / sets
    assert len(seen) == sets
    chi_square = sum((times - expected) ** 2 / expected for times in seen.values())
    assert chi_square < 28, "99.9 % of 9 degrees of freedom, and more of 4"


@pytest.mark.parametrize("count", [0, 1, 4999, 5000, 5001, 9999, 10_000])
def test_the_count_is_exact(count):
    free = torch.rand(100, 200, generator=stream()) < 0.5
    free.view(-1)[:] = False
    free.view(-1)[torch.randperm(20_000, generator=stream(1))[:10_000]] = True
    found = drawn({"w": free}, {"w": count}, {"w": 10_000}, stream(2))["w"]
    assert int(found.count_nonzero()) == count and not (found & ~free).any()


def test_the_same_seed_makes_the_same_mask():
    weights, mask, gradients = made(0.6)
    one, two, other = (updated(weights, mask, gradients, 0.6, seed=seed).mask for seed in (4, 4, 5))
    assert masks.distance(one, two) == 0 < masks.distance(one, other)


def test_many_layers_wait_no_more_often_than_few(monkeypatch):
    """As a GPU computes: counts are read, two selections checked, and facts told, once for all layers."""
    monkeypatch.setattr(select, "_keep_on_cpu", by_torch)
    found = []
    for layers in (2, 12):
        draw = stream()
        weights = {str(layer): torch.randn(20, 15 + layer, generator=draw) for layer in range(layers)}
        mask = masks.random(weights, 0.6, generator=draw)
        with Waits() as waits:
            updated(weights, mask, weights, 0.5)
        found.append(waits.names)
    assert found == [["tolist"] * 4] * 2


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every=0 of an evolution: give 1 step"),
        ({"drop": 1.5}, "drop=1.5 of an evolution: give a share from 0 to 1"),
        ({"until": -0.1}, "until=-0.1 of an evolution"),
        ({"mix": -1.0}, "mix=-1 of an evolution: give 0 or more"),
        ({"mix": math.nan}, "mix=nan of an evolution"),
        ({"gradient_weight": -1.0}, "gradient_weight=-1 of"),
        ({"score": "size"}, "score 'size' of an evolution is unknown; use magnitude, mest"),
        ({"order": "before"}, "order 'before' of an evolution is unknown; use instead, after"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ParameterError, match=words):
        Evolution(**options)


def test_what_does_not_fit_is_refused():
    weights, mask, gradients = made(0.6)
    with pytest.raises(ParameterError, match='the mask has "wide" and the set of gradients has not'):
        updated(weights, mask, None, 0.6)
    del gradients["tall"]
    with pytest.raises(ParameterError, match='the mask has "tall" and the set of gradients has not'):
        updated(weights, mask, gradients, 0.6)
    with pytest.raises(ParameterError, match='the mask has "wide" and the set of weights has not'):
        updated({}, mask, gradients, 0.6)
    nan = {name: torch.full(shape, math.nan) for name, shape in SHAPES.items()}
    with pytest.raises(ParameterError, match='"wide" holds values that are not numbers'):
        updated(weights, mask, nan, 0.6)


def test_gradients_are_asked_for_where_they_are_used():
    assert Evolution().sees_gradients and Evolution(mix=0, score="mest").sees_gradients
    assert not Evolution(mix=0).sees_gradients and not Evolution(mix=0, score="accumulated").sees_gradients
    weights, mask, _ = made(0.6)
    assert updated(weights, mask, None, 0.5, mix=0.0).facts["activated/gradient"] == 0


# --- what Adam does to the newly grown -----------------------------------------------------------------------

COLD_START = {
    0.95: {1: 0.447, 2: 0.608, 4: 0.798, 8: 0.982, 16: 1.089, "peak": (20, 1.097)},
    0.99: {1: 1.000, 2: 1.347, 4: 1.732, 8: 2.049, 16: 2.114, "peak": (13, 2.131)},
    0.999: {1: 3.162, 2: 4.250, 4: 5.442, 8: 6.379, 16: 6.465, "peak": (12, 6.569)},
}


def held_adam(betas, kept):
    """A weight matrix (1, 2) under AdamW long after its start, held by a mask; moments of a constant gradient of 2."""
    model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=betas, eps=1e-15, weight_decay=0.0)
    model.weight.grad = torch.full_like(model.weight, 2.0)
    optimizer.step()
    state = optimizer.state[model.weight]
    state["step"].fill_(1e6)
    state["exp_avg"].fill_(2.0)
    state["exp_avg_sq"].fill_(4.0)
    masks.hold(model, optimizer, {"weight": torch.tensor([kept])})
    return model, optimizer, state


@pytest.mark.parametrize("beta2", COLD_START)
def test_a_grown_weight_makes_the_steps_of_a_cold_start(beta2):
    """lr (1 - b1^k) / sqrt(1 - b2^k) at step k after growth, which a weight that was always there makes as lr."""
    model, optimizer, state = held_adam((0.9, beta2), [True, False])
    assert state["exp_avg"].tolist() == [[2.0, 0.0]] and state["exp_avg_sq"].tolist() == [[4.0, 0.0]]
    masks.hold(model, optimizer, {"weight": torch.tensor([[True, True]])})
    assert model.weight[0, 1] == 0
    moved = {}
    for k in range(1, 41):
        before = model.weight.detach().clone()
        model.weight.grad = torch.full_like(model.weight, 2.0)
        optimizer.step()
        always, grown = ((before - model.weight.detach()) / 1e-3)[0].tolist()
        assert always == pytest.approx(1, abs=1e-9)
        assert grown == pytest.approx((1 - 0.9**k) / (1 - beta2**k) ** 0.5, rel=1e-9)
        moved[k] = grown
    known = dict(COLD_START[beta2])
    peak, height = known.pop("peak")
    assert max(moved, key=moved.__getitem__) == peak and moved[peak] == pytest.approx(height, abs=5e-4)
    assert {k: moved[k] for k in known} == pytest.approx(known, abs=5e-4)


@pytest.mark.parametrize(("beta2", "left"), [(0.95, 0.0769), (0.999, 0.951)])
def test_moments_that_nobody_clears_fade_in_100_steps(beta2, left):
    """Official code clears none under AdamW: what comes back within an interval finds old moments. `hold` clears."""
    model, optimizer, state = held_adam((0.9, beta2), [True, True])
    for _ in range(100):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
    assert (state["exp_avg"] / 2).flatten().tolist() == pytest.approx([2.66e-5] * 2, rel=2e-3)
    assert (state["exp_avg_sq"].sqrt() / 2).flatten().tolist() == pytest.approx([left] * 2, rel=1e-3)
    masks.hold(model, optimizer, {"weight": torch.tensor([[False, True]])})
    assert [state[name][0, 0].item() for name in ("exp_avg", "exp_avg_sq")] == [0, 0]


# --- a GPU ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device")
@pytest.mark.parametrize("target", [0.6, 0.8, 0.0])
@pytest.mark.parametrize("score", [*SCORES, "accumulated"])
def test_a_gpu_makes_the_same_masks(score, target):
    """Of the same weights and gradients, ties and the random share included."""
    here = made(0.6, ties=score == "magnitude")
    there = [{name: value.cuda() for name, value in each.items()} for each in here]
    one, two = (updated(*each, target, score=score) for each in (here, there))
    assert all(torch.equal(kept, two.mask[name].cpu()) for name, kept in one.mask.items())
    assert one.facts == two.facts
