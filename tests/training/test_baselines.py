"""Sanity baselines: what the majority class and logistic regression are worth."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from effi.claims import measures
from effi.data import Dataset, Examples, TextDataset
from effi.data.transforms import statistics
from effi.errors import ParameterError
from effi.mixed_sparsity import counting
from effi.records import Name, Run
from effi.records.source import closure
from effi.report.arms import SANITY
from effi.training import baselines
from tests.training.tiny import images, numbers

SPECIAL = 1


def lopsided() -> Dataset:
    """Noise, three images of four of class 0."""
    draw = torch.Generator().manual_seed(0)

    def part(count: int) -> Examples:
        pixels = torch.randint(0, 256, (count, 1, 4, 4), generator=draw).to(torch.uint8)
        return Examples(pixels, (torch.arange(count) % 4 == 3).long())

    train, validation, test = part(40), part(8), part(20)
    return Dataset("noise", train, validation, test, ("a", "b"), "sha256:0", "made up", *statistics(train.inputs))


def words() -> TextDataset:
    """Texts of ids 1 to 8 whose class is whether they hold more of 2 than of 3; 0 fills them up."""
    draw = np.random.default_rng(0)

    def part(count: int) -> Examples:
        ids = draw.integers(1, 9, (count, 12))
        ids[:, 10:] = 0
        labels = (ids == 2).sum(1) > (ids == 3).sum(1)
        return Examples(torch.from_numpy(ids.astype(np.int32)), torch.from_numpy(labels.astype(np.int64)))

    parts = part(200), part(50), part(100)
    return TextDataset("words", *parts, ("no", "yes"), "sha256:0", "made up", 9, parts[0].inputs)


def test_the_majority_class_is_worth_its_share_and_its_entropy() -> None:
    found = baselines.fit("majority", lopsided())
    assert found.metrics["validation_accuracy"] == found.metrics["test_accuracy"] == 0.75
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert found.metrics["test_loss"] == pytest.approx(entropy)
    assert found.marks["test_accuracy"].tolist() == [index % 4 != 3 for index in range(20)]


def test_logistic_regression_tells_brightness_apart() -> None:
    found = baselines.fit("logistic", images())
    assert found.metrics["test_accuracy"] > 0.9
    assert found.metrics["test_accuracy"] == found.marks["test_accuracy"].double().mean().item()
    assert found.metrics["best_test_loss"] == found.metrics["test_loss"] < math.log(4)


def test_of_noise_it_learns_no_more_than_the_majority() -> None:
    assert baselines.fit("logistic", lopsided()).metrics["test_accuracy"] <= 0.75


def test_its_penalty_is_chosen_on_validation_alone() -> None:
    data = images()
    spoilt = replace(data, test=Examples(data.test.inputs, data.test.labels.flip(0)))
    one, other = (baselines.fit("logistic", each).metrics for each in (data, spoilt))
    assert one["validation_loss"] == other["validation_loss"] and one["test_loss"] != other["test_loss"]


def test_texts_are_read_as_bags_of_tokens_without_what_fills_them_up() -> None:
    data = words()
    assert baselines.fit("logistic", data).metrics["test_accuracy"] > 0.85
    counts = baselines._features(data.test, data).toarray()
    row = Counter(data.test.inputs[0].tolist())
    assert counts.shape == (100, 9) and counts[:, 0].sum() == 0
    assert counts[0].tolist() == [0.0, *(float(row[token]) for token in range(1, 9))]


def test_large_images_are_pooled_and_small_ones_kept() -> None:
    data = images()
    assert baselines._features(data.test, data).tolist() == data.test.inputs.flatten(1).tolist()
    large = Examples(torch.arange(64 * 64).view(1, 1, 64, 64) % 256, torch.zeros(1))
    pooled = baselines._features(large, data)
    assert pooled.shape == (1, 256) and pooled.mean() == pytest.approx(large.inputs.float().mean().item())


def test_it_is_the_regression_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "PIXELS", (0.01,))
    data = images()
    mean, deviation = (getattr(np, name)(data.train.inputs.flatten(1).numpy(), axis=0) for name in ("mean", "std"))
    scaled = [(part.inputs.flatten(1).numpy() - mean) / deviation for part in (data.train, data.test)]
    model = LogisticRegression(C=0.01).fit(scaled[0], data.train.labels.numpy())
    assert (
        baselines.fit("logistic", data).marks["test_accuracy"].tolist()
        == (model.predict(scaled[1]) == data.test.labels.numpy()).tolist()
    )


def test_a_part_of_a_large_training_set_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = baselines.fit("logistic", images()).metrics
    monkeypatch.setattr(baselines, "EXAMPLES", 20)
    assert baselines.fit("logistic", images(), seed=3).metrics == baselines.fit("logistic", images(), seed=3).metrics
    assert baselines.fit("logistic", images(), seed=3).metrics != whole


def test_other_kinds_and_data_without_classes_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"unknown sanity baseline 'logistics'; did you mean 'logistic'"):
        baselines.fit("logistics", images())
    with pytest.raises(ParameterError, match="noise has no classes that a sanity baseline could say: leave it out"):
        baselines.fit("majority", numbers(images()))


def test_a_notebook_records_them_as_arms(tmp_path: Path) -> None:
    data = images()
    run = Run("made_up", "cpu", uses=["effi.training.baselines"], results_dir=tmp_path, quiet=True)

    def simple(arm):  # type: ignore[no-untyped-def]
        baselines.train(arm, data)

    arms = {Name("noise", None, kind): {"data": data.checksum} for kind in baselines.KINDS}
    run.each(simple, arms, (0, 1), jobs=1)
    found = {record["arm"]: record for record in run.records()}
    assert set(found) == {"noise/majority", "noise/logistic"} and len(run.records()) == 4
    record = found["noise/logistic"]
    hits = measures.marks(record, "test_accuracy")
    assert hits is not None and hits.mean() == record["metrics"]["test_accuracy"]
    assert record["cost"]["flops"] == 0 and record["cost"]["seconds"] > 0


def test_a_dry_run_fits_nothing(tmp_path: Path) -> None:
    run = Run("made_up", "cpu", uses=["effi.training.baselines"], results_dir=tmp_path, dry_run=True)
    with run.arm(Name("noise", None, "majority"), 0) as arm:
        baselines.train(arm, images())
    assert run.plan()[0]["hours"] == 0 and not run.path.exists()


def test_reports_know_them_and_no_training_depends_on_them() -> None:
    assert tuple(SANITY) == (*baselines.KINDS, *counting.KINDS)
    for paper in ("effi.minimal.experiment", "effi.early_bird"):
        assert "effi.training.baselines" not in closure([paper])
