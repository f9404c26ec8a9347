"""Instant Model Soup: never below the pretrained model on validation, and dense at the end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup import Ingredients, Judge, Look, Noise, draw, look_ahead, mix, model_soup
from effi.seeds import derive
from effi.training import evaluate, fit, interpolate
from tests.instant_soup.tiny import EXAMPLES, PER_EPOCH, TRAINING, obeys, same_weights, vit, weights_of

FEW = Ingredients(count=3, steps=4, sparsities=(0.2, 0.5), noise=Noise(fraction=0.2))
SHORT = replace(TRAINING, epochs=1)


@pytest.fixture(scope="module")
def start(data):
    model = vit()
    fit(model, data, replace(TRAINING, lr=1e-2, epochs=2), seeds=[4], ledger=Ledger())
    return model.state_dict()


def mixed(data, start, ingredients=FEW, **options):
    model, ledger = vit(), Ledger()
    model.load_state_dict(start)
    told = mix(model, data, SHORT, ingredients, Judge(data, ledger, **options), seed=0)
    return model, told, ledger


def states(data, start, ingredients=FEW):
    """The ingredients by hand."""
    model = vit()
    model.load_state_dict(start)
    kept = [masks.magnitude(weights_of(model), sparsity) for sparsity in (0.2, 0.5, 0.2)]
    sizes = {"rate": SHORT.lr, "steps": 4, "examples": EXAMPLES, "nets": 3, "seed": derive(0, "ingredients")}
    drawn = draw(ingredients.noise, SHORT, **sizes)
    return kept, [net.state_dict() for net in look_ahead(Look(model, data), drawn, kept, ledger=Ledger())]


def test_it_is_algorithm_3_by_hand(data, start):
    model, told, _ = mixed(data, start)
    kept, ends = states(data, start)
    theta, judged = {name: value.clone() for name, value in start.items()}, vit()
    for mask, end, share in zip(kept, ends, told["share"], strict=True):
        assert obeys(end, mask)
        scores = []
        for place in range(11):
            judged.load_state_dict(interpolate(theta, end, place / 10))
            scores.append(evaluate(judged, data.validation, data)["accuracy"])
        assert share == scores.index(max(scores)) / 10, "the best, ties to the smaller"
        theta = interpolate(theta, end, share)
    assert all(torch.allclose(value, theta[name]) for name, value in model.state_dict().items())
    assert told["sparsity"] == [0.2, 0.5, 0.2]


@pytest.mark.parametrize("alive_only", [False, True])
def test_validation_never_falls(data, start, alive_only):
    model, told, _ = mixed(data, start, replace(FEW, alive_only=alive_only))
    model.load_state_dict(start)
    before = evaluate(model, data.validation, data)["accuracy"]
    assert told["score"] == sorted(told["score"]) and told["score"][0] >= before


def test_the_literal_formula_shrinks_what_is_pruned(data, start):
    """(1 - a) theta where every ingredient has pruned; alive-only leaves it where it was, bit for bit."""
    grid = (0.5,)
    literal, _, _ = mixed(data, start, replace(FEW, grid=grid))
    alive, _, _ = mixed(data, start, replace(FEW, grid=grid, alive_only=True))
    kept, _ = states(data, start)
    for name, weight in masks.prunable(literal).items():
        never = ~(kept[0][name] | kept[1][name] | kept[2][name])
        assert never.any()
        assert torch.allclose(weight[never], start[name][never] * 0.5**3)
        assert torch.equal(alive.get_parameter(name)[never], start[name][never])
        assert not torch.equal(alive.get_parameter(name)[~never], start[name][~never])


def test_the_placebo_only_shrinks_small_weights(data, start):
    model, _, ledger = mixed(data, start, Ingredients(count=1, steps=0, sparsities=(0.3,), grid=(0.4,)))
    mask = masks.magnitude({name: start[name] for name in masks.prunable(model)}, 0.3)
    for name, value in model.state_dict().items():
        shrunk = torch.where(mask[name], start[name], 0.6 * start[name]) if name in mask else start[name]
        assert torch.allclose(value, shrunk)
    assert set(ledger.phases) == {"search"}


def test_ingredients_may_be_dense(data, start):
    _, told, _ = mixed(data, start, replace(FEW, sparsities=(0.0,)))
    assert told["sparsity"] == [0.0] * 3


def test_a_way_changes_nothing_but_rounding(data, start):
    """At a fixed share, as a search may break near ties either way."""
    fixed = replace(FEW, grid=(0.3,), noise=Noise(rate=(0.5, 0.5), fraction=0.2))
    one, _, first = mixed(data, start, fixed)
    other, _, second = mixed(data, start, replace(fixed, way="stacked"))
    for name, value in one.state_dict().items():
        assert float((value - other.state_dict()[name]).abs().median()) < 1e-5
    assert first.total()["flops"] == second.total()["flops"]


def test_every_look_and_step_is_charged(data):
    """K C steps, 11 K validation passes, one fine-tune."""
    model, ledger = vit(), Ledger()
    made = model_soup(model, data, SHORT, FEW, seed=0, ledger=ledger)
    phases, one = ledger.total()["phases"], vit()
    forward = sum(one.forward_flops(80).values())
    nets = 3 * (4 * one.train_flops(16) + sum(one.forward_flops(1).values()))
    assert phases["look-ahead"]["flops"] == nets and phases["search"]["flops"] == 33 * forward
    assert phases["train"]["flops"] == PER_EPOCH * one.train_flops(16)
    assert made.history.curves["step"] == [PER_EPOCH] and len(made.told["share"]) == 3
    assert all((weight != 0).all() for weight in masks.prunable(model).values()), "dense"


def test_the_fine_tune_starts_from_the_mixture(data):
    model, again = vit(), vit()
    model_soup(model, data, SHORT, FEW, seed=0, ledger=Ledger())
    mix(again, data, SHORT, FEW, Judge(data, Ledger()), seed=0)
    fit(again, data, SHORT, seeds=[0], ledger=Ledger())
    assert same_weights(model, again)


def test_other_examples_may_choose(data, start):
    _, told, _ = mixed(data, start, examples=data.test)
    _, usual, _ = mixed(data, start)
    assert told["score"] != usual["score"]


def test_a_dry_run_forecasts_its_steps(data):
    ledger = Ledger(dry_run=True)
    made = model_soup(vit(), data, SHORT, FEW, seed=0, ledger=ledger)
    assert ledger.planned_steps == PER_EPOCH + 12 and made.told["share"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0"),
        ({"steps": -1}, "steps=-1"),
        ({"sparsities": (1.0,)}, "sparsities="),
        ({"grid": ()}, "grid="),
        ({"grid": (1.5,)}, "grid="),
    ],
)
def test_bad_ingredients_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        Ingredients(**options)
