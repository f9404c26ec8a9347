"""What trains one arm, called without a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from effi.cost import Ledger
from effi.data import Dataset, load
from effi.minimal import Variant, experiment, outcome
from effi.minimal.experiment import Settings
from effi.training import Training, fit
from effi.training.checkpoint import Checkpoint
from effi.training.objectives import Loss

SMALL = Variant(mlp=False, depth=2, width=12, query_key="collapsed", value_output="dropped")
TRAINING = Training(epochs=2, batch_size=50, lr=1e-2)


@dataclass
class FakeArm:
    """Keeps what is recorded."""

    settings: Settings
    seeds: tuple[int, ...] = (0,)
    ledger: Ledger = field(default_factory=Ledger)
    checkpoint: Path | None = None
    metrics: list = field(default_factory=list)
    history: list = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return self.ledger.device

    @property
    def dry_run(self) -> bool:
        return self.ledger.dry_run

    def record(self, metrics: list, history: list, marks: list) -> None:
        self.metrics, self.history, self.marks = metrics, history, marks


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", train=200, validation=50, test=60)


def settings(variant: Variant = SMALL, loss: Loss = "cross_entropy") -> Settings:
    return Settings(variant, TRAINING, patch=2, data={}, loss=loss)


def without_seconds(history: dict) -> dict:
    return {name: values for name, values in history.items() if name != "seconds"}


def test_an_arm_records_what_training_its_model_by_hand_gives(digits: Dataset) -> None:
    arm = FakeArm(settings(), seeds=(3,))
    experiment.train(arm, digits)
    model = SMALL.model(digits.shape, 2, 10, seed=3)
    (history,) = fit(model, digits, TRAINING, seeds=[3], ledger=Ledger())
    found = outcome(model, history, digits)
    assert arm.metrics == [found.metrics]
    assert all(torch.equal(arm.marks[0][name], own) for name, own in found.marks.items())
    recorded = without_seconds(arm.history[0])
    assert recorded["train_loss"] == history.curves["train_loss"] and recorded["step"] == [4, 8]
    assert [len(values) for name, values in recorded.items() if name.startswith("layer_")] == [SMALL.depth] * 7


def test_every_seed_has_a_record_of_its_own_and_pays_once(digits: Dataset) -> None:
    both, one = FakeArm(settings(), seeds=(0, 1)), FakeArm(settings(), seeds=(1,))
    for arm in (both, one):
        experiment.train(arm, digits)
    assert len(both.metrics) == len(both.history) == 2
    assert both.metrics[0]["train_loss"] != both.metrics[1]["train_loss"]
    # Side by side the arithmetic is batched: equal but for rounding.
    assert both.metrics[1]["train_loss"] == pytest.approx(one.metrics[0]["train_loss"], rel=1e-3)
    assert both.ledger.total()["flops"] == 2 * one.ledger.total()["flops"]


def test_the_objective_is_what_is_minimised_and_reported(digits: Dataset) -> None:
    entropy, squared = FakeArm(settings()), FakeArm(settings(loss="mse"))
    for arm in (entropy, squared):
        experiment.train(arm, digits)
    assert squared.history[0]["train_loss"][0] < 0.2 < 1 < entropy.history[0]["train_loss"][0]
    assert squared.metrics[0]["test_loss"] < 0.2 < entropy.metrics[0]["test_loss"]


def test_a_dry_run_takes_one_step_and_records_nothing(digits: Dataset) -> None:
    arm = FakeArm(settings(), ledger=Ledger(dry_run=True))
    experiment.train(arm, digits)
    assert not arm.metrics and not arm.history
    assert arm.ledger.forecast()["steps"] == 8


def test_an_interrupted_arm_goes_on_to_the_same_record(digits: Dataset, tmp_path: Path, monkeypatch) -> None:
    whole, halted, resumed = (FakeArm(settings(), checkpoint=tmp_path / name) for name in ("whole", "arm", "arm"))
    experiment.train(whole, digits)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoint, "due", end_soon)
        experiment.train(halted, digits)
    assert not halted.metrics and (tmp_path / "arm.safetensors").exists()
    experiment.train(resumed, digits)
    assert resumed.metrics == whole.metrics
    assert without_seconds(resumed.history[0]) == without_seconds(whole.history[0])


def end_soon(checkpoint: Checkpoint) -> bool:
    """What SIGTERM does, after the first step."""
    checkpoint.ending = True
    return True


def test_models_have_the_arms_sizes(digits: Dataset) -> None:
    arms = {"minimum": settings(), "bare": settings(Variant(mlp=False, depth=2, width=12))}
    sizes = experiment.sizes_of(arms, digits)
    for name, of in arms.items():
        assert sizes[name]["parameters"] == of.variant.parameters(4)
        assert sizes[name]["q_ratio"] == pytest.approx(200 * 10 / of.variant.parameters(4))
    assert sizes["minimum"]["flops_per_image"] < sizes["bare"]["flops_per_image"]


def test_steps_are_timed_beside_the_baseline(digits: Dataset, monkeypatch) -> None:
    arms = {"minimum": settings(), "deep": settings(replace(SMALL, depth=4))}
    seconds = {"minimum": [3.0, 1.0, 2.0], "deep": [2.0, 4.0, 3.0]}
    calls = []

    def measure(steps: dict, **options: object) -> dict:
        calls.append(options)
        for step in steps.values():
            step()
        return seconds

    monkeypatch.setattr(experiment, "measure", measure)
    found = experiment.time_steps(arms, digits, "deep", repeats=3)
    assert calls[0]["repeats"] == 3
    assert found["time_ratio/minimum"] == 0.5 and found["time_ratio/deep"] == 1
    share = SMALL.parameters(4) / arms["deep"].variant.parameters(4)
    assert found["parameters_ratio/minimum"] == share
    assert found["slope"] == pytest.approx(0.5 / (1 - share))
