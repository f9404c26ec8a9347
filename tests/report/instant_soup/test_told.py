"""Cells that match the dense model, and cosines of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from effi.claims import Results
from effi.report.instant_soup import cosine, cosine_table, matching_table
from tests.claims import synthetic
from tests.report.synthetic import trained


def arm(name: str, accuracies: tuple[float, ...]) -> list[dict[str, Any]]:
    return [trained(name, seed, accuracy) for seed, accuracy in enumerate(accuracies)]


def test_a_cell_matches_within_a_standard_deviation_of_the_dense_model() -> None:
    """Dense: 80 and 82, of deviation 1.41; 79.7 lies 1.3 below its mean, 79.5 lies 1.5 below."""
    records = [
        *arm("d/clip/dense", (0.8, 0.82)),
        *arm("d/clip/isp-0.5", (0.797, 0.797)),
        *arm("d/clip/isp-0.9", (0.795,) * 2),
    ]
    table = matching_table(Results(records), method="isp", baseline="dense")
    assert "In 1 of 2 cells" in table.title
    assert [row[2:] for row in table.rows] == [("1.30", "1.41", "yes"), ("1.50", "1.41", "no")]


@pytest.mark.parametrize("sparsity", [0.1, 0.3])
def test_the_cosine_is_that_of_the_masks(sparsity: float) -> None:
    """Against two masks drawn at random, of equal density."""
    draw = np.random.default_rng(0)
    order = draw.permutation(1000), draw.permutation(1000)
    first, second = (np.isin(np.arange(1000), each[round(1000 * sparsity) :]) for each in order)
    direct = (first & second).sum() / np.sqrt(first.sum() * second.sum())
    overlap = (~first & ~second).sum() / (~first | ~second).sum()
    assert cosine(float(overlap), sparsity) == pytest.approx(direct, abs=1e-12)


def test_cosines_of_a_run_stand_beside_chance() -> None:
    """The paper's 96.27 % at 10 % is an overlap of 0.497."""
    found = synthetic.record("cifar10/clip/masks-0.1", 0, **{"pruned_iou/magnitude": 0.49703})
    (row,) = cosine_table(Results([found])).rows
    assert row == ("cifar10/clip/masks-0.1", "1", "96.27 %", "90 %")
