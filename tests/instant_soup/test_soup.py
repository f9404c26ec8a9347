"""Instant Soup Pruning as one training: exact targets, masks that nest, and every step in one ledger."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup import (
    Denoiser,
    InstantSoup,
    Look,
    Pruned,
    Rounds,
    SparseFlops,
    denoised_prune,
    draw,
    look_ahead,
    prune_gradually,
)
from effi.instant_soup.pruned import warn_of_emptied
from effi.seeds import derive
from effi.training import checkpoint, fit
from tests.instant_soup.tiny import (
    BATCH,
    EXAMPLES,
    PER_EPOCH,
    ROUNDS,
    SHORT,
    TOTAL,
    TRAINING,
    WEIGHTS,
    obeys,
    pruned,
    same_mask,
    same_weights,
    souped,
    vit,
    weights_of,
    within,
)
from tests.training.curves import learnt
from tests.training.test_checkpoints import Cut, cut_at

EXACT = replace(SHORT, adjust="votes")


def seen_masks(data, denoiser=SHORT, rounds=ROUNDS, training=TRAINING, **options):
    """Masks after every step, the model, what was made, and the ledger."""
    model, ledger, seen = vit(), Ledger(), []
    soup = InstantSoup(model, data, training, rounds, denoiser, seed=0, **options)

    def look(step) -> None:
        seen.append((soup.mask, weights_of(model)))

    (history,) = fit(model, data, training, seeds=[0], ledger=ledger, after_step=[soup, look])
    return seen, model, Pruned(history, soup.mask, soup.told), ledger


@pytest.fixture(scope="module")
def watched(data):
    """What `seen_masks` sees of the usual soup."""
    return seen_masks(data)


@pytest.fixture(scope="module")
def usual(data):
    """Model, what was made, and the ledger of the usual soup."""
    return souped(data)


@pytest.fixture(scope="module")
def exact(data):
    """As `usual`, of rounds that land on their own sparsities."""
    return souped(data, EXACT)


# --- the loop of Algorithm 1 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("denoiser", [SHORT, EXACT, replace(SHORT, merge="vote"), replace(SHORT, merge="mean_weight")])
def test_masks_nest_and_end_exactly_at_the_target(data, denoiser):
    seen, model, made, _ = seen_masks(data, denoiser)
    assert pruned(made.mask) == int(0.45 * WEIGHTS)
    for (before, _), (after, _) in pairwise(seen):
        assert within(after, before)
    assert all(obeys(weights, mask) for mask, weights in seen)
    assert obeys(weights_of(model), made.mask) and obeys(made.history.best_state, made.mask)
    assert made.told["after"][-1] == masks.sparsity(made.mask)
    assert made.told["before"][1:] == made.told["after"][:-1] and made.told["before"][0] == 0


def test_rounds_are_where_segments_end(data):
    seen, _, made, _ = seen_masks(data, EXACT)
    assert made.told["step"] == [2, 6, 12, 20]  # 2, 4, 6, 8 steps: t = 10 % of the data
    changes = [index + 2 for index, ((a, _), (b, _)) in enumerate(pairwise(seen)) if not same_mask(a, b)]
    assert changes == [2, 6, 12, 20]
    assert made.told["after"] == pytest.approx([0.15, 0.2775, 0.385875, 0.45], abs=1 / WEIGHTS)
    assert made.told["nominal"][:3] == pytest.approx(made.told["after"][:3], abs=1 / WEIGHTS)


def test_every_prunable_weight_alive_is_trained(watched):
    """Between the last prune and the end each weight alive moves, output projections included."""
    seen, model, made, _ = watched
    last = int(made.told["step"][-1])
    for name, before in seen[last][1].items():
        after, kept = weights_of(model)[name], made.mask[name]
        assert float((after != before)[kept].float().mean()) > 0.99, name


def test_no_rewind_and_one_optimiser_all_along(data, watched):
    """Up to the first prune the training is the dense one; look-ahead leaves no trace in it but the mask."""
    dense, model = [], vit()
    fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=[lambda step: dense.append(weights_of(model))])
    seen, *_ = watched
    first, (mask, pruned_weights) = 2, seen[1]
    for name, weight in dense[first - 1].items():
        assert torch.equal(pruned_weights[name], weight * mask[name])
    assert torch.equal(seen[0][1]["blocks.0.mlp.0.weight"], dense[0]["blocks.0.mlp.0.weight"])


def test_weak_nets_say_what_is_pruned(data, watched):
    """The mask of the first round, by hand: two copies trained on, and the union of what the three would keep."""
    seen, _, made, _ = watched
    model, steps = vit(), []
    rates = []

    def stop(step) -> None:
        steps.append(weights_of(model))
        rates.append(step.rate)
        if step.index == 2:
            raise Cut

    with pytest.raises(Cut):
        fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=[stop])
    drawn = draw(SHORT.noise, TRAINING, rate=rates[-1], steps=3, examples=EXAMPLES, nets=2, seed=derive(0, "round 0"))
    mask = masks.everything(masks.prunable(model))
    nets = look_ahead(Look(model, data), drawn, [mask] * 2, ledger=Ledger())
    found, facts = denoised_prune(steps[-1], (masks.prunable(net) for net in nets), mask, ROUNDS, SHORT)
    assert same_mask(found, seen[1][0]) and not same_mask(found, masks.magnitude(steps[-1], 0.15))
    assert made.told["moved"][0] == pytest.approx(facts["moved"]) and facts["moved"] > 0


@pytest.mark.parametrize("adjust", ["none", "literal", "votes"])
def test_without_weak_nets_it_is_plain_magnitude_pruning(data, adjust):
    """N = 0 is magnitude pruning by the same plan, weight for weight."""
    how = Denoiser(nets=0, adjust=adjust)
    model, made, ledger = souped(data, how)
    plan = {2: 0.15, 6: 0.2775, 12: 0.385875, 20: 0.45}
    plain, other = vit(), Ledger()
    expected = prune_gradually(plain, data, TRAINING, plan, seed=0, ledger=other)
    assert same_weights(model, plain) and same_mask(made.mask, expected.mask)
    assert learnt(made.history) == learnt(expected.history)
    assert ledger.total()["flops"] == other.total()["flops"] and "look-ahead" not in ledger.phases


def test_literal_algorithm_2_trains_the_same_model_as_no_weak_nets(data):
    """All its look-ahead decides nothing: the same weights, at a higher price."""
    model, made, ledger = souped(data, replace(SHORT, adjust="literal"))
    plain, expected, other = souped(data, Denoiser(nets=0, adjust="literal"))
    assert same_weights(model, plain) and same_mask(made.mask, expected.mask)
    assert made.told["decided"] == [0.0] * 4
    assert ledger.total()["flops"] > other.total()["flops"]


def test_the_same_seed_makes_the_same_masks(data, usual):
    one, made, _ = usual
    two, again, _ = souped(data)
    _, third, _ = souped(data, seed=1)
    assert same_weights(one, two) and same_mask(made.mask, again.mask) and made.told == again.told
    assert not same_mask(made.mask, third.mask)


def test_stacked_nets_make_the_same_soup(data, usual):
    _, made, _ = usual
    _, again, _ = souped(data, replace(SHORT, way="stacked"))
    assert masks.distance(made.mask, again.mask) < 0.01
    assert again.told["step"] == made.told["step"]


# --- the last cut --------------------------------------------------------------------------------------------


def test_the_rest_is_one_cut_and_its_share_is_told(data, exact):
    """At 38.6 % less than 10 points are missing to 45: the fourth prune asks no weak nets."""
    _, made, _ = souped(data, replace(SHORT, adjust="none", nets=0, closing=0.1))
    assert made.told["final"] == [0, 0, 0, pytest.approx(1 - made.told["before"][-1] / made.told["after"][-1])]
    assert 0.1 < made.told["final"][-1] < 0.2
    _, without, _ = exact
    assert without.told["final"] == [0.0] * 4


NOISY = Denoiser(nets=5, gaussian=0.3, include_main=False)


def test_a_union_that_stalls_is_warned_of_with_its_rate(data):
    with pytest.warns(UserWarning, match=r"round 1 pruned 0\.\d+% .* less than a tenth of the 15\.0%") as warned:
        _, made, _ = souped(data, NOISY)
    assert len(warned) == 1, "once a training"
    rounds = len(made.told["step"])
    assert rounds == len(Rounds(0.45).ends(PER_EPOCH, TOTAL)), "all of the stage is used"
    assert pruned(made.mask) == int(0.45 * WEIGHTS)
    assert made.told["final"][-1] > 0.8, "nearly all of the target is one cut"
    assert max(pace(made)[:-1]) < 0.015


def pace(made: Pruned) -> list[float]:
    """Shares of the weights alive that the rounds pruned."""
    places = zip(made.told["before"], made.told["after"], strict=True)
    return [(after - before) / (1 - before) for before, after in places]


def test_a_matrix_that_is_cut_away_whole_is_warned_of():
    kept, gone = torch.tensor([True, False]), torch.zeros(2, dtype=torch.bool)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warn_of_emptied({"body": kept})
    assert heard == []
    with pytest.warns(UserWarning, match=r"nothing is left of pooler: leave .* out of `names`, or .*scope=\"tensor\""):
        warn_of_emptied({"body": kept, "pooler": gone})
    with pytest.warns(UserWarning, match=r"nothing is left of a and of 1 more: "):
        Pruned(None, {"a": gone, "b": gone})


def test_a_vote_does_not_stall(data):
    """The same noise: most masks agree on about a tenth at first, so that little is left to the last cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, made, _ = souped(data, replace(NOISY, merge="vote"))
    assert min(pace(made)[:4]) > 0.08 and made.told["final"][-1] < 0.2
    assert pruned(made.mask) == int(0.45 * WEIGHTS)


