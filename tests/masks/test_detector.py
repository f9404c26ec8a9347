"""The three rules on sequences whose draw is known, online and read off a matrix."""

from __future__ import annotations

import pytest
import torch

from effi import masks
from effi.errors import ParameterError
from effi.masks import RULES, TicketDetector, first_draw


def pruned(*positions: int, count: int = 100) -> masks.Mask:
    kept = torch.ones(count, dtype=torch.bool)
    kept[list(positions)] = False
    return {"w": kept}


def drift(epochs: int) -> list[masks.Mask]:
    """N = 100, p = 0.3: each epoch two fresh positions enter the pruned set and its two oldest leave."""
    return [pruned(*((2 * t + i) % 100 for i in range(30))) for t in range(epochs)]


def chain(distances: list[float]) -> torch.Tensor:
    """A distance matrix with these consecutive distances; longer lags do not matter to R1 and R2."""
    size = len(distances) + 1
    matrix = torch.ones(size, size).fill_diagonal_(0)
    for t, value in enumerate(distances, start=1):
        matrix[t, t - 1] = matrix[t - 1, t] = value
    return matrix


def found(rule: str, snapshots: list[masks.Mask], sparsity: float, threshold: float = 0.1) -> int | None:
    detector = TicketDetector(sparsity, threshold=threshold, rule=rule)
    fired = [detector.update(mask) for mask in snapshots]
    assert sum(fired) == (detector.found_at is not None)
    assert detector.found_at is None or fired.index(True) == detector.found_at
    return detector.found_at


@pytest.mark.parametrize(
    ("distances", "consecutive", "queue"),
    [
        ([0.4, 0.2, 0.09, 0.08, 0.07, 0.06, 0.05], 3, 7),
        ([0.09, 0.08, 0.3, 0.09, 0.08, 0.07, 0.06, 0.05], 1, 8),
        ([0.4, 0.3], None, None),
    ],
)
def test_golden_sequences(distances, consecutive, queue):
    assert first_draw(chain(distances), "consecutive", 0.1) == consecutive
    assert first_draw(chain(distances), "queue", 0.1) == queue


def test_steady_drift_settles_one_rule_and_never_another():
    snapshots = drift(12)
    assert masks.distance(snapshots[0], snapshots[1]) == pytest.approx(0.04)
    assert masks.distance(snapshots[0], snapshots[4]) == pytest.approx(0.16)
    assert [found(rule, snapshots, 0.3) for rule in RULES] == [1, 5, None]


def test_equality_fires_the_released_code_but_not_the_paper():
    snapshots = [pruned(*range(5)), pruned(*range(5, 10))] * 3  # every odd lag is exactly 0.1, every even one 0
    assert masks.distance(*snapshots[:2]) == 0.1
    assert found("consecutive", snapshots, 0.05) is None
    assert found("code", snapshots, 0.05) == 4


def test_identical_masks_fire_the_code_at_the_fifth_and_the_queue_when_full():
    assert found("code", [pruned(1, 2)] * 8, 0.02) == 4
    assert found("queue", [pruned(1, 2)] * 8, 0.02) == 5
    assert found("queue", [pruned(1, 2)] * 5, 0.02) is None


@pytest.mark.slow
def test_the_matrix_says_what_the_detector_saw():
    torch.manual_seed(0)
    walk = torch.randn(60, 200).mul(0.05).cumsum(0) + torch.randn(200)
    snapshots = [masks.magnitude({"w": w}, 0.3) for w in walk]
    rows = torch.stack([masks.pack(mask) for mask in snapshots])
    matrix = masks.distance_matrix(rows, 200)
    for rule in RULES:
        for threshold in (0.02, 0.05, 0.1, 0.2):
            assert first_draw(matrix, rule, threshold) == found(rule, snapshots, 0.3, threshold)


def test_the_ticket_is_the_mask_that_fired():
    detector = TicketDetector(0.3, threshold=0.1, rule="queue")
    snapshots = drift(9)
    for mask in snapshots:
        detector.update(mask)
    assert detector.ticket["w"].equal(snapshots[5]["w"])
    assert detector.distances == pytest.approx([0.04] * 8)
    assert detector.closest == pytest.approx(0.04)


def test_no_ticket_is_invented():
    detector = TicketDetector(0.3, threshold=0.01, rule="consecutive")
    for mask in drift(4):
        detector.update(mask)
    assert detector.ticket is None and detector.found_at is None
    assert detector.closest == pytest.approx(0.04)


@pytest.mark.parametrize("options", [{"rule": "queues"}, {"threshold": 0.0}, {"threshold": 1.0}])
def test_a_detector_that_makes_no_sense_is_refused(options):
    with pytest.raises(ParameterError):
        TicketDetector(0.3, **{"threshold": 0.1, "rule": "queue", **options})


@pytest.mark.parametrize("sparsity", [0.0, 1.0, 1.5, -0.1])
def test_a_ratio_outside_zero_and_one_is_refused(sparsity):
    with pytest.raises(ParameterError, match="between 0 and 1"):
        TicketDetector(sparsity, threshold=0.1, rule="queue")


def test_masks_of_another_model_or_sparsity_are_refused():
    detector = TicketDetector(0.3, threshold=0.1, rule="consecutive")
    detector.update(drift(1)[0])
    with pytest.raises(ParameterError, match="masks of one model"):
        detector.update(pruned(*range(60), count=200))
    with pytest.raises(ParameterError, match="sparsity"):
        detector.update(pruned(*range(50)))
