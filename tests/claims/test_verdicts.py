"""The three-state verdict: each rule on both sides of its line, on the line, with one seed and under a cap."""

from __future__ import annotations

import numpy as np
import pytest

from effi.claims import stats
from effi.claims.stats import Claim, verdict
from effi.errors import ParameterError

# Mean 1 and a 95 % interval of half-width 0.1 x 4.303 / sqrt(3) = 0.248.
VALUES = [0.9, 1.0, 1.1]


@pytest.mark.parametrize(
    ("claim", "state"),
    [
        (Claim("ordering"), "reproduced"),
        (Claim("ordering", "lower"), "not reproduced"),
        (Claim("ordering", margin=0.7), "reproduced"),
        (Claim("ordering", margin=0.8), "inconclusive"),
        (Claim("ordering", margin=1.3), "not reproduced"),
        (Claim("ordering", "lower", margin=-1.3), "reproduced"),
        (Claim("gain", margin=0.5), "reproduced"),
        (Claim("gain", "lower", margin=0.5), "not reproduced"),
        (Claim("no_loss", margin=0.5), "reproduced"),
        (Claim("no_loss", "lower", margin=1.3), "reproduced"),
        (Claim("no_loss", "lower", margin=1.0), "inconclusive"),
        (Claim("no_loss", "lower", margin=0.7), "not reproduced"),
        (Claim("no_loss", "lower"), "not reproduced"),
        (Claim("equivalence", margin=1.3), "reproduced"),
        (Claim("equivalence", margin=1.2), "inconclusive"),
        (Claim("equivalence", margin=0.7), "not reproduced"),
        (Claim("covers", target=0.9, margin=1.0), "reproduced"),
        (Claim("covers", target=0.9, margin=0.2), "inconclusive"),
        (Claim("covers", target=0.7, margin=1.0), "not reproduced"),
        (Claim("bound", "lower", target=1.1), "reproduced"),
        (Claim("bound", "lower", target=1.05), "not reproduced"),
        (Claim("bound", "higher", target=0.9), "reproduced"),
        (Claim("bound", "equal", target=1.0), "not reproduced"),
    ],
)
def test_each_rule_on_both_sides_of_its_line(claim: Claim, state: str) -> None:
    assert verdict(VALUES, claim).state == state


@pytest.mark.parametrize("rule", ["ordering", "no_loss"])
def test_lower_is_higher_of_the_negated_values(rule: stats.Rule) -> None:
    for line in np.linspace(0, 2, 21):
        up = verdict(VALUES, Claim(rule, "higher", margin=line))
        down = verdict([-value for value in VALUES], Claim(rule, "lower", margin=line))
        assert up.state == down.state


@pytest.mark.parametrize(
    "claim", [Claim("ordering", margin=2.0), Claim("no_loss", "lower", margin=2.0), Claim("equivalence", margin=2.0)]
)
def test_an_interval_that_ends_on_the_line_settles_nothing(claim: Claim) -> None:
    assert verdict([2.0, 2.0, 2.0], claim).state == "inconclusive"


@pytest.mark.parametrize(
    "claim",
    [
        Claim("ordering"),
        Claim("no_loss", margin=1.0),
        Claim("equivalence", margin=9.0),
        Claim("covers", target=1.0, margin=9.0),
    ],
)
def test_one_seed_settles_only_bounds(claim: Claim) -> None:
    found = verdict([1.0], claim)
    assert (found.state, found.direction, found.n) == ("inconclusive", "open", 1)
    assert found.why.endswith("n=1; one value has no interval")
    assert verdict([1.0], Claim("bound", "equal", target=1.0)).state == "reproduced"


def test_a_cap_forces_inconclusive_and_keeps_the_direction() -> None:
    against = verdict(VALUES, Claim("ordering", "lower", cap="20 epochs of 500"))
    assert (against.state, against.direction) == ("inconclusive", "against")
    assert verdict(VALUES, Claim("ordering", cap="x")).direction == "for"
    assert verdict(VALUES, Claim("ordering", margin=1.0, cap="x")).direction == "open"
    assert verdict(VALUES, Claim("ordering")).direction == "for"


