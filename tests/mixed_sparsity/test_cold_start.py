"""Adam's cold start: the published numbers, torch's own optimiser, and moves told of a training against its weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from effi.cost import Ledger
from effi.data import Examples
from effi.errors import ParameterError
from effi.masks import hold
from effi.mixed_sparsity.cold_start import STEPS, TOLD, ColdStart, adam_move, means, moments_left
from effi.mixed_sparsity.outcome import curves, outcome
from effi.mixed_sparsity.recipes import OBJECTIVE, PHASES, Task, evolutionary, mst, static
from effi.training import evaluate
from tests.instant_soup.tiny import same_mask, same_weights
from tests.mixed_sparsity.toy import BATCH, TRAINING, cut_off, task
from tests.training.conftest import one_thread as one_thread
from tests.training.curves import learnt

# Second beta -> learning rates after 1, 2, 4, 8 and 16 steps, the longest move, and the step that makes it.
GOLDEN = {
    0.95: ((0.447, 0.608, 0.798, 0.982, 1.089), 1.097, 20),
    0.99: ((1.000, 1.347, 1.732, 2.049, 2.114), 2.131, 13),
    0.999: ((3.162, 4.250, 5.442, 6.379, 6.465), 6.569, 12),
}
EVERY, LONG = 20, 70
# Updates after 20, 40 and 60 steps, of which the method's first only prunes; the last has 10 steps more.
METHOD = mst(EVERY, None, replace(PHASES, warmup=0.4, restoration=0.3, settle=0.5))
SET = evolutionary(0.7, EVERY)


# --- in closed form ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta2", GOLDEN)
def test_golden_moves(beta2):
    moves, peak, place = GOLDEN[beta2]
    assert [adam_move(step, 0.9, beta2) for step in STEPS] == pytest.approx(moves, abs=5e-4)
    far = {step: adam_move(step, 0.9, beta2) for step in range(1, 1000)}
    assert max(far.values()) == pytest.approx(peak, abs=5e-4) and max(far, key=far.get) == place
    assert far[999] == pytest.approx(1, abs=0.3), "in time the moves are one learning rate"


def test_golden_decay_of_moments():
    (first, root), (_, slow) = moments_left(100, 0.9, 0.95), moments_left(100, 0.9, 0.999)
    assert (first, root, slow) == pytest.approx((2.66e-5, 0.0769, 0.951), rel=2e-3)


def test_a_correction_of_its_own_moves_one_learning_rate():
    assert [adam_move(step, 0.9, 0.999, before=0) for step in STEPS] == pytest.approx([1] * len(STEPS))
    early, late = (adam_move(1, 0.9, 0.999, before=steps) for steps in (300, 1e9))
    assert 1 < early < late == pytest.approx(adam_move(1, 0.9, 0.999))
    with pytest.raises(ParameterError, match="step 0 after a weight grew: give 1 for its first"):
        adam_move(0, 0.9, 0.999)


@pytest.mark.parametrize("before", [7, 300])
@pytest.mark.parametrize("beta2", GOLDEN)
def test_torch_moves_what_is_revived_as_far(beta2, before):
    """A weight that is pruned for so many steps, then held no longer; its neighbour has been there all along."""
    model, rate = nn.Linear(2, 1, bias=False).double(), 1e-3
    optimizer = torch.optim.AdamW(model.parameters(), rate, (0.9, beta2), eps=1e-16, weight_decay=0)

    def step() -> torch.Tensor:
        old = model.weight.detach().clone()
        model.weight.grad = torch.tensor([[0.3, -20.0]], dtype=torch.float64)
        optimizer.step()
        return (model.weight.detach() - old).abs().flatten() / rate

    held = hold(model, optimizer, {"weight": torch.tensor([[True, False]])}, see_gradients=True)
    for _ in range(before):
        model.weight.grad = torch.tensor([[0.3, -20.0]], dtype=torch.float64)
        held.zero_gradients()
        optimizer.step()
    hold(model, optimizer, {"weight": torch.tensor([[True, True]])}, see_gradients=True)
    assert model.weight[0, 1] == 0
    for k in range(1, 30):
        old, grown = step().tolist()
        assert grown == pytest.approx(adam_move(k, 0.9, beta2, before=before)) and old == pytest.approx(1)


@pytest.mark.parametrize("beta2", GOLDEN)
def test_moments_that_nothing_zeroes_decay_as_far(beta2):
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], betas=(0.9, beta2))
    weight.grad = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    optimizer.step()
    state = optimizer.state[weight]
    first, root = state["exp_avg"].clone(), state["exp_avg_sq"].sqrt()
    weight.grad = torch.zeros_like(weight)
    for _ in range(100):
        optimizer.step()
    left = moments_left(100, 0.9, beta2)
    assert (state["exp_avg"] / first).tolist() == pytest.approx([left.first] * 3)
    assert (state["exp_avg_sq"].sqrt() / root).tolist() == pytest.approx([left.root] * 3)


# --- measured ------------------------------------------------------------------------------------------------


def trained(recipe, beta2: float = 0.95, **options):
    training = replace(TRAINING, steps=LONG, betas=(0.9, beta2), eval_every="35 steps")
    one = task(training, **options)
    return one, recipe(one)


@cache
def watched(beta2: float = 0.95, recipe=METHOD):
    return trained(ColdStart(**vars(recipe)), beta2)


def rows(told) -> list[dict[str, float]]:
    return [dict(zip(TOLD, row, strict=True)) for row in zip(*(told[f"cold/{name}"] for name in TOLD), strict=True)]


def seen(recipe):
    """Of every step of the same training the weights after it, its mask, rate, and loss on the first windows."""
    found, fit = [], Task.fit

    def after(step) -> None:
        weights = {name: step.model.get_parameter(name).detach().clone() for name in step.mask}
        first = Examples(one.data.train.inputs[:BATCH], one.data.train.labels[:BATCH])
        loss = evaluate(step.model, first, one.data, OBJECTIVE)["loss"]
        found.append((weights, dict(step.mask), step.rate, step.skipped, loss))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "fit", lambda self, **how: fit(self, **how | {"after_step": [*how["after_step"], after]}))
        one = task(replace(TRAINING, steps=LONG, eval_every="35 steps"))
        recipe(one)
    return found


@pytest.mark.parametrize(("recipe", "updates"), [(METHOD, (40, 60)), (SET, (20, 40, 60))], ids=["instead", "after"])
def test_moves_are_those_of_the_weights(recipe, updates):
    """Weight by weight, from the weights after each step; an update takes the place of a step, or comes after it."""
    every, told = seen(recipe), rows(watched(recipe=recipe)[1].watched)
    wanted = [(update, since) for update in updates for since in (0, *STEPS) if update + since <= LONG]
    assert [(row["update"], row["since"]) for row in told] == wanted
    for row in told:
        update, at = int(row["update"]), int(row["update"] + row["since"])
        weights, mask, rate, _, loss = every[at - 1]
        assert row["loss"] == pytest.approx(loss) and row["taken"] == sum(not each[3] for each in every[:update])
        moved = {"grown": [], "old": []}
        for name, kept in mask.items():
            change = (weights[name] - every[at - 2][0][name]).abs() / rate
            was = every[update - 2][1][name]
            assert every[update - 1][0][name][kept & ~was].eq(0).all(), "what grows starts at zero"
            moved["grown"] += change[kept & ~was].tolist()
            moved["old"] += change[kept & was].tolist()
        for name, values in moved.items():
            expected = sum(values) / len(values) if row["since"] else 0
            assert len(values) > 10 and row[name] == pytest.approx(expected, rel=1e-4), (row, name)
        if row["since"] == 1:
            first = adam_move(1, 0.9, 0.95, before=row["taken"])
            assert max(moved["grown"]) == pytest.approx(first, rel=1e-3) == np.median(moved["grown"])


@pytest.mark.parametrize("beta2", GOLDEN)
def test_the_closed_form_bounds_the_moves(beta2):
    """The first is equal to it whatever the gradient, but for weights that have none as their unit is cut off."""
    for row in rows(watched(beta2)[1].watched):
        expected = adam_move(max(1, int(row["since"])), 0.9, beta2, before=row["taken"])
        if row["since"] == 1:
            assert 0.9 * expected < row["grown"] < 1.001 * expected
        elif row["since"]:
            assert 0 < row["grown"] < expected, "gradients that vary make shorter moves than constant ones"


def test_a_high_second_beta_shows_what_a_low_one_hides():
    low, high = (outcome(*watched(beta2)).metrics for beta2 in (0.95, 0.999))
    for steps in (1, 2, 4):
        ratios = [metrics[f"cold_start/{steps}/grown"] / metrics[f"cold_start/{steps}/old"] for metrics in (low, high)]
        assert ratios[1] > 1.5 * ratios[0], steps


def test_watching_changes_no_bit_of_the_training():
    one, found = watched()
    plain, expected = trained(METHOD)
    assert same_weights(one.model, plain.model) and same_mask(found.mask, expected.mask)
    assert learnt(found.history) == learnt(expected.history) and found.told == expected.told
    assert expected.watched == {} and curves(plain, expected).keys() == curves(one, found).keys() - found.watched.keys()
    ours, theirs = (each.ledger.total() for each in (one, plain))
    assert (ours["flops"], ours["paper_flops"]) == (theirs["flops"], theirs["paper_flops"])
    assert list(ours["aside"]) == ["cold start"]


def test_records_hold_means_over_updates():
    one, found = watched()
    metrics, told = outcome(one, found).metrics, rows(found.watched)
    names = {f"cold_start/{steps}/{name}" for steps in STEPS for name in ("grown", "old", "loss")}
    assert {name for name in metrics if name.startswith("cold")} == names | {"cold_start/0/loss"}
    for steps, count in ((0, 2), (8, 2), (16, 1)):
        values = [row["loss"] for row in told if row["since"] == steps]
        assert len(values) == count and metrics[f"cold_start/{steps}/loss"] == pytest.approx(sum(values) / count)
    assert curves(one, found)["cold/grown"] == found.watched["cold/grown"] and means({}) == {}


def test_without_growth_there_is_nothing_to_tell():
    _, found = trained(ColdStart(**vars(static(0.7))))
    assert found.watched == {}
    one, planned = trained(ColdStart(**vars(METHOD)), ledger=Ledger(dry_run=True))
    assert planned.watched == {} and one.ledger.forecast()["steps"] == LONG


@pytest.mark.parametrize("place", [3, 21, 44])
def test_a_training_cut_off_tells_the_same(tmp_path, monkeypatch, place):
    """Before the first update, right before a move that is told, and between two."""
    recipe = ColdStart(**vars(METHOD))
    with cut_off(monkeypatch, place + 1):
        trained(recipe, checkpoint=tmp_path / "arm")
    _, resumed = trained(recipe, checkpoint=tmp_path / "arm")
    assert resumed.watched == watched()[1].watched
