"""data/papers/early_bird.toml: each claim is for, against or open on records made up for it."""

from __future__ import annotations

from typing import Any

import pytest

from effi.claims import ClaimRow, Results, judge
from effi.claims.papers import load
from tests.claims.synthetic import record

EARLY_BIRD = load("early_bird")
FULL = {"training": {"epochs": 200}, "data": {"subset": {"whole": 1}}, "model": {"full": 1}, "full": 1}
TEXT = FULL | {"training": {"epochs": 3}}
REMOVED = "heads and neurons removed in place of single weights"
NOISE = (-0.0003, 0.0, 0.0003)


def arms(name: str, settings: dict[str, Any] = FULL, **metrics: float) -> list[dict[str, Any]]:
    """Three seeds of an arm whose metrics scatter by a few hundredths of a point; counts and bytes do not."""
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


@pytest.mark.parametrize(("share", "here"), [(0.25, "for"), (0.3, "open"), (0.6, "against"), (2.0, "against")])
def test_vision_tickets_are_early_in_the_first_quarter_and_never_is_late(share, here):
    row = judged("C1", draws(share))
    assert row.as_in_the_paper.here == row.fair.here == here


@pytest.mark.parametrize(
    ("one", "three", "here"),
    [
        (-0.005, -0.03, "for"),
        (-0.02, -0.03, "against"),
        (-0.005, -0.05, "against"),
        (-0.01, -0.035, "open"),
    ],
)
def test_the_margins_of_the_vit_are_one_and_three_and_a_half_points(one, three, here):
    records = scores("cifar10/vit/dense", 0.8) + scores("cifar10/vit/long", 0.8)
    records += scores("cifar10/vit/eb-0.1", 0.8 + one) + scores("cifar10/vit/eb-0.3", 0.8 + three)
    row = judged("C2", records)
    assert row.as_in_the_paper.here == row.fair.here == here


def test_the_fair_verdict_gives_the_dense_model_the_search_epochs():
    records = scores("cifar10/vit/dense", 0.8) + scores("cifar10/vit/long", 0.85)
    records += scores("cifar10/vit/eb-0.1", 0.8) + scores("cifar10/vit/eb-0.3", 0.8)
    row = judged("C2", records)
    assert (row.as_in_the_paper.here, row.fair.here) == ("for", "against")


@pytest.mark.parametrize(("ratio", "here"), [(0.19, "for"), (0.21, "against")])
def test_language_masks_move_at_most_a_fifth(ratio, here):
    names = {f"share_{rule}_{p}": 0.1 for rule in ("consecutive", "epochs") for p in (0.1, 0.3)}
    records = arms("imdb/gpt2/dense", TEXT, **names) + arms("imdb/roberta/dense", TEXT, **names)
    records += arms("check/C4", FULL, **{f"distance_ratio_{p}": ratio for p in (0.1, 0.3)})
    row = judged("C4", records)
    assert row.as_in_the_paper.here == row.fair.here == here


@pytest.mark.parametrize(("gain", "here"), [(0.02, "for"), (-0.02, "against"), (0.0, "open")])
def test_gpt2_tickets_must_beat_the_dense_model(gain, here):
    records = scores("imdb/gpt2/dense", 0.9, TEXT)
    records += scores("imdb/gpt2/eb-0.1", 0.9 + gain, TEXT) + scores("imdb/gpt2/eb-0.3", 0.9 + gain, TEXT)
    assert judged("C5", records).fair.here == here


@pytest.mark.parametrize(("structured", "here"), [(79, "for"), (85, "open"), (96, "against")])
def test_masks_on_dense_tensors_save_no_memory_and_removal_may(structured, here):
    held = {"dense": 100, "eb-0.1": 106, "eb-0.3": 106, "structured": structured}
    row = judged("C7", arms("check/C7", {}, **{f"training_bytes/{name}": value for name, value in held.items()}))
    # Counted for the model of the paper's size: no training, so that masks miss nothing of its protocol.
    assert (row.as_in_the_paper.here, row.as_in_the_paper.protocol) == ("against", "not reproduced")
    assert (row.fair.here, row.fair.lacking) == (here, REMOVED)


@pytest.mark.parametrize(
    ("initial", "here"),
    [(0.78, "for"), (0.8, "against"), (0.82, "against")],
)
def test_a_tie_with_a_mask_that_needs_no_search_says_that_the_search_adds_nothing(initial, here):
    records = [row for p in (0.1, 0.3) for row in scores(f"cifar10/vit/eb-{p}", 0.8)]
    records += [row for p in (0.1, 0.3) for row in scores(f"cifar10/vit/random-{p}", 0.7)]
    records += [row for p in (0.1, 0.3) for row in scores(f"cifar10/vit/initial-{p}", initial)]
    assert judged("C8", records).as_in_the_paper.here == here