def test_equivalence_is_tost_at_two_and_a_half_percent() -> None:
    generator = np.random.default_rng(1)
    states = set()
    for scale in generator.uniform(0.05, 1.0, 200):
        values = generator.normal(0.1, scale, 4)
        inside = verdict(values, Claim("equivalence", margin=0.5)).state == "reproduced"
        assert inside == (stats.tost(values, 0.5) < 0.025)
        states.add(inside)
    assert states == {True, False}


def test_an_ordering_without_effect_is_seldom_called() -> None:
    draws = np.random.default_rng(2).normal(0.0, 1.0, (2000, 3))
    called = np.mean([verdict(draw, Claim("ordering")).state != "inconclusive" for draw in draws])
    assert called == pytest.approx(0.05, abs=0.015)


def test_why_is_made_of_the_numbers() -> None:
    claim = Claim("no_loss", margin=1.0, cap="25 epochs of 500", unit="points", digits=1)
    why = "difference -1.4 points [-2.7, -0.1], margin -1, n=3; capped: 25 epochs of 500"
    assert verdict([-1.0, -2.0, -1.2], claim).why == why


@pytest.mark.parametrize(
    ("claim", "phrase"),
    [
        (Claim("ordering"), "claimed above 0,"),
        (Claim("ordering", "lower"), "claimed below 0,"),
        (Claim("ordering", "lower", margin=0.2), "claimed below -0.2,"),
        (Claim("ordering", margin=-0.5), "claimed above -0.5,"),
        (Claim("no_loss", "lower", margin=5, unit="%"), "margin 5 %,"),
        (Claim("equivalence", margin=0.5), "margin ±0.5,"),
        (Claim("covers", target=1, margin=0.25), "target 1 ± 0.25,"),
        (Claim("bound", "lower", target=1e-10), "limit <= 1e-10,"),
        (Claim("bound", "equal", target=287686), "limit == 287,686,"),
    ],
)
def test_why_names_the_line(claim: Claim, phrase: str) -> None:
    assert phrase in verdict(VALUES, claim).why


def test_a_bound_reports_its_extremes() -> None:
    found = verdict([3.0, 1.0, 2.0], Claim("bound", "lower", target=5))
    assert (found.mean, found.low, found.high, found.n) == (2.0, 1.0, 3.0, 3)


@pytest.mark.parametrize(
    "claim",
    [
        Claim("nothing"),
        Claim("ordering", "equal"),
        Claim("ordering", "up"),
        Claim("equivalence"),
        Claim("covers", target=1.0),
        Claim("no_loss", margin=-1.0),
    ],
)
def test_claims_that_make_no_sense_are_refused(claim: Claim) -> None:
    with pytest.raises(ParameterError):
        verdict(VALUES, claim)


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([0.1, 0.2, 0.3], "inconclusive"),  # [-0.05, 0.45] reaches neither above 0 nor below a gain of 0.4
        ([-0.1, 0.0, 0.1], "not reproduced"),  # [-0.25, 0.25] shows that there is no gain of 0.4
        ([0.15, 0.2, 0.25], "reproduced"),  # [0.08, 0.32]: small, but a gain
        ([-9.0, 0.0, 9.0], "inconclusive"),
        ([-9.0, -5.0, -4.0], "inconclusive"),  # [-12.6, 0.6] may be a loss, a tie or a gain
        ([-1.1, -1.0, -0.9], "not reproduced"),
    ],
)
def test_a_gain_fails_once_nothing_worth_having_is_left(values: list[float], state: str) -> None:
    assert verdict(values, Claim("gain", margin=0.4)).state == state


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([0.1, 0.25], "reproduced"),
        ([0.1, 0.3, 0.3], "inconclusive"),
        ([0.1, 0.6, 0.3], "inconclusive"),
        ([0.1, 0.6, 2.0], "not reproduced"),
    ],
)
def test_a_bound_with_a_second_line_is_refuted_by_most_values_beyond_it(values: list[float], state: str) -> None:
    assert verdict(values, Claim("bound", "lower", target=0.25, refuted=0.5)).state == state
