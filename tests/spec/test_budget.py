"""A least number of steps on small data."""

from __future__ import annotations

import pytest

from effi import spec
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.training import Training, fit
from tests.training.tiny import images, vit


@pytest.mark.parametrize(
    ("examples", "epochs"),
    [
        (115, 150),  # 2 steps an epoch
        (64, 300),  # 1 step an epoch
        (1, 300),
        (1920, 16),  # 30 steps an epoch: 480 steps would do with 10 epochs
        (1200, 16),  # 19 steps: 304
        (1152, 17),  # 18 steps: 288 are too few
    ],
)
def test_epochs_rise_until_the_steps_are_enough(examples: int, epochs: int) -> None:
    found = spec.enough(Training(epochs=16, batch_size=64, lr=0.5), examples, 300)
    assert found == Training(epochs=epochs, batch_size=64, lr=0.5)


def test_the_steps_are_those_that_a_training_takes() -> None:
    data = images()
    training = spec.enough(Training(epochs=1, batch_size=16), len(data.train), 7)
    (history,) = fit([vit()], data, training, seeds=(0,), ledger=Ledger("cpu"))
    assert training.epochs == 3 and history.curves["step"][-1] == 9


def test_a_training_counted_in_steps_gets_steps() -> None:
    assert spec.enough(Training(steps=20), 100, 50) == Training(steps=50)
    assert spec.enough(Training(steps=80), 100, 50) == Training(steps=80)


def test_without_examples_there_is_no_budget() -> None:
    with pytest.raises(ParameterError, match="0 training examples makes no sense"):
        spec.enough(Training(epochs=1), 0, 10)
