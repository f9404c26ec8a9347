"""How long a training lasts, when it is evaluated, and what each point of its curves cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi.cost import Ledger
from effi.errors import ParameterError
from effi.training import Step, Training, fit
from tests.training.curves import learnt
from tests.training.tiny import PER_EPOCH, vit

EPOCHS = Training(epochs=3, batch_size=16, lr=1e-2, schedule="cosine", warmup=0.2, augment=("flip",))
STEPS = replace(EPOCHS, epochs=None, steps=9)


def trained(data, training: Training, **options):
    model = vit()
    (history,) = fit(model, data, training, seeds=[0], ledger=options.pop("ledger", None) or Ledger(), **options)
    return model, history


def test_steps_are_the_epochs_they_make(data):
    (model, history), (other, expected) = trained(data, STEPS), trained(data, EPOCHS)
    assert learnt(history) == learnt(expected)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert history.best_epoch == expected.best_epoch


def test_a_training_by_steps_may_end_within_an_epoch(data):
    """With one rate throughout, seven steps are the first seven of nine."""
    constant = replace(STEPS, schedule="constant", warmup=0)
    weights: list[torch.Tensor] = []

    def keep(step: Step) -> None:
        weights.append(step.model.head.weight.detach().clone())

    trained(data, constant, after_step=[keep])
    model, history = trained(data, replace(constant, steps=7))
    assert torch.equal(model.head.weight, weights[6])
    assert history.curves["step"] == [3, 6, 7]


@pytest.mark.parametrize(
    ("budget", "every", "points"),
    [
        ({"epochs": 3}, "1 epoch", [3, 6, 9]),
        ({"epochs": 3}, "2 epochs", [6, 9]),
        ({"epochs": 3}, "10 epochs", [9]),
        ({"epochs": 3}, "0.5 epochs", [2, 3, 5, 6, 8, 9]),
        ({"epochs": 4}, "1.5 epochs", [5, 9, 12]),
        ({"epochs": 2}, "0.1 epochs", [1, 2, 3, 4, 5, 6]),
        ({"epochs": 3}, "4 steps", [4, 8, 9]),
        ({"steps": 7}, "1 epoch", [3, 6, 7]),
        ({"steps": 5}, "2 steps", [2, 4, 5]),
        ({"steps": 4}, "1 step", [1, 2, 3, 4]),
        ({"steps": 1}, "1 epoch", [1]),
        ({"steps": 6}, "100 steps", [6]),
    ],
)
def test_when_it_is_evaluated(data, budget, every, points):
    """Three steps an epoch; a fraction of an epoch is over with the step in which it ends; the last step counts."""
    training = Training(batch_size=16, eval_every=every, **budget)
    _, history = trained(data, training)
    assert history.curves["step"] == points
    assert {len(curve) for curve in history.curves.values()} == {len(points)}


def test_best_epochs_are_fractions_within_an_epoch(data):
    _, history = trained(data, replace(STEPS, eval_every="1 step", steps=4))
    best = history.curves["validation_loss"].index(min(history.curves["validation_loss"])) + 1
    assert history.best_epoch == pytest.approx(best / PER_EPOCH)
    assert isinstance(trained(data, EPOCHS)[1].best_epoch, int)


@pytest.mark.parametrize("every", ["1 epoch", "2 steps", "0.5 epochs"])
def test_flops_of_a_point_in_closed_form(data, every):
    """Batches of 16, 16 and 8 so far, and every evaluation of 12 images so far, this one included."""
    model, history = trained(data, replace(EPOCHS, eval_every=every))
    sizes, evaluation = [16, 16, 8] * 3, sum(model.forward_flops(12).values())
    for place, (step, flops) in enumerate(zip(history.curves["step"], history.curves["flops"], strict=True), 1):
        assert flops == sum(map(model.train_flops, sizes[: int(step)])) + place * evaluation


def test_seconds_of_a_point_grow_and_end_below_the_total(data):
    ledger = Ledger()
    _, history = trained(data, replace(EPOCHS, eval_every="1 step"), ledger=ledger)
    seconds = history.curves["seconds"]
    assert all(a < b for a, b in zip([0.0, *seconds], seconds, strict=False))
    assert seconds[-1] <= ledger.total()["seconds"]
    assert seconds[-1] == pytest.approx(ledger.total()["seconds"], abs=0.05)


def test_what_was_paid_before_counts_in_every_point_and_what_is_aside_in_none(data):
    def aside(step: Step) -> None:
        with step.ledger.phase("watch", aside=True):
            step.ledger.add_flops(10**9)

    plain = trained(data, EPOCHS)[1].curves["flops"]
    ledger = Ledger()
    ledger.charge("search", 12345, 100.0)
    _, history = trained(data, EPOCHS, ledger=ledger, after_step=[aside])
    assert history.curves["flops"] == [flops + 12345 for flops in plain]
    assert all(100 < seconds < 110 for seconds in history.curves["seconds"])


def test_seeds_together_share_what_a_point_cost(data):
    single = trained(data, EPOCHS)[1].curves
    histories = fit([vit(0), vit(1)], data, EPOCHS, seeds=[0, 1], ledger=Ledger())
    assert all(history.curves["flops"] == single["flops"] for history in histories)
    assert histories[0].curves["seconds"] == histories[1].curves["seconds"]


def test_a_schedule_entered_late_is_told_in_its_own_steps(data):
    rates: list[tuple[int, int, float]] = []
    _, history = trained(
        data, EPOCHS, first_epoch=1, after_step=[lambda step: rates.append((step.index, step.epoch, step.rate))]
    )
    assert rates == [(index, (index + 2) // 3, EPOCHS.rate(index - 1, 9)) for index in range(4, 10)]
    assert history.curves["step"] == [6, 9]
    assert history.best_epoch in (1, 2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 5}, "training wants epochs or steps, not both"),
        ({"epochs": None}, "training wants epochs or steps, not neither"),
        ({"eval_every": "often"}, "eval_every='often' is no interval"),
        ({"eval_every": "0 steps"}, "eval_every='0 steps' is no interval"),
        ({"eval_every": "0.5 steps"}, "eval_every='0.5 steps' is no interval"),
        ({"eval_every": "-1 epoch"}, "eval_every='-1 epoch' is no interval"),
        ({"accumulate": 0}, "training accumulate=0 is too small"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(change, told):
    with pytest.raises(ParameterError, match=told):
        replace(EPOCHS, **change)
