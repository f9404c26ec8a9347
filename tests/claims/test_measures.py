"""Metrics in words, with units, and their values in a record."""

from __future__ import annotations

import math

import pytest

from effi.claims import measures, papers
from effi.errors import RecordError
from tests.claims.synthetic import record


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("test_accuracy", "test accuracy (%)"),
        ("best_test_loss", "test loss at the best epoch"),
        ("test_loss - train_loss", "test loss minus train loss"),
        ("test_accuracy - train_accuracy", "test accuracy minus train accuracy (points)"),
        ("cost.seconds", "training time (s)"),
        ("q_ratio", "constraints per parameter Q"),
        ("share_consecutive_0.3", "share of training until R1 draws at p = 0.3"),
        ("time_ratio/mlp-small", "time of a training step / full model, mlp-small"),
        (
            "training_bytes/structured / training_bytes/dense",
            "bytes that the structured ticket holds in training over those of the dense model (%)",
        ),
        ("never_heard_of", "never heard of"),
        (
            "net_saving_seconds/final/d/gpt/ligo",
            "share of scratch's seconds saved with the source charged, final/d/gpt/ligo (%)",
        ),
    ],
)
def test_titles_are_words_with_units(metric: str, text: str) -> None:
    assert measures.title(metric) == text


def test_a_pattern_wants_something_in_its_place() -> None:
    own = {"gap_*": "gap at *"}
    assert measures.is_known("gap_0.1", own) and measures.is_known("gap_0.1 - test_loss", own)
    assert not measures.is_known("gap_", own)
    assert not measures.is_known("test_loss - gap", own)


def test_the_longest_pattern_names_a_metric() -> None:
    """Paper 4 calls "time_ratio/*" what a step of a variant takes."""
    assert measures.words("time_ratio/mnist/minimum") == "time of a training step / full model, mnist/minimum"
    assert measures.words("time_ratio/wikitext-2/gpt/mst") == "time of MST / dense training, wikitext-2"


@pytest.mark.parametrize("paper", ["early_bird", "instant_soup", "ligo", "minimal", "mixed_sparsity"])
def test_every_metric_that_a_paper_names_has_words(paper: str) -> None:
    loaded = papers.load(paper)
    named = {m for claim in loaded.claims for tests in claim.tests.values() for test in tests for m in test.metrics}
    assert named and all("_" not in measures.words(metric) for metric in named)


def test_values_are_metrics_costs_and_differences() -> None:
    held = record("d/x", test_loss=1.5, train_loss=1.0)
    held["cost"] |= {"seconds": 3}
    assert measures.value(held, "test_loss - train_loss") == 0.5
    assert measures.value(held, "cost.seconds") == 3.0
    assert measures.value(held, "train_loss / test_loss") == pytest.approx(2 / 3)
    with pytest.raises(RecordError, match=r"d/x holds no 'cost.joules': it has flops, seconds"):
        measures.value(held, "cost.joules")
    with pytest.raises(RecordError, match=r"train_loss of d/x is 0"):
        measures.value(record("d/x", test_loss=1.0, train_loss=0.0), "test_loss / train_loss")


@pytest.mark.parametrize(
    ("metric", "difference", "ends"),
    [
        ("test_accuracy", False, (0.0, 100.0)),
        ("test_accuracy", True, (-100.0, 100.0)),
        ("test_accuracy - train_accuracy", False, (-100.0, 100.0)),
        ("test_mcc", False, (-1.0, 1.0)),
        ("test_loss", False, (0.0, math.inf)),
        ("test_loss", True, (-math.inf, math.inf)),
        ("test_loss - train_loss", False, (-math.inf, math.inf)),
        ("cost.seconds", False, (0.0, math.inf)),
        ("test_loss / train_loss", False, (0.0, math.inf)),
        ("saving_flops/final/d/gpt/ligo", False, (-math.inf, math.inf)),
        ("saving_flops/final/d/gpt/ligo - saving_flops/final/d/gpt/stack", False, (-math.inf, math.inf)),
    ],
)
def test_bounds_are_what_a_shown_value_can_be(metric: str, difference: bool, ends: tuple[float, float]) -> None:
    assert measures.bounds(metric, difference=difference) == ends


def test_intervals_of_a_metric_keep_to_its_bounds_and_counts_are_exact() -> None:
    assert measures.interval([98.0, 99.0, 100.0], "test_accuracy").high == 100.0
    assert measures.interval([100.0, 100.0], "test_accuracy") == (100.0, 0.0, 100.0)
    assert measures.interval([7.0, 7.0], "parameters") == (7.0, 7.0, 7.0)
    assert measures.interval([0.0, 0.0], "test_accuracy", difference=True) == (0.0, -100.0, 100.0)


def test_what_is_counted_and_what_a_clock_measures() -> None:
    counted = ("parameters", "cost.flops", "training_bytes/eb-0.1 / training_bytes/dense", "q_ratio", "file_csr")
    assert all(map(measures.counted, counted))
    assert not any(map(measures.counted, ("test_loss", "cost.peak_bytes", "cost.seconds", "parameters - test_loss")))
    assert measures.timed("time_ratio/minimum") and measures.timed("time_ratio/a/b/structured - time_ratio/a/b/short")
    assert not measures.timed("cost.flops")


def test_a_value_may_stand_for_never() -> None:
    assert measures.never("share_consecutive_0.1") == 2.0
    assert measures.never("found_consecutive_0.1") is None


def test_more_than_loss_and_accuracy_is_measured_on_the_test_split_only() -> None:
    assert all(measures.is_known(f"{split}_loss", {}) for split in ("train", "validation", "test", "best_test"))
    assert measures.is_known("test_f1", {}) and measures.is_known("best_test_perplexity", {})
    for never in ("validation_f1", "train_mcc", "validation_perplexity", "train_spearman"):
        assert not measures.is_known(never, {})
