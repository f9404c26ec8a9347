"""Which arm a sparsity leads to, and what it takes to store."""

from __future__ import annotations

from typing import Any

import pytest

from effi.claims import Results
from effi.errors import ParameterError
from effi.report.instant_soup import kept_table
from tests.report.synthetic import trained


def arm(
    name: str, accuracies: tuple[float, ...], loss: float, alive: float = 1.0, validated: float = 0.0
) -> list[dict[str, Any]]:
    """A record per seed of a model of 1,000,000 weights, 800,000 of them prunable."""
    found = [trained(name, seed, accuracy) for seed, accuracy in enumerate(accuracies)]
    for record in found:
        record["metrics"] |= {"validation_accuracy": validated} if validated else {}
        record["metrics"] |= {"validation_loss": loss, "alive": alive, "parameters": 1_000_000, "prunable": 800_000}
    return found


RECORDS = [
    *arm("d/clip/dense", (0.8, 0.82), 1.0),
    *arm("d/clip/isp-0.5", (0.7, 0.73), 1.4, 0.5, validated=0.78),
    *arm("d/clip/snip-0.5", (0.75, 0.75), 1.3, 0.5),
    *arm("d/clip/snip-0.9", (0.6, 0.6), 1.5, 0.1),
]


def test_the_arm_is_chosen_on_validation_and_told_on_test() -> None:
    first, second = kept_table(Results(RECORDS), baseline="dense").rows
    assert first[:3] == ("d/clip", "50 %", "isp-0.5"), "by validation accuracy, though the other has less loss there"
    assert first[3].startswith("test accuracy: -9.5 points")
    assert second[1:3] == ("90 %", "snip-0.9")


def test_where_validation_has_no_correlation_the_best_on_test_is_taken_and_said_to_be() -> None:
    """Of two arms that of less validation loss knows nothing."""
    records = [*arm("d/clip/dense", (0.5, 0.5), 1.0), *arm("d/clip/isp-0.9", (0.0, 0.1), 1.1, 0.1)]
    records += arm("d/clip/random-0.9", (0.2, 0.3), 1.4, 0.1)
    for record in records:
        record["metrics"]["test_pearson"] = record["metrics"].pop("test_accuracy")
    (row,) = kept_table(Results(records), baseline="dense").rows
    assert row[2] == "random-0.9 (best on test)" and row[3].startswith("test Pearson correlation: -0.250")


def test_arms_of_fewer_seeds_are_compared_at_their_own() -> None:
    """0.75 at an easy seed is less beside its dense model than 0.72 in the mean of an easy and a hard one."""
    dense = [*arm("d/clip/dense", (0.9, 0.6), 1.0)]
    two, one = arm("d/clip/isp-0.5", (0.85, 0.59), 1.2, 0.5), arm("d/clip/imp-0.5", (0.8,), 1.2, 0.5)
    (row,) = kept_table(Results([*dense, *two, *one]), baseline="dense").rows
    assert row[2] == "isp-0.5"


def test_what_was_mixed_after_its_training_is_no_choice() -> None:
    mixed = arm("d/clip/pool-0.5", (0.9, 0.9), 0.1, 0.5)
    rows = kept_table(Results([*RECORDS, *mixed]), baseline="dense").rows
    assert rows[0][2] == "isp-0.5"


def test_bytes_are_those_of_weights_left_and_of_a_bit_each() -> None:
    """600,000 and 280,000 weights of four bytes, and 100,000 bytes of mask."""
    rows = kept_table(Results(RECORDS), baseline="dense").rows
    assert [row[4] for row in rows] == ["2.50", "1.22"]
    assert [row[5] for row in rows] == ["62 %", "30 %"]


def test_numbers_are_told_by_their_own_score() -> None:
    records = [each for each in RECORDS if "snip" not in each["arm"]]
    for record in records:
        del record["metrics"]["test_accuracy"]
        record["metrics"]["test_pearson"] = 0.5
    (row,) = kept_table(Results(records), baseline="dense").rows
    assert "Pearson" in row[3]


def test_without_a_baseline_there_is_nothing_to_compare() -> None:
    with pytest.raises(ParameterError, match="No arm is called 'dense'"):
        kept_table(Results(RECORDS[2:]), baseline="dense")
