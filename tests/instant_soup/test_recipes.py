"""Recipes do what the methods do, and what is longer is longer by the look-ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi import masks
from effi.cost import Ledger
from effi.instant_soup import Climb, Denoiser, Ingredients, Noise, Rounds, fine_tunes
from effi.instant_soup.early_bird import Watch
from effi.instant_soup.recipes import (
    Averaged,
    Cut,
    Dense,
    EarlyBird,
    Gradual,
    Longer,
    Lottery,
    Mixed,
    Noisy,
    Paced,
    Pool,
    Rung,
    Soup,
    Task,
)
from effi.training import average
from tests.instant_soup.tiny import (
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
)

SPARSITY = 0.45
SOUP = Soup(ROUNDS, SHORT)
BRIEF = replace(TRAINING, epochs=1)
PRUNING = {
    "soup": SOUP,
    **{by: Cut(SPARSITY, by) for by in ("magnitude", "random", "snip", "grasp")},
    "progressive": Gradual(SPARSITY, "progressive", every=0.2, points=0.15),
    "cubic": Gradual(SPARSITY, every=0.2),
    "lottery": Lottery(SPARSITY, points=0.225, rewind=0.1),
    "cheap": Lottery(SPARSITY, points=0.225, rewind=None, share=0.25),
    "pool": Pool(Lottery(SPARSITY, points=0.225)),
    "early bird": EarlyBird(SPARSITY, Watch(0.5, "consecutive")),
    "longer": Longer(Cut(SPARSITY), SOUP),
}
DENSE = {
    "dense": Dense(),
    "uniform": Averaged("uniform", count=2),
    "greedy": Averaged("greedy", count=2),
    "mixed": Mixed(Ingredients(count=2, steps=2)),
}


def task(data, training=TRAINING, **options) -> Task:
    return Task(vit(), data, training, seed=0, ledger=Ledger(), **options)


@pytest.mark.parametrize("name", PRUNING)
def test_what_prunes_ends_exactly_at_its_sparsity(data, name):
    one = task(data)
    found = PRUNING[name](one)
    assert pruned(found.mask) == masks.pruned_count(SPARSITY, WEIGHTS)
    assert obeys(weights_of(one.model), found.mask)
    assert all(not found.history.best_state[key][~kept].any() for key, kept in found.mask.items())


@pytest.mark.parametrize("name", DENSE)
def test_what_stays_dense_has_no_mask(data, name):
    one = task(data, BRIEF)
    found = DENSE[name](one)
    assert found.mask == {} and all(
        weight.count_nonzero() == weight.numel() for weight in weights_of(one.model).values()
    )


def test_the_soup_is_the_method(data):
    one = task(data)
    SOUP(one)
    assert same_weights(one.model, souped(data)[0])


def test_longer_has_the_look_ahead_steps_of_a_soup_on_top(data):
    # Masks that agree prune 15 % of the weights alive four times: to 15, 28, 39 and 45 %.
    assert PRUNING["longer"](task(data)).history.curves["step"][-1] == TOTAL + 2 * 3 * 4
    assert PRUNING["longer"].beside(task(data), {"moved": [0.1, 0.1, 0.0]}).history.curves["step"][-1] == TOTAL + 12
    gaussian = Longer(Cut(SPARSITY), Soup(ROUNDS, Denoiser(nets=2, gaussian=0.1)))
    assert gaussian.beside(task(data), {"moved": [0.1]}).history.curves["step"][-1] == TOTAL


def test_a_lottery_ticket_at_the_cost_of_a_soup_shares_its_steps_among_rounds(data):
    one = task(data)
    Longer(Lottery(SPARSITY, points=0.225), SOUP).beside(one, {"moved": [0.1, 0.1]})
    phases = one.ledger.total()["phases"]
    per_step = phases["train"]["flops"] / TOTAL
    evaluated = phases["evaluate"]["flops"] / 2  # an epoch's; each of two rounds ends with one
    assert phases["search"]["flops"] == pytest.approx(12 * per_step + 2 * evaluated, rel=0.01)


def test_a_paced_cut_follows_the_soup_without_its_votes(data):
    soup, paced = task(data), task(data)
    told = SOUP(soup).told
    found = Paced(SOUP).beside(paced, told)
    assert found.told["after"] == told["after"] and found.told["step"] == told["step"]
    assert pruned(found.mask) == masks.pruned_count(SPARSITY, WEIGHTS)


def test_noise_has_the_size_that_weak_nets_moved(data):
    one = task(data)
    told = SOUP(task(data)).told
    sizes = [size for size in told["moved"] if size]
    found = Noisy(SOUP).beside(one, told)
    moved = [size for size in found.told["moved"] if size]
    assert moved == pytest.approx([sum(sizes) / len(sizes)] * len(moved), rel=0.1) and moved
    assert "look-ahead" not in one.ledger.total()["phases"]


def test_a_uniform_soup_is_the_mean_of_its_fine_tunes(data):
    one, last, usual = task(data, BRIEF), task(data, BRIEF), Noise(rate=None, decay=None)
    Averaged("uniform", count=2, noise=usual)(one)
    Dense()(last)
    (other,) = fine_tunes(vit(), data, BRIEF, count=1, noise=usual, seed=0, ledger=Ledger())
    mean = average([other, last.model.state_dict()])
    assert all(torch.equal(mean[name], value) for name, value in one.model.state_dict().items())
    assert one.ledger.total()["phases"]["search"]["flops"] > 0


def test_a_mixed_model_has_no_epoch_that_was_better(data):
    one = task(data, BRIEF)
    found = DENSE["uniform"](one)
    assert all(torch.equal(found.history.best_state[name], value) for name, value in one.model.state_dict().items())


def test_names_are_all_that_is_pruned(data):
    names = [name for name in weights_of(vit()) if "mlp" in name]
    one = task(data, names=names)
    assert set(Cut(SPARSITY)(one).mask) == set(names)


def test_a_plan_is_counted_in_epochs(data):
    plan = Gradual(SPARSITY, "progressive", every=0.2, points=0.15).steps(task(data))
    assert plan == pytest.approx({0.2 * PER_EPOCH: 0.15, 0.4 * PER_EPOCH: 0.3, 0.6 * PER_EPOCH: 0.45})
    assert max(Gradual(SPARSITY, every=0.2).steps(task(data))) == 0.75 * TOTAL


def test_rounds_of_a_lottery_may_be_shorter_than_its_ticket(data):
    whole, cheap = task(data), task(data)
    Lottery(SPARSITY, points=0.225)(whole)
    PRUNING["cheap"](cheap)
    flops = [one.ledger.total()["phases"]["search"]["flops"] for one in (whole, cheap)]
    assert flops[1] < 0.3 * flops[0]
    assert Rounds(SPARSITY, 0.225, relative=False).ladder() == Lottery(SPARSITY, points=0.225).sparsities


@pytest.mark.parametrize("rewind", [0.0, 0.1])
def test_a_ticket_on_the_way_of_another_is_the_one_with_rounds_of_its_own(data, rewind):
    """Masks, weights and what is charged, also from a file."""
    top = Lottery(SPARSITY, points=0.15, rewind=rewind)
    rung, own, shared, higher = top.at(0.3), task(data, BRIEF), task(data, BRIEF), task(data, BRIEF)
    assert isinstance(rung, Rung)
    climb = top.rounds(higher)
    assert bool(climb.early) == (rewind > 0)
    expected, found = rung(own), rung.beside(shared, Climb.of(climb.tensors, masks.prunable(shared.model)))
    assert same_mask(found.mask, expected.mask) and same_weights(shared.model, own.model)
    assert found.told == expected.told and pruned(found.mask) == masks.pruned_count(0.3, WEIGHTS)
    assert shared.ledger.total()["flops"] == own.ledger.total()["flops"]
    first, last = (climb.spent[place] for place in (0, -1))
    assert 3 * first["flops"] == last["flops"] and first["joules"] is None
    phases = shared.ledger.total()["phases"]
    assert phases["search"]["seconds"] == climb.spent[1]["seconds"] < last["seconds"]


def test_rounds_are_shared_only_where_they_are_the_same():
    top = Lottery(0.9)
    assert top.at(0.9) == top and top.at(0.7) == Rung(0.7, top)
    assert top.at(0.75) == Lottery(0.75), "its last round ends elsewhere"
    assert Lottery(0.9, rewind=None).at(0.7) == Lottery(0.7, rewind=None), "its weights are those of the last round"


def test_what_is_longer_takes_the_examples_of_weak_nets_whose_batches_are_small():
    """A fifth of 320 examples are four batches of 16, 75 of them in batches of 32 are 32, 32 and 11."""
    assert SOUP.look_ahead(TRAINING, 320) == 2 * 3
    odd = Soup(ROUNDS, Denoiser(nets=2, steps=5, noise=Noise(fraction=0.25)))
    assert odd.look_ahead(replace(TRAINING, batch_size=32), 300) == 2 * (75 + 64) / 32
    assert Soup(ROUNDS, Denoiser(nets=2, gaussian=0.1)).look_ahead(TRAINING, 320) == 0
    assert Soup(ROUNDS, Denoiser(nets=0)).look_ahead(TRAINING, 320) == 0


def test_a_rewind_goes_back_to_one_step_at_least(data):
    steps = [Lottery(SPARSITY, rewind=share).options(task(data))["rewind"] for share in (0.0, 0.001, 0.1, None)]
    assert steps == [0, 1, 2, None]