def test_the_fair_reading_asks_for_the_search_also_where_masks_differ_more():
    fair = next(claim for claim in EARLY_BIRD.claims if claim.id == "C8").tests["fair"]
    assert fair[0].each["p"] == ("0.1", "0.3", "0.7", "0.9")
    assert all("late" not in test.each["other"] for test in fair)


@pytest.mark.parametrize(("masked", "here"), [(109, "against"), (100, "for")])
def test_search_and_ticket_are_held_against_dense_training_in_flops(masked, here):
    groups = ("cifar10/vit", "cifar10/swin", "sst2/gpt2", "sst2/roberta")
    records = [row for group in groups for row in arms(f"{group}/dense", TEXT)]
    records += [row for group in groups for p in (0.1, 0.3) for row in arms(f"{group}/eb-{p}", TEXT)]
    for row in records:
        row["cost"]["flops"] = masked if "eb-" in row["arm"] else 100
    found = judged("C9", records).as_in_the_paper
    assert (found.here, len(found.evidence)) == (here, 8)
    # Arithmetic of any length settles that it costs more; that it costs less on one text does not speak of another.
    assert found.protocol == ("not reproduced" if here == "against" else "not reached")


@pytest.mark.parametrize(
    ("removed", "short", "here"), [(0.7, 0.8, "for"), (0.7, 0.6, "against"), (1.1, 1.2, "against"), (1.0, 1.2, "open")]
)
def test_removal_is_held_against_dense_training_and_its_short_schedule_in_seconds(removed, short, here):
    ratios = {"cifar10/vit/structured": 0.7, "sst2/minilm/structured": removed, "sst2/minilm/short": short}
    records = [record("check/C9", seed, settings={"full": 1}) for seed in range(3)] + arms("sst2/minilm/dense")
    for row, noise in zip(records, NOISE, strict=False):
        row["metrics"] |= {
            f"time_ratio/{name}": ratio + noise * (1 + 3 * name.endswith("structured"))
            for name, ratio in ratios.items()
        }
    found = judged("C9", records).fair
    assert (found.here, found.reached) == (here, False)
    assert found.lacking == f"{REMOVED}, sst2 in place of imdb, minilm in place of gpt2 and roberta"


def test_a_ticket_that_was_never_drawn_leaves_its_claims_open():
    records = scores("cifar10/vit/dense", 0.8) + arms("cifar10/vit/eb-0.1", found=-1, closest=0.12)
    row = judged("C2", records)
    assert row.as_in_the_paper.here == "not run"
    assert "Not available: cifar10/vit/eb-0.1 holds no 'validation_accuracy'" in row.as_in_the_paper.why


def test_a_small_run_speaks_here_and_not_of_the_protocol():
    small = {"training": {"epochs": 10}, "data": {"subset": {"whole": 0}}, "model": {"full": 0}}
    records = scores("cifar10/vit/dense", 0.8, small) + scores("cifar10/vit/eb-0.1", 0.8, small)
    records += scores("cifar10/vit/eb-0.3", 0.8, small)
    found = judged("C2", records).as_in_the_paper
    assert (found.here, found.protocol) == ("for", "not reached")
    assert found.lacking == "10 epochs of 200, data not whole, model not full"


def test_names_are_there_for_what_claims_compare():
    tests = [test for claim in EARLY_BIRD.claims for tests in claim.tests.values() for test in tests]
    named = {value for test in tests for key in ("model", "dataset", "other") for value in test.each.get(key, ())}
    assert named <= set(EARLY_BIRD.names)


def test_the_table_of_identities_follows_from_exact_counts():
    for p, largest, independent, half, most in EARLY_BIRD.tables["identities"]["rows"]:
        assert largest == pytest.approx(2 * min(p, 1 - p))
        assert independent == pytest.approx(2 * p * (1 - p))
        assert [half, most] == [f"{round(100 * (1 - d / (2 * p)), 1):g} %" for d in (0.1, 0.01)]


def test_the_paper_prints_these_gaps():
    vit, swin = EARLY_BIRD.tables["paper"]["rows"][:2]
    assert [round(x - vit[2], 2) for x in vit[3:]] == [-0.81, -3.06]
    assert [round(x - swin[2], 2) for x in swin[3:]] == [0.04, -0.55]