# --- options -------------------------------------------------------------------------------------------------


def test_gaussian_noise_takes_no_steps(data):
    _, made, ledger = souped(data, Denoiser(nets=2, gaussian=0.05, steps=0, adjust="votes"))
    assert set(ledger.phases) == {"train", "evaluate", "prune"}
    assert made.told["moved"] == pytest.approx([0.05] * 4, rel=0.1)


def test_moments_can_begin_anew_at_every_prune(data):
    counts = {}
    for fresh in (False, True):
        model, counted = vit(), []
        soup = InstantSoup(model, data, TRAINING, ROUNDS, EXACT, seed=0, fresh=fresh)

        def look(step, model=model, counted=counted) -> None:
            counted.append(float(step.optimizer.state[model.head.weight].get("step", 0.0)))

        fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=[soup, look])
        counts[fresh] = counted
    assert counts[False] == list(range(1, TOTAL + 1))
    assert [counts[True][step - 1] for step in (1, 2, 3, 6, 7, TOTAL)] == [1, 0, 1, 0, 1, TOTAL - 20]


def test_layers_can_be_ranked_apart(data, exact):
    _, made, _ = souped(data, replace(EXACT, scope="tensor"))
    for name, share in masks.layer_sparsity(made.mask).items():
        count = made.mask[name].numel()
        assert share == int(0.45 * count) / count, name
    _, whole, _ = exact
    assert len(set(masks.layer_sparsity(whole.mask).values())) > 4


