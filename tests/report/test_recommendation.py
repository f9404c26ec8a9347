"""The recommendation names a ticket only when saving and accuracy are both sure."""

from __future__ import annotations

import pytest

from effi.report import recommendation


def record(arm, seed, seconds, accuracy, **metrics):
    cost = {"flops": 1, "seconds": seconds, "phases": {}}
    metrics = (
        {"validation_accuracy": accuracy, "test_accuracy": accuracy, **metrics} if accuracy is not None else metrics
    )
    return {
        "arm": arm,
        "seed": seed,
        "status": "done",
        "metrics": metrics,
        "cost": cost,
        "settings": {},
        "scale": "cpu",
    }


def runs(seconds, accuracies, **metrics):
    """A dense model of 100 s and 80 % beside one ticket."""
    dense = [record("imdb/gpt2/dense", seed, 100.0, 0.8, snapshots=60) for seed in range(3)]
    pairs = enumerate(zip(seconds, accuracies, strict=True))
    return dense + [record("imdb/gpt2/structured", seed, s, a, **metrics) for seed, (s, a) in pairs]


def said(*args, **metrics):
    return recommendation(runs(*args, **metrics), ["imdb/gpt2/structured"], price=3.6)


def test_a_sure_saving_is_recommended_with_its_numbers():
    words = said([60, 61, 59], [0.80, 0.801, 0.799], found=6)
    assert words == (
        "imdb/gpt2: take structured (found after 10 % of training) saves 40.0 s (40 %) and 0.0400 of money a training, "
        "at 0.0 points [-0.2, 0.2]."
    )


@pytest.mark.parametrize(
    ("seconds", "accuracies"),
    [
        ([60, 100, 140], [0.8, 0.8, 0.8]),  # the saving is noise
        ([60, 61, 59], [0.75, 0.8, 0.85]),  # the accuracy is noise
        ([60, 61, 59], [0.78, 0.781, 0.779]),  # two points are lost
        ([101, 102, 103], [0.8, 0.8, 0.8]),  # dearer
        ([60, 61, 59], [None, None, None]),  # never drawn
    ],
)
def test_nothing_else_is(seconds, accuracies):
    assert "not worth it here" in said(seconds, accuracies)


def test_one_seed_is_never_sure():
    one = [each for each in runs([60, 61, 59], [0.8, 0.8, 0.8]) if each["seed"] == 0]
    assert "not worth it here" in recommendation(one, ["imdb/gpt2/structured"], price=2)


def test_only_the_arms_asked_for_count():
    assert "not worth it here" in recommendation(runs([60, 61, 59], [0.8, 0.8, 0.8]), ["imdb/gpt2/eb-0.3"], price=2)
