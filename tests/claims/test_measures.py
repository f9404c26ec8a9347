"""Metrics in words, with units, and their values in a record."""

from __future__ import annotations

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
        ("share_consecutive_0.3", "share of training until R1 draws, p = 0.3"),
        ("time_ratio/mlp-small", "time of a training step / full model, mlp-small"),
        ("never_heard_of", "never heard of"),
    ],
)
def test_titles_are_words_with_units(metric: str, text: str) -> None:
    assert measures.title(metric) == text


def test_a_pattern_wants_something_in_its_place() -> None:
    own = {"gap_*": "gap at *"}
    assert measures.is_known("gap_0.1", own) and measures.is_known("gap_0.1 - test_loss", own)
    assert not measures.is_known("gap_", own)
    assert not measures.is_known("test_loss - gap", own)


@pytest.mark.parametrize("paper", ["early_bird", "minimal"])
def test_every_metric_that_a_paper_names_has_words(paper: str) -> None:
    loaded = papers.load(paper)
    named = {m for claim in loaded.claims for tests in claim.tests.values() for test in tests for m in test.metrics}
    assert named and all("_" not in measures.words(metric) for metric in named)


def test_values_are_metrics_costs_and_differences() -> None:
    held = record("d/x", test_loss=1.5, train_loss=1.0)
    held["cost"] |= {"seconds": 3}
    assert measures.value(held, "test_loss - train_loss") == 0.5
    assert measures.value(held, "cost.seconds") == 3.0
    with pytest.raises(RecordError, match=r"d/x holds no 'cost.joules': it has flops, seconds"):
        measures.value(held, "cost.joules")


def test_more_than_loss_and_accuracy_is_measured_on_the_test_split_only() -> None:
    assert all(measures.is_known(f"{split}_loss", {}) for split in ("train", "validation", "test", "best_test"))
    assert measures.is_known("test_f1", {}) and measures.is_known("best_test_perplexity", {})
    for never in ("validation_f1", "train_mcc", "validation_perplexity", "train_spearman"):
        assert not measures.is_known(never, {})
