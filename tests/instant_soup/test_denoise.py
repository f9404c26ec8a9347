"""One denoised prune: what weak nets decide, what they cannot, and to the weight how much is pruned."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from effi import masks
from effi.errors import ParameterError
from effi.instant_soup import Denoiser, Rounds, by_level, denoised_prune, pair_overlap, perturbed
from tests.instant_soup.tiny import pruned, same_mask, within

MERGES = ["union", "intersection", "vote", "mean_magnitude", "mean_weight", "votes"]
PAIRS = [(merge, adjust) for merge in MERGES for adjust in ("none", "literal")] + [("union", "votes")]
N = 3000


@pytest.fixture
def weights():
    draw = torch.Generator().manual_seed(1)
    return {"a": torch.randn(40, 50, generator=draw), "b": 2 * torch.randn(50, 20, generator=draw)}


def weak(weights, mask, size, nets=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [perturbed(weights, mask, size, draw) for _ in range(nets)]


def alive(weights, sparsity):
    """Masked weights and their mask."""
    mask = masks.magnitude(weights, sparsity)
    return {name: weight * mask[name] for name, weight in weights.items()}, mask


# --- what the sheet derives ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "share", "expected"),
    [
        (0.001, 0.0, {"union": 0.149, "intersection": 0.151, "vote": 0.150}),
        (0.01, 0.0, {"union": 0.141, "intersection": 0.159, "vote": 0.150}),
        (0.3, 0.0, {"union": 0.004, "intersection": 0.390, "vote": 0.102}),
        (0.001, 0.8, {"union": 0.148}),
        (0.01, 0.8, {"union": 0.132}),
        (0.3, 0.8, {"union": 0.002}),
    ],
)
def test_a_union_of_noisy_masks_prunes_slowly(size, share, expected):
    """Five nets moved by normal noise, 15 % asked for: the share of the weights alive that is pruned."""
    draw = torch.Generator().manual_seed(11)
    weights = {"w": torch.randn(2_000_000, generator=draw)}
    weights, mask = alive(weights, share) if share else (weights, masks.everything(weights))
    nets = weak(weights, mask, size, nets=5)
    for merge, wanted in expected.items():
        how = Denoiser(nets=5, merge=merge, include_main=False)
        found, _ = denoised_prune(weights, nets, mask, Rounds(0.99), how)
        assert (pruned(found) - pruned(mask)) / (2_000_000 - pruned(mask)) == pytest.approx(wanted, abs=0.002)


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_literal_algorithm_2_is_plain_magnitude_pruning(weights, size, share, scope):
    """Whatever the weak nets say, cutting their union with the main mask back gives the main mask, bit for bit."""
    weights, mask = alive(weights, share) if share else (weights, masks.everything(weights))
    rounds, how = Rounds(0.9), Denoiser(nets=4, adjust="literal", scope=scope)
    found, facts = denoised_prune(weights, weak(weights, mask, size), mask, rounds, how)
    before = {name: masks.sparsity({name: kept}) for name, kept in mask.items()}
    plain = masks.magnitude(weights, rounds.after(share), within=mask)
    if scope == "tensor":
        plain = {}
        for name, kept in mask.items():
            plain |= masks.magnitude({name: weights[name]}, rounds.after(before[name]), within={name: kept})
    assert same_mask(found, plain) and facts["decided"] == 0
    merged, _ = denoised_prune(weights, weak(weights, mask, size), mask, rounds, replace(how, adjust="none"))
    assert masks.sparsity(merged) < masks.sparsity(plain), "before the adjustment the union keeps more"


def test_without_the_main_mask_the_literal_adjustment_is_not_magnitude_pruning(weights):
    mask = masks.everything(weights)
    how = Denoiser(nets=4, adjust="literal", include_main=False)
    found, facts = denoised_prune(weights, weak(weights, mask, 5.0), mask, Rounds(0.9, 0.3), how)
    assert not same_mask(found, masks.magnitude(weights, 0.3)) and facts["decided"] > 0
    assert pruned(found) == 900


@pytest.mark.parametrize(("merge", "adjust"), PAIRS)
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_without_weak_nets_every_mode_is_plain_magnitude(weights, merge, adjust, scope):
    weights, mask = alive(weights, 0.2)
    mask = masks.magnitude(weights, 0.2, scope=scope)
    found, facts = denoised_prune(weights, [], mask, Rounds(0.9), Denoiser(0, 0, merge, adjust, scope=scope))
    assert same_mask(found, masks.magnitude(weights, Rounds(0.9).after(0.2), scope=scope, within=mask))
    assert (facts["decided"], facts["moved"]) == (0, 0)


# --- merges --------------------------------------------------------------------------------------------------


def by_hand(weights, nets, mask, goal, rule):
    kept = [masks.magnitude(net, goal, within=mask) for net in nets]
    return {name: rule(torch.stack([each[name] for each in kept]).sum(0)) for name in weights}


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"merge": "union"}, lambda votes: votes >= 1),
        ({"merge": "intersection"}, lambda votes: votes == 5),
        ({"merge": "vote"}, lambda votes: votes >= 3),
        ({"merge": "vote", "at_least": 2}, lambda votes: votes >= 2),
    ],
)
def test_masks_merge_by_votes(weights, options, rule):
    weights, mask = alive(weights, 0.3)
    nets = weak(weights, mask, 0.4)
    found, _ = denoised_prune(weights, nets, mask, Rounds(0.9), Denoiser(nets=4, **options))
    expected = by_hand(weights, [weights, *nets], mask, Rounds(0.9).after(0.3), rule)
    assert same_mask(found, expected)


def test_means_rank_by_weak_nets_alone(weights):
    mask = masks.everything(weights)
    nets = weak(weights, mask, 0.8)
    means = {
        "mean_magnitude": {name: torch.stack([net[name].abs() for net in nets]).mean(0) for name in weights},
        "mean_weight": {name: torch.stack([net[name] for net in nets]).mean(0) for name in weights},
    }
    found = {merge: denoised_prune(weights, nets, mask, Rounds(0.9), Denoiser(4, merge=merge))[0] for merge in means}
    for merge, mean in means.items():
        assert masks.distance(found[merge], masks.magnitude(mean, 0.15)) <= 2 / N, "but for ties in rounding"
    assert masks.distance(*found.values()) > 0.005


@pytest.mark.parametrize("how", [{"adjust": "votes"}, {"merge": "votes"}])
def test_votes_rank_first_and_magnitude_among_equals(weights, how):
    """Every weight pruned has no more votes than any kept; with the same, no larger magnitude."""
    weights, mask = alive(weights, 0.3)
    nets = weak(weights, mask, 0.3)
    found, _ = denoised_prune(weights, nets, mask, Rounds(0.9), Denoiser(4, **how))
    votes = by_hand(weights, [weights, *nets], mask, Rounds(0.9).after(0.3), lambda count: count)
    weak_mean = {name: torch.stack([net[name].abs() for net in nets]).mean(0) for name in weights}
    scores = weak_mean if how.get("adjust") else {name: weight.abs() for name, weight in weights.items()}
    parts = {"kept": found, "votes": votes, "score": scores, "mask": mask}
    flat = {key: torch.cat([part[name].flatten() for name in weights]) for key, part in parts.items()}
    gone, kept = flat["mask"] & ~flat["kept"], flat["kept"]
    edge = int(flat["votes"][gone].max())
    assert edge <= int(flat["votes"][kept].min())
    tied = flat["votes"] == edge
    assert flat["score"][tied & gone].max() <= flat["score"][tied & kept].min() + 1e-6
    assert pruned(found) == int(Rounds(0.9).after(0.3) * N)


def test_density_cuts_the_union_to_a_target_of_its_own(weights):
    mask = masks.everything(weights)
    nets = weak(weights, mask, 2.0)
    union, _ = denoised_prune(weights, nets, mask, Rounds(0.9, 0.3), Denoiser(4))
    found, facts = denoised_prune(weights, nets, mask, Rounds(0.9, 0.3), Denoiser(4, adjust="density", cut=0.2))
    assert masks.sparsity(union) < 0.2 == masks.sparsity(found)
    assert within(found, union) and same_mask(found, masks.magnitude(weights, 0.2, within=union))
    assert facts["decided"] > 0, "unlike the literal adjustment it is no magnitude pruning"


# --- counts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("merge", "adjust"), PAIRS)
@pytest.mark.parametrize(("scope", "relative"), [("global", True), ("global", False), ("tensor", True)])
def test_rounds_nest_and_end_exactly_at_the_target(weights, merge, adjust, scope, relative):
    how = Denoiser(3, merge=merge, adjust=adjust, scope=scope)
    rounds, mask, sparsities = Rounds(0.437, 0.2, relative), masks.everything(weights), [0.0]
    for index in range(3):
        now = {name: weight * mask[name] for name, weight in weights.items()}
        found, facts = denoised_prune(now, weak(now, mask, 0.02, 3, index), mask, rounds, how)
        assert within(found, mask) and facts["before"] == masks.sparsity(mask)
        if how.exact and scope == "global":
            assert pruned(found) == int(rounds.after(masks.sparsity(mask)) * N + 1e-9)
        mask = found
        sparsities.append(facts["after"])
        assert masks.sparsity(mask) <= 0.437
    assert sparsities == sorted(sparsities)
    if how.exact:
        counts = [2000, 1000] if scope == "tensor" else [N]
        assert pruned(mask) == sum(int(0.437 * count + 1e-9) for count in counts)


def test_an_intersection_never_prunes_more_than_the_target(weights):
    mask = masks.everything(weights)
    nets = weak(weights, mask, 3.0)
    free, _ = denoised_prune(weights, nets, mask, Rounds(0.99, 0.3), Denoiser(4, merge="intersection"))
    held, _ = denoised_prune(weights, nets, mask, Rounds(0.4, 0.3), Denoiser(4, merge="intersection"))
    assert masks.sparsity(free) > 0.4 and pruned(held) == 1200
    assert within(free, held), "what all nets keep is kept"


def test_levels_come_before_scores():
    """All subsets of a case by hand: levels 0 0 1 1 2, scores 5 1 4 2 0, one weight pruned before."""
    levels = {"w": torch.tensor([0, 0, 1, 1, 2, 2], dtype=torch.uint8)}
    scores = {"w": torch.tensor([5.0, 1.0, -4.0, 2.0, 0.0, 9.0])}
    before = {"w": torch.tensor([True, True, True, True, True, False])}
    gone = [5, 1, 0, 3, 2, 4]
    for count in range(1, 6):
        kept = by_level(levels, scores, count / 6, within=before)["w"]
        assert sorted(gone[:count]) == (~kept).nonzero().flatten().tolist()


def test_the_mask_of_large_tensors_keeps_its_count():
    """A share of 20 million weights is no binary fraction: rounding must not lose one."""
    count = 20_000_003
    weights = {"w": torch.arange(count, dtype=torch.float32)}
    before = masks.magnitude(weights, 7_000_001 / count + 1e-8)
    levels = {"w": torch.ones(count, dtype=torch.uint8)}
    found = by_level(levels, weights, 12_345_678.5 / count, within=before)
    assert pruned(found) == 12_345_678


# --- facts ---------------------------------------------------------------------------------------------------


def test_facts_are_those_of_the_masks(weights):
    weights, mask = alive(weights, 0.3)
    nets = weak(weights, mask, 0.3)
    found, facts = denoised_prune(weights, nets, mask, Rounds(0.9), Denoiser(4, adjust="votes", include_main=False))
    votes = by_hand(weights, nets, mask, Rounds(0.9).after(0.3), lambda count: count)
    flat, kept = (torch.cat([each[name].flatten() for name in weights]) for each in (votes, mask))
    for count in range(5):
        assert facts[f"votes/{count}"] == pytest.approx(float((flat[kept] == count).float().mean()))
    plain = masks.magnitude(weights, masks.sparsity(found) + 0.1 / N, within=mask)
    only = sum(int((plain[name] & ~found[name]).count_nonzero()) for name in mask)
    assert facts["decided"] == pytest.approx(only / (pruned(found) - pruned(mask)))
    size = torch.cat([weights[name][mask[name]] for name in weights]).square().mean().sqrt()
    moves = torch.cat([(net[name] - weights[name])[mask[name]] for net in nets for name in weights])
    assert facts["moved"] == pytest.approx(float(moves.square().mean().sqrt() / size), rel=1e-5)


def test_votes_tell_how_much_pairs_of_masks_agree(weights):
    mask = masks.everything(weights)
    nets = weak(weights, mask, 0.5)
    kept = [masks.magnitude(net, 0.15) for net in nets]
    _, facts = denoised_prune(weights, nets, mask, Rounds(0.9), Denoiser(4, include_main=False))
    pairs = list(itertools.combinations(kept, 2))
    shared = sum(pruned(masks.union([a, b])) for a, b in pairs)
    either = sum(pruned(masks.intersection([a, b])) for a, b in pairs)
    assert pair_overlap([facts[f"votes/{k}"] for k in range(5)]) == pytest.approx(shared / either)
    assert pair_overlap([0.0, 0.0, 1.0]) == 1.0 and pair_overlap([0.0, 0.3, 0.7]) == 0.0


def test_noise_leaves_pruned_weights_at_zero(weights):
    weights, mask = alive(weights, 0.3)
    (net,) = weak(weights, mask, 0.1, nets=1)
    for name, kept in mask.items():
        assert not net[name][~kept].any()
        assert float((net[name] - weights[name])[kept].std()) == pytest.approx(0.1, rel=0.1)


# --- what is refused -----------------------------------------------------------------------------------------


def test_a_target_below_the_mask_is_refused(weights):
    weights, mask = alive(weights, 0.5)
    with pytest.raises(ParameterError, match=r"sparsity 0\.5000 cannot be pruned to 0\.4; give a target above"):
        denoised_prune(weights, [], mask, Rounds(0.4), Denoiser(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nets": 3, "steps": 0}, "3 weak nets that train for 0 steps are the main model"),
        ({"nets": 0, "include_main": False}, "leave include_main at True"),
        ({"merge": "xor"}, "merge 'xor' of a denoiser is unknown"),
        ({"adjust": "some"}, "adjust 'some'"),
        ({"merge": "vote", "at_least": 9}, "at_least=9 of 6 masks"),
        ({"at_least": 2}, "at_least=2 votes are asked for by merge=\"vote\", not by 'union'"),
        ({"closing": 5}, "closing=5 of a denoiser: give a share"),
        ({"gaussian": 0.0}, "gaussian=0 of a denoiser moves no net"),
        ({"adjust": "density"}, "cut=None"),
        ({"cut": 0.2}, "cut=0.2"),
        ({"nets": 300}, "nets=300"),
        ({"adjust": "votes", "merge": "vote"}, "ranks instead of merging: leave merge='vote' out"),
        ({"noise": {"rates": (0.5, 2.0)}}, "unknown option 'rates' of the noise of weak nets; did you mean 'rate'"),
        ({"noise": {"rate": 2.0}}, r"rate=2.0 of weak nets: give a range \[low, high\] of factors above 0"),
        ({"noise": {"rate": (0, 0)}}, r"rate=\(0, 0\) of weak nets"),
        ({"noise": {"decay": (0.2, 0.1)}}, "decay=.* of weight decays from 0 on"),
        ({"noise": {"dropout": (0.1, 1.5)}}, "dropout=.* of probabilities from 0 to 1"),
        ({"noise": {"warmup": -1}}, "warmup=-1 of weak nets"),
    ],
)
def test_bad_denoisers_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        Denoiser(**options)
    assert Denoiser(nets=3, steps=0, gaussian=0.1).voters == 4, "noise needs no steps"
