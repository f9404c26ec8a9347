"""Loss, accuracy, temperature and calibration on cases that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from effi.data import Examples, normalise
from effi.training import Classification, History
from effi.training.evaluation import calibration_error, evaluate, outcome, predict, score, temperature

# Odds of 3 to 1, met by three labels of four: already calibrated.
CALIBRATED = torch.tensor([[math.log(3), 0.0]] * 4), torch.tensor([0, 0, 0, 1])


def test_losses_by_hand():
    logits, labels = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    assert Classification().losses(logits, labels).tolist() == pytest.approx([math.log(4 / 3), math.log(2)])
    assert Classification("mse").losses(logits, labels).tolist() == pytest.approx([1 / 16, 1 / 4])


@pytest.mark.parametrize("kind", ["cross_entropy", "mse"])
def test_losses_of_several_seeds_are_those_of_each(kind):
    logits, labels = torch.randn(3, 5, 4), torch.randint(4, (3, 5))
    objective = Classification(kind)
    stacked = objective.losses(logits, labels)
    assert stacked.shape == (3, 5)
    assert all(torch.allclose(stacked[i], objective.losses(logits[i], labels[i])) for i in range(3))


def test_score_by_hand():
    logits, labels = CALIBRATED
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert score(logits, labels) == pytest.approx({"loss": entropy, "accuracy": 0.75})
    assert score(logits, labels, Classification("mse")) == pytest.approx(
        {"loss": 0.75 / 16 + 0.25 * 9 / 16, "accuracy": 0.75}
    )


@pytest.mark.parametrize("known", [0.05, 0.5, 1.0, 2.0, 7.5])
def test_temperature_recovers_what_logits_were_multiplied_by(known):
    logits, labels = CALIBRATED
    assert temperature(known * logits, labels) == pytest.approx(known, rel=1e-3)


def test_temperature_takes_over_confidence_out():
    logits, labels = CALIBRATED
    hot = 6 * logits
    cooled = score(hot / temperature(hot, labels), labels)["loss"]
    assert cooled == pytest.approx(score(logits, labels)["loss"], abs=1e-6)
    assert cooled < score(hot, labels)["loss"] - 0.1


def test_temperature_stays_within_its_bounds():
    logits, labels = CALIBRATED
    assert 0.01 <= temperature(logits[:3], labels[:3]) < 0.05, "all right: sure until the loss is zero in float64"
    assert temperature(logits[3:], labels[3:]) == pytest.approx(100, rel=0.01), "all wrong: as unsure as allowed"


def probabilities(*rows: float) -> torch.Tensor:
    """Logits of two classes whose confidences are the rows."""
    return torch.tensor([[row, 1 - row] for row in rows]).log()


def test_calibration_error_by_hand():
    """Two bins of five on [0.5, 1]: 0.55, 0.59 with one hit of two; 0.95, 0.97, 0.99 with two hits of three."""
    logits, labels = probabilities(0.55, 0.59, 0.95, 0.97, 0.99), torch.tensor([0, 1, 0, 0, 1])
    first, second = abs(0.55 + 0.59 - 1), abs(0.95 + 0.97 + 0.99 - 2)
    assert calibration_error(logits, labels, bins=5) == pytest.approx((first + second) / 5, abs=1e-6)
    within_one_bin = abs(0.55 + 0.59 + 0.95 + 0.97 + 0.99 - 3) / 5
    assert calibration_error(logits, labels, bins=1) == pytest.approx(within_one_bin, abs=1e-6)


def test_calibration_error_of_extremes():
    logits, labels = CALIBRATED
    assert calibration_error(logits, labels) == pytest.approx(0.0, abs=1e-6)
    sure = torch.tensor([[100.0, 0.0]] * 4)
    assert calibration_error(sure, torch.ones(4, dtype=torch.long)) == pytest.approx(1.0)
    assert calibration_error(sure, torch.zeros(4, dtype=torch.long)) == pytest.approx(0.0)


class Linear(nn.Module):
    """Channel means -> logits, halved by dropout while training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dropout = nn.Linear(3, 4), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.layer(x.mean((2, 3))))


def test_predict_covers_every_example_in_evaluation_mode(data):
    model = Linear().train()
    many = data.train.take(torch.arange(600) % 40)
    logits = predict(model, many, data)
    expected = model.layer(normalise(many.inputs, data.mean, data.std).mean((2, 3)))
    assert torch.allclose(logits, expected, atol=1e-6)
    assert not logits.requires_grad
    assert model.training, "the mode is given back"


def test_evaluate_is_the_score_of_the_predictions(data):
    model = Linear()
    logits = predict(model, data.test, data)
    for kind in ("cross_entropy", "mse"):
        objective = Classification(kind)
        assert evaluate(model, data.test, data, objective) == score(logits, data.test.labels, objective)


def finished(best: nn.Module) -> History:
    return History(0, {"train_loss": [2.0, 1.0], "validation_loss": [0.5, 0.7]}, 1, best.state_dict())


def test_outcome_reports_last_and_best_weights(data):
    last, best = Linear(), Linear()
    before = {name: value.clone() for name, value in last.state_dict().items()}
    metrics, marks = outcome(last, finished(best), data)
    logits = predict(last, data.test, data)
    expected = {f"test_{name}": value for name, value in score(logits, data.test.labels).items()}
    expected |= {f"best_test_{name}": value for name, value in evaluate(best, data.test, data).items()}
    expected |= {"train_loss": 1.0, "validation_loss": 0.7, "best_epoch": 1}
    expected["calibration_error"] = calibration_error(logits, data.test.labels)
    assert {name: metrics[name] for name in expected} == expected
    assert set(metrics) == {*expected, "scaled_test_loss"}
    assert all(torch.equal(last.state_dict()[name], value) for name, value in before.items())
    guessed = {"test_accuracy": logits, "best_test_accuracy": predict(best, data.test, data)}
    assert set(marks) == set(guessed)
    for name, own in guessed.items():
        assert torch.equal(marks[name], own.argmax(-1) == data.test.labels)
        assert marks[name].float().mean().item() == pytest.approx(metrics[name])


def test_outcome_fits_its_temperature_on_the_validation_split(data):
    torch.manual_seed(0)  # with weights drawn anew both losses once came out alike
    model = Linear()
    with torch.no_grad():
        model.layer.weight.mul_(20)
    wrong = replace(data, validation=Examples(data.validation.inputs, data.test.labels[:12].flip(0)))
    scaled = []
    for split in (data, wrong):
        heat = temperature(predict(model, split.validation, data), split.validation.labels)
        scaled.append(score(predict(model, data.test, data) / heat, data.test.labels)["loss"])
        assert outcome(model, finished(model), split).metrics["scaled_test_loss"] == pytest.approx(scaled[-1])
    assert scaled[0] != scaled[1]
