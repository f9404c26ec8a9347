"""data/papers/early_bird.toml: each claim turns red, green or grey on records made up for it."""

from __future__ import annotations

from typing import Any

import pytest

from effi.claims import ClaimRow, Results, judge
from effi.claims.papers import load
from tests.claims.synthetic import record

EARLY_BIRD = load("early_bird")
FULL = {"training": {"epochs": 200}, "data": {"subset": {"whole": 1}}, "model": {"full": 1}, "full": 1}
TEXT = FULL | {"training": {"epochs": 3}}
NOISE = (-0.001, 0.0, 0.001)


def arms(name: str, settings: dict[str, Any] = FULL, **metrics: float) -> list[dict[str, Any]]:
    """Three seeds of an arm whose metrics scatter by a tenth of a point; counts and bytes do not."""
    steady = {key: value for key, value in metrics.items() if "accuracy" not in key}
    scores = {key: value for key, value in metrics.items() if "accuracy" in key}
    rows = [record(name, seed, settings=settings, **steady) for seed in range(3)]
    for row, noise in zip(rows, NOISE, strict=True):
        row["metrics"] |= {key: value + noise * (1 + len(name) % 3) for key, value in scores.items()}
    return rows


def scores(name: str, accuracy: float, settings: dict[str, Any] = FULL) -> list[dict[str, Any]]:
    return arms(name, settings, validation_accuracy=accuracy, test_accuracy=accuracy)


def judged(claim: str, records: list[dict[str, Any]]) -> ClaimRow:
    return next(row for row in judge(EARLY_BIRD, Results(records)) if row.claim.id == claim)


def draws(share: float, **also: float) -> list[dict[str, Any]]:
    groups = [("cifar10/vit/dense", FULL), ("cifar10/swin/dense", FULL), ("cifar10/vit/constant", FULL)]
    names = {f"share_consecutive_{ratio}": share for ratio in (0.1, 0.3)}
    return [row for name, settings in groups for row in arms(name, settings, **names | also)]


@pytest.mark.parametrize(
    ("share", "state"), [(0.25, "reproduced"), (0.3, "inconclusive"), (0.6, "not reproduced"), (2.0, "not reproduced")]
)
def test_vision_tickets_are_early_in_the_first_quarter_and_never_is_late(share, state):
    row = judged("C1", draws(share))
    assert row.as_in_the_paper.state == row.fair.state == state


@pytest.mark.parametrize(
    ("one", "three", "state"),
    [
        (-0.005, -0.03, "reproduced"),
        (-0.02, -0.03, "not reproduced"),
        (-0.005, -0.05, "not reproduced"),
        (-0.01, -0.035, "inconclusive"),
    ],
)
def test_the_margins_of_the_vit_are_one_and_three_and_a_half_points(one, three, state):
    records = scores("cifar10/vit/dense", 0.8) + scores("cifar10/vit/long", 0.8)
    records += scores("cifar10/vit/eb-0.1", 0.8 + one) + scores("cifar10/vit/eb-0.3", 0.8 + three)
    row = judged("C2", records)
    assert row.as_in_the_paper.state == row.fair.state == state


def test_the_fair_verdict_gives_the_dense_model_the_search_epochs():
    records = scores("cifar10/vit/dense", 0.8) + scores("cifar10/vit/long", 0.85)
    records += scores("cifar10/vit/eb-0.1", 0.8) + scores("cifar10/vit/eb-0.3", 0.8)
    row = judged("C2", records)
    assert (row.as_in_the_paper.state, row.fair.state) == ("reproduced", "not reproduced")