def test_absolute_points_are_counted_of_all_weights(data):
    _, made, _ = souped(data, EXACT, Rounds(0.45, 0.15, relative=False))
    assert made.told["after"] == pytest.approx([0.15, 0.3, 0.45], abs=1 / WEIGHTS)


def test_other_weights_can_be_named(data):
    names = ["blocks.0.mlp.0.weight", "head.weight"]
    model, made, _ = souped(data, EXACT, names=names)
    assert list(made.mask) == names and pruned(made.mask) == int(0.45 * (32 * 16 + 160))
    assert not model.get_parameter("head.weight")[~made.mask["head.weight"]].any()
    with pytest.raises(ParameterError, match="ViT has no parameter 'pooler' to prune"):
        souped(data, EXACT, names=["pooler"])


# --- costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["in_turn", "stacked"])
def test_the_ledger_is_the_training_and_the_look_ahead(data, way):
    """T steps, and N C steps a round: 64 examples are four batches of 16."""
    _, made, ledger = souped(data, replace(EXACT, way=way))
    total, dense = ledger.total(), Ledger()
    fit(vit(), data, TRAINING, seeds=[0], ledger=dense)
    rounds, one = len(made.told["step"]), vit()
    looked_at = sum(one.forward_flops(1).values())  # the single validation example of every net
    steps = rounds * 2 * 3
    assert total["phases"]["look-ahead"]["flops"] == steps * one.train_flops(BATCH) + rounds * 2 * looked_at
    train = total["phases"]["train"]["flops"]
    assert train == dense.total()["phases"]["train"]["flops"] == TOTAL * one.train_flops(BATCH)
    assert total["flops"] == dense.total()["flops"] + total["phases"]["look-ahead"]["flops"]
    assert total["phases"]["prune"]["flops"] == 0 < total["phases"]["prune"]["seconds"]
    assert total["seconds"] == pytest.approx(sum(phase["seconds"] for phase in total["phases"].values()))
    assert total["phases"]["look-ahead"]["peak_bytes"] > 0


