"""Magnitude pruning by a plan: progressive, cubic, and at the pace that a soup had."""

from __future__ import annotations

from dataclasses import replace

import pytest

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup import Gradually, Rounds, cubic, progressive, prune_gradually
from effi.training import checkpoint, fit
from tests.instant_soup.tiny import (
    PER_EPOCH,
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
from tests.training.test_checkpoints import Cut, cut_at


def made(data, plan, **options):
    model, ledger = vit(), Ledger()
    found = prune_gradually(model, data, TRAINING, plan, seed=0, ledger=ledger, **options)
    return model, found, ledger


def test_the_cubic_plan_is_that_of_zhu_and_gupta():
    plan = cubic(0.8, 100, 10)
    assert list(plan) == list(range(10, 101, 10))
    assert plan[50] == pytest.approx(0.8 * (1 - 0.5**3)) and plan[10] == pytest.approx(0.8 * (1 - 0.9**3))
    assert plan[100] == 0.8
    assert list(cubic(0.8, 25, 10)) == [10, 20, 25]
    steps = [b - a for a, b in zip([0, *plan.values()], plan.values(), strict=False)]
    assert steps == sorted(steps, reverse=True), "it prunes most at first"


def test_the_progressive_plan_goes_in_points():
    """Released code: two epochs, then ten points more."""
    plan = progressive(Rounds(0.35, 0.1, relative=False), 2 * PER_EPOCH)
    assert list(plan) == [40, 80, 120, 160]
    assert list(plan.values()) == pytest.approx([0.1, 0.2, 0.3, 0.35])


def test_every_cut_is_a_magnitude_cut_of_the_weights_there_are(data):
    plan, seen, model = cubic(0.6, 35, 10), [], vit()
    listener = Gradually(masks.prunable(model), plan)

    def look(step) -> None:
        seen.append((listener.mask, weights_of(model)))

    def before(step) -> None:
        if step.index in plan:
            seen[-1] += (weights_of(model),)

    fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=[before, listener, look])
    for step, sparsity in plan.items():
        (earlier, _, *weights), (mask, _) = seen[step - 2], seen[step - 1][:2]
        assert pruned(mask) == int(sparsity * WEIGHTS + 1e-9) and within(mask, earlier)
        # The step itself moves weights: cut them as they were just after it.
        assert same_mask(mask, masks.magnitude(weights[0], sparsity, within=earlier))
    assert all(obeys(weights, mask) for mask, weights, *_ in seen)


def test_the_plan_ends_at_its_target(data):
    model, found, ledger = made(data, cubic(0.77, 30, 7))
    assert pruned(found.mask) == int(0.77 * WEIGHTS) and obeys(weights_of(model), found.mask)
    assert obeys(found.history.best_state, found.mask)
    assert found.told["after"][-1] == 0.77
    train = ledger.total()["phases"]["train"]["flops"]
    assert train == TOTAL * vit().train_flops(16)


def test_the_pace_of_a_soup_can_be_repeated_without_its_nets(data):
    _, soup, _ = souped(data, replace(SHORT, merge="vote"))
    plan = {int(step): after for step, after in zip(soup.told["step"], soup.told["after"], strict=True)}
    _, found, _ = made(data, plan)
    assert pruned(found.mask) == pruned(soup.mask)
    assert not same_mask(found.mask, soup.mask)


def test_layers_can_be_ranked_apart(data):
    _, found, _ = made(data, {5: 0.5}, scope="tensor")
    assert set(masks.layer_sparsity(found.mask).values()) == {0.5}


def test_a_training_cut_off_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    plan, model = cubic(0.6, 35, 10), vit()
    whole, expected, _ = made(data, plan)
    listeners = [Gradually(masks.prunable(model), plan), cut_at(25)]
    with pytest.raises(Cut):
        fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=listeners, checkpoint=tmp_path / "arm")
    again, found, _ = made(data, plan, checkpoint=tmp_path / "arm")
    assert same_weights(again, whole) and same_mask(found.mask, expected.mask)


@pytest.mark.parametrize(
    ("plan", "message"),
    [({}, "must grow"), ({5: 0.5, 9: 0.3}, "must grow"), ({41: 0.5}, "prunes until step 41 of 40")],
)
def test_bad_plans_are_refused(data, plan, message):
    with pytest.raises(ParameterError, match=message):
        made(data, plan)


def test_a_dry_run_prunes_nothing(data):
    ledger = Ledger(dry_run=True)
    found = prune_gradually(vit(), data, TRAINING, {1: 0.5}, seed=0, ledger=ledger)
    assert pruned(found.mask) == 0 and ledger.planned_steps == TOTAL
