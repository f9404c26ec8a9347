"""Arithmetic on weights in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi.cost import Ledger
from effi.errors import ParameterError
from effi.training import MovingAverage, Training, average, fit, interpolate
from tests.training.tiny import vit

A = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
B = {"w": torch.tensor([3.0, -2.0]), "n": torch.tensor(5)}
C = {"w": torch.tensor([8.0, 3.0]), "n": torch.tensor(7)}
TRAINING = Training(epochs=3, batch_size=16, lr=1e-2)


def test_a_mean_and_a_weighted_mean():
    assert average([A, B, C])["w"].tolist() == [4.0, 1.0]
    assert average([A, B, C], [0.5, 0.25, 0.25])["w"].tolist() == pytest.approx([3.25, 1.25])
    assert average([A, B, C], [2.0, -1.0, 0.0])["w"].tolist() == [-1.0, 6.0], "weights may leave the simplex"
    assert average([B])["w"].tolist() == B["w"].tolist()


def test_whole_numbers_come_from_the_first():
    found = average([B, A])
    assert found["n"].item() == 5 and found["n"].dtype == torch.int64
    found["n"] += 1
    assert B["n"].item() == 5, "a copy"


def test_a_line_between_two_states():
    assert torch.equal(interpolate(A, B, 0)["w"], A["w"])
    assert torch.equal(interpolate(A, B, 1)["w"], B["w"])
    assert interpolate(A, B, 0.25)["w"].tolist() == [1.5, 1.0]
    assert interpolate(A, B, 2)["w"].tolist() == [5.0, -6.0], "beyond the end"


def test_sums_are_made_in_double_precision_and_given_back_in_the_states_own():
    """Ten times 0.1 in bfloat16 added one by one would be 1.0078."""
    states = [{"w": torch.full((3,), 0.1, dtype=torch.bfloat16)} for _ in range(10)]
    found = average(states)["w"]
    assert found.dtype == torch.bfloat16 and torch.equal(found, states[0]["w"])


def test_averages_leave_the_states_alone():
    before = {name: value.clone() for name, value in A.items()}
    average([A, B])["w"].zero_()
    average([A])["w"].zero_()
    assert all(torch.equal(A[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("states", "weights", "told"),
    [
        ([], None, "an average wants at least one state"),
        ([A, B], [0.5], "2 states want as many weights that sum to 1"),
        ([A, B], [0.5, 0.6], "2 states want as many weights that sum to 1"),
        ([A, {"w": A["w"]}], None, "states of different models: n is not in both"),
        ([{"w": A["w"]}, A], None, "states of different models: n is not in both"),
        ([A, A | {"w": torch.ones(3)}], None, "states of different models: w is not in both with one shape"),
    ],
)
def test_states_that_do_not_fit_are_refused(states, weights, told):
    with pytest.raises(ParameterError, match=told):
        average(states, weights)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_a_moving_average_in_closed_form(data, decay):
    """It starts at the weights after step 1: e_n = decay^(n-1) w_1 + sum (1 - decay) decay^(n-t) w_t."""
    moving, weights, model = MovingAverage(decay), [], vit()
    keep = [moving, lambda step: weights.append(step.model.head.weight.detach().double().clone())]
    fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=keep)
    expected = decay**8 * weights[0]
    for t, weight in enumerate(weights[1:], 2):
        expected = expected + (1 - decay) * decay ** (9 - t) * weight
    assert torch.allclose(moving.average["head.weight"].double(), expected, atol=1e-6)
    assert moving.average.keys() == model.state_dict().keys()
    assert torch.equal(moving.average["head.weight"], model.head.weight) is (decay == 0)
    moving.copy_to(model)
    assert torch.equal(model.head.weight, moving.average["head.weight"])


def test_a_moving_average_changes_nothing_in_training(data):
    plain, watched = vit(), vit()
    fit(plain, data, TRAINING, seeds=[0], ledger=Ledger())
    fit(watched, data, replace(TRAINING), seeds=[0], ledger=Ledger(), after_step=[MovingAverage(0.9)])
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))


def test_buffers_that_are_whole_numbers_are_taken_as_they_are():
    model = torch.nn.BatchNorm1d(2)
    moving = MovingAverage(0.5)
    step = type("Step", (), {"model": model})()
    for _ in range(3):
        model(torch.randn(4, 2))
        moving(step)
    assert moving.average["num_batches_tracked"].item() == 3


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_a_decay_that_forgets_nothing_or_too_much_is_refused(decay):
    with pytest.raises(ParameterError, match=rf"decay={decay:g} of a moving average: give at least 0 and less than 1"):
        MovingAverage(decay)