def test_a_dry_run_forecasts_the_look_ahead(data):
    ledger = Ledger(dry_run=True)
    _, made, _ = souped(data, replace(SHORT, steps=50, nets=5), Rounds(0.45), ledger=ledger)
    assert ledger.planned_steps == TOTAL + 4 * 5 * 50 and ledger.steps == TOTAL
    assert ledger.forecast()["flops"] == (TOTAL + 1000) * vit().train_flops(BATCH)
    assert made.history.curves == {} and pruned(made.mask) == 0
    closing = Ledger(dry_run=True)
    souped(data, replace(SHORT, closing=0.1), ledger=closing)
    assert closing.planned_steps == TOTAL + 3 * 2 * 3, "the last cut asks no weak nets"


def test_sparse_flops_follow_the_mask(data):
    model, ledger = vit(), Ledger()
    names = list(masks.prunable(model))
    counted = SparseFlops(model, data.prepare(data.train.inputs[:BATCH]), names)
    _, made, _ = souped(data, EXACT, model=model, ledger=ledger, paper_flops=counted)
    forward = vit().forward_flops(BATCH)
    part = sum(value for name, value in forward.items() if name.endswith(("qkv", "out", "mlp"))) / sum(forward.values())
    step, last = vit().train_flops(BATCH), int(made.told["step"][-1])
    train = ledger.total()["phases"]["train"]
    assert counted.share({}) == 1
    by_layer = masks.layer_sparsity(made.mask)
    assert counted.share(made.mask) == pytest.approx(1 - part * _weighted(by_layer, forward), abs=1e-6)
    assert train["flops"] == TOTAL * step > train["paper_flops"] > last * step * (1 - part)
    assert train["paper_flops"] >= (TOTAL - last) * round(step * counted.share(made.mask))


def test_weak_nets_are_counted_under_the_mask_of_their_round(data):
    model, ledger, asked = vit(), Ledger(), []
    counted = SparseFlops(model, data.prepare(data.train.inputs[:BATCH]), list(masks.prunable(model)))

    def count(step, executed: int) -> int:
        asked.append((executed, masks.sparsity(step.mask) if step.mask else 0.0, counted(step, executed)))
        return asked[-1][-1]

    _, made, _ = souped(data, EXACT, model=model, ledger=ledger, paper_flops=count)
    rounds = [(share, flops) for executed, share, flops in asked if executed > vit().train_flops(BATCH)]
    looked = ledger.total()["phases"]["look-ahead"]
    assert [share for share, _ in rounds] == pytest.approx(made.told["before"])
    assert looked["paper_flops"] == sum(flops for _, flops in rounds)
    whole = looked["flops"] / len(rounds)
    assert rounds[0][1] == whole >= EXACT.nets * EXACT.steps * vit().train_flops(BATCH)
    assert rounds[-1][1] < (1 - 0.5 * rounds[-1][0]) * whole


