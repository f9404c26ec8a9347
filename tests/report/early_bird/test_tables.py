"""Tables of a ticket search, by their cells."""

from __future__ import annotations

from typing import Any

import pytest

from effi.claims import Results
from effi.errors import RecordError
from effi.report import early_bird
from tests.report.synthetic import searched, trained


def searches() -> list[dict[str, Any]]:
    """Three seeds of four epochs at p = 0.3: distances .21, .105, .0525, .02625; R1 draws after 1, 2 and 3 of them."""
    records = [searched("d/vit/dense", seed, (0.3,)) for seed in range(3)]
    for seed, record in enumerate(records):
        record["metrics"] |= {"share_consecutive_0.3": (1 + seed) / 4, "share_queue_0.3": 1.0, "share_code_0.3": 2.0}
        record["metrics"] |= {"share_epochs_0.3": 0.5, "epoch_distance_0.3": 0.1, "tracking_share": 0.1 * seed}
        record["metrics"] |= {"tracking_bytes": 2e6, "snapshots": 4, "training_bytes": 1000, "prunable": 10}
    return records


def test_draws_are_shares_with_the_seeds_that_drew() -> None:
    table = early_bird.draws_table(Results(searches()), (0.1, 0.3))
    assert table.rows == (
        ("d/vit", "0.3", "0.50 (3 of 3)", "1.00 (3 of 3)", "never (0 of 3)", "0.50 (3 of 3)", "0.03", "0.10", "0.42"),
    )
    assert table.columns[2:6] == ("R1 at share", "R2 at share", "R3 at share", "R1 by epoch")
    assert table.notes == ("R1 draws at its first check, so that it does not discriminate: nowhere.",)


def test_draws_at_the_first_check_are_named() -> None:
    records = searches()
    for record in records:
        record["metrics"]["found_consecutive_0.3"] = 1
    assert early_bird.draws_table(Results(records), (0.3,)).notes[0].endswith("discriminate: d/vit at p = 0.3.")


def test_every_threshold_is_answered_by_the_distances() -> None:
    rows = early_bird.thresholds_table(Results(searches()), (0.3,), (0.3, 0.1, 0.01)).rows
    assert rows == (
        ("d/vit", "with epoch 0", "0.3", "0.25", "0.75", "never"),
        ("d/vit", "without", "0.3", "0.50", "0.75", "never"),
    )


def test_seeds_stand_side_by_side() -> None:
    table = early_bird.seeds_table(Results(searches()), (0.3,))
    assert table.columns == ("group", "p", "seed 0", "seed 1", "seed 2")
    assert table.rows == (("d/vit", "0.3", "1", "2", "3"),)
    assert early_bird.seeds_table(Results(searches()), (0.3,), "code").rows[0][2:] == ("never",) * 3


def test_bytes_are_relative_to_the_baseline() -> None:
    ticket = trained("d/vit/eb-0.3", 0, 0.8)
    ticket["metrics"] |= {"training_bytes": 1200, "file_dense": 40, "file_dense+mask": 50, "file_csr": 60}
    table = early_bird.bytes_table(Results([*searches(), ticket]), ["eb-0.3"], baseline="dense")
    assert table.rows == (("d/vit/eb-0.3", "1.20", "1.00", "1.25", "1.50", "-"),)
    with pytest.raises(RecordError, match="dense of d/vit holds no bytes"):
        early_bird.bytes_table(Results([ticket]), ["eb-0.3"], baseline="dense")


def test_looking_is_a_share_of_the_training() -> None:
    assert early_bird.looking_table(Results(searches())).rows == (("d/vit", "4", "10.0 %", "2.00 MB"),)