@pytest.mark.parametrize(("ratio", "state"), [(0.19, "reproduced"), (0.21, "not reproduced")])
def test_language_masks_move_at_most_a_fifth(ratio, state):
    names = {f"share_{rule}_{p}": 0.1 for rule in ("consecutive", "epochs") for p in (0.1, 0.3)}
    records = arms("imdb/gpt2/dense", TEXT, **names) + arms("imdb/roberta/dense", TEXT, **names)
    records += arms("check/C4", FULL, **{f"distance_ratio_{p}": ratio for p in (0.1, 0.3)})
    row = judged("C4", records)
    assert row.as_in_the_paper.state == row.fair.state == state


@pytest.mark.parametrize(("gain", "state"), [(0.02, "reproduced"), (-0.02, "not reproduced"), (0.0, "inconclusive")])
def test_gpt2_tickets_must_beat_the_dense_model(gain, state):
    records = scores("imdb/gpt2/dense", 0.9, TEXT)
    records += scores("imdb/gpt2/eb-0.1", 0.9 + gain, TEXT) + scores("imdb/gpt2/eb-0.3", 0.9 + gain, TEXT)
    assert judged("C5", records).fair.state == state


@pytest.mark.parametrize(("structured", "state"), [(79, "reproduced"), (85, "inconclusive"), (96, "not reproduced")])
def test_masks_on_dense_tensors_save_no_memory_and_removal_may(structured, state):
    records = arms("cifar10/vit/dense", training_bytes=100) + arms("cifar10/vit/structured", training_bytes=structured)
    records += arms("cifar10/vit/eb-0.1", training_bytes=106) + arms("cifar10/vit/eb-0.3", training_bytes=106)
    row = judged("C7", records)
    assert (row.as_in_the_paper.state, row.fair.state) == ("not reproduced", state)


@pytest.mark.parametrize(
    ("initial", "state"),
    [(0.78, "reproduced"), (0.8, "not reproduced"), (0.82, "not reproduced")],
)
def test_a_tie_with_a_mask_that_needs_no_search_says_that_the_search_adds_nothing(initial, state):
    records = [row for p in (0.1, 0.3) for row in scores(f"cifar10/vit/eb-{p}", 0.8)]
    records += [row for p in (0.1, 0.3) for row in scores(f"cifar10/vit/random-{p}", 0.7)]
    records += [row for p in (0.1, 0.3) for row in scores(f"cifar10/vit/initial-{p}", initial)]
    assert judged("C8", records).as_in_the_paper.state == state


def test_a_ticket_that_was_never_drawn_leaves_its_claims_open():
    records = scores("cifar10/vit/dense", 0.8) + arms("cifar10/vit/eb-0.1", found=-1, closest=0.12)
    row = judged("C2", records)
    assert row.as_in_the_paper.state == "inconclusive"
    assert "not available" in row.as_in_the_paper.why


def test_a_small_run_settles_nothing():
    small = {"training": {"epochs": 10}, "data": {"subset": {"whole": 0}}, "model": {"full": 0}}
    records = scores("cifar10/vit/dense", 0.8, small) + scores("cifar10/vit/eb-0.1", 0.8, small)
    records += scores("cifar10/vit/eb-0.3", 0.8, small)
    verdict = judged("C2", records).as_in_the_paper
    assert (verdict.state, verdict.direction) == ("inconclusive", "for")
    assert "10 epochs of 200" in verdict.why and "model not full" in verdict.why


def test_the_table_of_identities_follows_from_exact_counts():
    for p, largest, independent, half, most in EARLY_BIRD.tables["identities"]["rows"]:
        assert largest == pytest.approx(2 * min(p, 1 - p))
        assert independent == pytest.approx(2 * p * (1 - p))
        assert [half, most] == [f"{round(100 * (1 - d / (2 * p)), 1):g} %" for d in (0.1, 0.01)]


def test_the_paper_prints_these_gaps():
    vit, swin = EARLY_BIRD.tables["paper"]["rows"][:2]
    assert [round(x - vit[2], 2) for x in vit[3:]] == [-0.81, -3.06]
    assert [round(x - swin[2], 2) for x in swin[3:]] == [0.04, -0.55]
