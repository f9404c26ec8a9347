"""Soups of whole trainings and Lottery Pools: averages that validation accepts, at counted cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup import Judge, Noise, fine_tunes, greedy_soup, line_search, lottery_pool, lottery_ticket
from effi.training import Regression, average, evaluate, fit, interpolate
from tests.instant_soup.tiny import PER_EPOCH, TRAINING, WEIGHTS, obeys, pruned, same_mask, vit, weights_of

SHORT = replace(TRAINING, epochs=1, lr=1e-2)


@pytest.fixture(scope="module")
def cooked(data):
    """A pretrained model, three fine-tunes of it and what they cost."""
    model, ledger = vit(), Ledger()
    fit(model, data, SHORT, seeds=[9], ledger=Ledger())
    states = fine_tunes(model, data, SHORT, count=3, noise=Noise(), seed=0, ledger=ledger)
    return model, states, ledger


def judge(data, **options) -> Judge:
    return Judge(data, Ledger(), **options)


def scored(model, state, data) -> float:
    model.load_state_dict(state)
    return evaluate(model, data.validation, data)["accuracy"]


def test_fine_tunes_are_trainings_of_their_own(data, cooked):
    model, states, ledger = cooked
    assert all(not torch.equal(states[0]["head.weight"], state["head.weight"]) for state in states[1:])
    alone = Ledger()
    again = fine_tunes(model, data, SHORT, count=2, noise=Noise(), seed=0, ledger=alone)
    assert all(torch.equal(value, again[1][name]) for name, value in states[1].items())
    one = vit().train_flops(16) * PER_EPOCH + sum(vit().forward_flops(80).values())
    assert ledger.total()["phases"] == {"search": ledger.total()["phases"]["search"]}
    assert (ledger.total()["flops"], alone.total()["flops"]) == (3 * one, 2 * one)


def test_a_greedy_soup_never_scores_below_its_best_ingredient(data, cooked):
    _, states, _ = cooked
    scores = [scored(vit(), state, data) for state in states]
    for strict in (False, True):
        model, taster = vit(), judge(data)
        soup, taken = greedy_soup(model, states, taster, strict=strict)
        assert scored(vit(), soup, data) >= max(scores) and scores[taken[0]] == max(scores)
        expected = average([states[place] for place in taken])
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
        assert taster.looks == 2 * len(states) - 1
        assert taster.ledger.total()["flops"] == taster.looks * sum(vit().forward_flops(80).values())


class Scripted:
    """Scores in the order that they are asked for."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def __call__(self, model) -> float:
        return self.scores.pop(0)


def test_greedy_soups_take_what_the_rule_says():
    """Three ingredients of 0.5, 0.9 and 0.7; adding the third leaves 0.9, then adding the first too gives 0.8."""
    states = [vit(seed).state_dict() for seed in range(3)]
    assert greedy_soup(vit(), states, Scripted(0.5, 0.9, 0.7, 0.9, 0.8))[1] == [1, 2]
    assert greedy_soup(vit(), states, Scripted(0.5, 0.9, 0.7, 0.9, 0.8), strict=True)[1] == [1]
    assert greedy_soup(vit(), states, Scripted(0.5, 0.9, 0.7, 0.95, 0.96), strict=True)[1] == [1, 2, 0]
    with pytest.raises(ParameterError, match="at least one ingredient"):
        greedy_soup(vit(), [], Scripted())


def test_a_line_is_searched_and_ties_go_to_the_smaller_share():
    a, b = (vit(seed).state_dict() for seed in (0, 1))
    model = vit(2)
    best = line_search(model, a, b, (0.5, 0.0, 1.0), Scripted(0.3, 0.6, 0.6))
    assert (best.share, best.score) == (0.5, 0.6)
    expected = interpolate(a, b, 0.5)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_a_judge_reads_losses_and_other_metrics(data):
    model = vit()
    means = evaluate(model, data.validation, data, more=("mcc",))
    assert judge(data)(model) == means["accuracy"]
    assert judge(data, metric="loss")(model) == -means["loss"]
    assert judge(data, metric="mcc")(model) == means["mcc"]
    assert judge(data, examples=data.test)(model) == evaluate(model, data.test, data)["accuracy"]
    numbers = replace(data, validation=replace(data.validation, labels=torch.rand(len(data.validation), 10)))
    found = judge(numbers, metric="loss", objective=Regression())(model)
    assert found == -evaluate(model, numbers.validation, numbers, Regression())["loss"]


# --- lottery pools -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tickets(data):
    _, networks, _ = lottery_ticket(vit(), data, SHORT, [0.2, 0.4, 0.6], seed=0, ledger=Ledger(), keep=True)
    return networks


def test_a_pool_keeps_its_sparsity_and_never_loses(data, tickets):
    own = next(each for each in tickets if each.sparsity == 0.4)
    model, taster = vit(), judge(data)
    mask, shares = lottery_pool(model, tickets, 0.4, taster)
    assert pruned(mask) == int(0.4 * WEIGHTS) and obeys(weights_of(model), mask)
    assert scored(vit(), model.state_dict(), data) >= scored(vit(), own.state, data)
    assert len(shares) == 3 and taster.looks == 1 + 3 * 11


def test_a_pool_takes_neighbours_that_help_nearest_first(tickets):
    """Eleven places on each line: of two as near the second helps, at its third place, and the dense net does not."""
    scores = [0.5, *[0.4] * 11, *[0.4, 0.4, 0.7], *[0.6] * 8, *[0.7] * 11]
    model = vit()
    mask, shares = lottery_pool(model, tickets, 0.4, Scripted(*scores))
    assert shares == [0.0, 0.2, 0.0]
    own, other = tickets[2].state, tickets[3].state
    mixed = interpolate(own, other, 0.2)
    names = list(masks.prunable(model))
    expected = masks.magnitude({name: mixed[name] for name in names}, 0.4)
    assert same_mask(mask, expected)
    for name, value in model.state_dict().items():
        assert torch.equal(value, mixed[name] * expected[name] if name in expected else mixed[name])


def test_a_pool_that_nothing_helps_is_the_ticket(tickets):
    model = vit()
    mask, shares = lottery_pool(model, tickets, 0.6, Scripted(0.5, *[0.5] * 33))
    assert shares == [0.0] * 3 and same_mask(mask, tickets[-1].mask)
    assert all(torch.equal(value, tickets[-1].state[name]) for name, value in model.state_dict().items())


def test_a_pool_without_its_ticket_is_refused(tickets):
    with pytest.raises(ParameterError, match=r"no ticket has a sparsity of 0\.5; train one first"):
        lottery_pool(vit(), tickets, 0.5, Scripted())