def _weighted(sparsities, forward) -> float:
    """Mean sparsity of matrices, weighted by their FLOPs."""
    flops = {}
    for name in sparsities:
        path = name.removesuffix(".weight")
        flops[name] = forward.get(path) or forward[path.rpartition(".")[0]] / 2
    return sum(sparsities[name] * value for name, value in flops.items()) / sum(flops.values())


# --- refused, and cut off ------------------------------------------------------------------------------------


def test_a_budget_that_is_too_small_is_refused_before_training(data):
    ledger, short = Ledger(), replace(TRAINING, epochs=None, steps=26)
    with pytest.raises(ParameterError, match=r"4 rounds to a sparsity of 0.45 take 20 steps, .* train for 27 steps"):
        souped(data, EXACT, training=short, ledger=ledger)
    assert ledger.phases == {}
    souped(data, EXACT, training=replace(short, steps=27))


def test_a_training_cut_off_goes_on_to_the_same_bits(data, usual, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    whole, made, ledger = usual
    for place in (2, 7):
        model, file = vit(), tmp_path / str(place)
        soup = InstantSoup(model, data, TRAINING, ROUNDS, SHORT, seed=0)
        with pytest.raises(Cut):
            listeners = [soup, cut_at(place + 1)]
            fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=listeners, checkpoint=file)
        again, other, resumed = souped(data, model=vit(seed=9), checkpoint=file)
        assert same_weights(again, whole) and same_mask(other.mask, made.mask) and other.told == made.told
        assert learnt(other.history) == learnt(made.history)
        assert resumed.total()["flops"] == ledger.total()["flops"]
        once_more, last, _ = souped(data, model=vit(seed=9), checkpoint=file)
        assert same_weights(once_more, whole) and same_mask(last.mask, made.mask)


def test_best_weights_are_none_from_before_the_mask_was_final(data):
    """A training that only gets worse: the dense weights were best, and are no candidates."""
    model = vit()
    fit(model, data, TRAINING, seeds=[0], ledger=Ledger())
    late, still = Rounds(0.9, rate=0.5, first=0.4, growth="constant"), replace(TRAINING, lr=1e-9, epochs=4)
    model, made, _ = souped(data, Denoiser(nets=0, adjust="votes"), late, still, model=model)
    assert made.told["step"] == [8, 16, 24, 32]
    assert made.history.curves["validation_loss"][0] == min(made.history.curves["validation_loss"])
    assert obeys(made.history.best_state, made.mask) and made.history.best_epoch == 4
    assert all(torch.equal(value, made.history.best_state[name]) for name, value in model.state_dict().items())


def test_a_training_cut_off_keeps_the_way_that_was_measured(data):
    soup = InstantSoup(vit(), data, TRAINING, ROUNDS, replace(SHORT, way="fastest"), seed=0)
    soup.way, soup.warned = "stacked", True
    again = InstantSoup(vit(), data, TRAINING, ROUNDS, replace(SHORT, way="fastest"), seed=0)
    again.load_state_dict(soup.state_dict())
    assert again.way == "stacked" and again.warned


def test_the_fastest_way_is_measured_once_and_set_aside(data, monkeypatch):
    measured = []

    def seconds(look, protocols, held, *, memory):
        measured.append(len(protocols))
        return {"in_turn": [1.0], "stacked": [0.5]}

    monkeypatch.setattr("effi.instant_soup.soup.seconds_of_ways", seconds)
    model, found, ledger = souped(data, replace(SHORT, way="fastest"))
    stacked, other, _ = souped(data, replace(SHORT, way="stacked"))
    assert measured == [SHORT.nets] and "measure" in ledger.total()["aside"]
    assert same_weights(model, stacked) and same_mask(found.mask, other.mask)
