"""What one test says: each rule on both sides of its line, on the line, with one seed, and with equal ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from effi.claims import stats
from effi.claims.stats import Claim, verdict
from effi.errors import ParameterError
from tests.claims.test_intervals import t2_tail

# Mean 1 and a 95 % interval of half-width 0.1 x 4.303 / sqrt(3) = 0.248.
VALUES = [0.9, 1.0, 1.1]


@pytest.mark.parametrize(
    ("claim", "direction"),
    [
        (Claim("ordering"), "for"),
        (Claim("ordering", "lower"), "against"),
        (Claim("ordering", target=0.7), "for"),
        (Claim("ordering", target=0.8), "open"),
        (Claim("ordering", target=1.3), "against"),
        (Claim("ordering", "lower", target=1.3), "for"),
        (Claim("gain", margin=0.5), "for"),
        (Claim("gain", "lower", margin=0.5), "against"),
        (Claim("no_loss", margin=0.5), "for"),
        (Claim("no_loss", "lower", margin=1.3), "for"),
        (Claim("no_loss", "lower", margin=1.0), "open"),
        (Claim("no_loss", "lower", margin=0.7), "against"),
        (Claim("no_loss", "lower"), "against"),
        (Claim("equivalence", margin=1.3), "for"),
        (Claim("equivalence", margin=1.2), "open"),
        (Claim("equivalence", margin=0.7), "against"),
        (Claim("within", limits=(0.7, 1.3)), "for"),
        (Claim("within", limits=(0.7, 1.2)), "open"),
        (Claim("within", limits=(1.3, 2.0)), "against"),
        (Claim("within", limits=(0.0, 0.7)), "against"),
        (Claim("bound", "lower", target=1.1), "for"),
        (Claim("bound", "lower", target=1.05), "against"),
        (Claim("bound", "higher", target=0.9), "for"),
        (Claim("bound", "equal", target=1.0), "against"),
    ],
)
def test_each_rule_on_both_sides_of_its_line(claim: Claim, direction: str) -> None:
    assert verdict(VALUES, claim).direction == direction


@pytest.mark.parametrize(("rule", "key", "sign"), [("ordering", "target", -1), ("no_loss", "margin", 1)])
def test_lower_is_higher_of_the_negated_values(rule: stats.Rule, key: str, sign: int) -> None:
    for line in np.linspace(0, 2, 21):
        up = verdict(VALUES, Claim(rule, "higher", **{key: line}))
        down = verdict([-value for value in VALUES], Claim(rule, "lower", **{key: sign * line}))
        assert (up.direction, up.p_for, up.p_against) == (down.direction, down.p_for, down.p_against)


@pytest.mark.parametrize(
    "claim", [Claim("ordering", target=2.0), Claim("no_loss", "lower", margin=2.0), Claim("equivalence", margin=2.0)]
)
def test_an_interval_that_ends_on_the_line_settles_nothing(claim: Claim) -> None:
    assert verdict([2.0, 2.0, 2.0], claim, counted=True).direction == "open"


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0, 1.0]])
@pytest.mark.parametrize(
    "claim",
    [Claim("ordering"), Claim("no_loss", margin=1.0), Claim("equivalence", margin=9.0), Claim("within", limits=(0, 9))],
)
def test_without_spread_only_bounds_and_counts_are_settled(claim: Claim, values: list[float]) -> None:
    found = verdict(values, claim, within=(-100.0, 100.0))
    assert (found.direction, found.low, found.high) == ("open", -100.0, 100.0)
    assert verdict(values, Claim("bound", "equal", target=1.0)).direction == "for"
    assert verdict([1.0, 1.0], claim, counted=True).direction == "for"


def test_p_of_each_rule_in_closed_form() -> None:
    error = 0.1 / math.sqrt(3)  # of VALUES, whose mean is 1
    found = verdict(VALUES, Claim("no_loss", "lower", margin=1.3))
    assert found.p_for == pytest.approx(t2_tail(0.3 / error))
    assert found.p_against == pytest.approx(1 - found.p_for)
    inside = verdict(VALUES, Claim("equivalence", margin=1.3))
    assert inside.p_for == pytest.approx(t2_tail(0.3 / error))  # the worse of two one-sided tests
    assert inside.p_against == pytest.approx(1 - found.p_for)
    outside = verdict(VALUES, Claim("within", limits=(1.3, 2.0)))
    assert outside.p_against == pytest.approx(t2_tail(0.3 / error))
    tie = verdict([-0.1, 0.0, 0.1], Claim("gain", margin=0.4))
    assert (tie.p_for, tie.p_against) == pytest.approx((0.5, t2_tail(0.4 / error)))


def test_equivalence_is_two_one_sided_tests_at_two_and_a_half_percent() -> None:
    generator = np.random.default_rng(1)
    found = set()
    for scale in generator.uniform(0.05, 1.0, 200):
        values = generator.normal(0.1, scale, 4)
        below = scipy_stats.ttest_1samp(values, 0.5, alternative="less").pvalue
        above = scipy_stats.ttest_1samp(values, -0.5, alternative="greater").pvalue
        inside = verdict(values, Claim("equivalence", margin=0.5)).direction == "for"
        assert inside == (max(below, above) < 0.025)
        found.add(inside)
    assert found == {True, False}


def test_an_ordering_without_effect_is_seldom_called() -> None:
    draws = np.random.default_rng(2).normal(0.0, 1.0, (2000, 3))
    called = np.mean([verdict(draw, Claim("ordering")).direction != "open" for draw in draws])
    assert called == pytest.approx(0.05, abs=0.015)


def test_a_bound_reports_its_extremes() -> None:
    found = verdict([3.0, 1.0, 2.0], Claim("bound", "lower", target=5))
    assert (found.mean, found.low, found.high, found.sd, found.n) == (2.0, 1.0, 3.0, 1.0, 3)
    assert found.spread == "range" and math.isnan(found.p_for) and math.isnan(found.p_against)


@pytest.mark.parametrize(
    "claim",
    [
        Claim("nothing"),
        Claim("ordering", "equal"),
        Claim("ordering", "up"),
        Claim("equivalence"),
        Claim("within", limits=(1.0, 1.0)),
        Claim("no_loss", margin=-1.0),
    ],
)
def test_claims_that_make_no_sense_are_refused(claim: Claim) -> None:
    with pytest.raises(ParameterError):
        verdict(VALUES, claim)


@pytest.mark.parametrize(
    ("values", "direction"),
    [
        ([0.1, 0.2, 0.3], "open"),  # [-0.05, 0.45] reaches neither above 0 nor below a gain of 0.4
        ([-0.1, 0.0, 0.1], "against"),  # [-0.25, 0.25] shows that there is no gain of 0.4
        ([0.15, 0.2, 0.25], "for"),  # [0.08, 0.32]: small, but a gain
        ([-9.0, 0.0, 9.0], "open"),
        ([-9.0, -5.0, -4.0], "open"),  # [-12.6, 0.6] may be a loss, a tie or a gain
        ([-1.1, -1.0, -0.9], "against"),
    ],
)
def test_a_gain_fails_once_nothing_worth_having_is_left(values: list[float], direction: str) -> None:
    assert verdict(values, Claim("gain", margin=0.4)).direction == direction


@pytest.mark.parametrize(
    ("values", "direction"),
    [
        ([0.1, 0.25], "for"),
        ([0.1, 0.3, 0.3], "open"),
        ([0.1, 0.6, 0.3], "open"),
        ([0.1, 0.6, 2.0], "against"),
    ],
)
def test_a_bound_with_a_second_line_is_refuted_by_most_values_beyond_it(values: list[float], direction: str) -> None:
    assert verdict(values, Claim("bound", "lower", target=0.25, refuted=0.5)).direction == direction


@pytest.mark.parametrize(
    ("values", "direction"),
    [
        ([0.1, 0.2, 0.3], "against"),  # [-0.05, 0.45] lies wholly below 0.5
        ([0.15, 0.2, 0.25], "for"),  # [0.08, 0.32] lies above 0, too
        ([0.1, 0.3, 0.5], "open"),  # [-0.20, 0.80]
        ([-9.0, -5.0, -4.0], "open"),  # [-12.6, 0.6]
        ([-5.0, -4.9, -4.8], "against"),
    ],
)
def test_an_ordering_with_a_second_line_fails_wholly_below_that(values: list[float], direction: str) -> None:
    assert verdict(values, Claim("ordering", refuted=0.5)).direction == direction
    mirrored = verdict([-value for value in values], Claim("ordering", "lower", refuted=-0.5))
    assert mirrored.direction == direction


@pytest.mark.parametrize(
    ("claim", "mean", "gap"),
    [
        (Claim("ordering", target=1.0), 0.4, 0.6),
        (Claim("ordering", refuted=1.0), 0.3, 0.7),
        (Claim("ordering", refuted=1.0), 0.8, 0.8),
        (Claim("ordering", refuted=1.0), -0.2, 1.2),
        (Claim("no_loss", margin=1.0), -0.3, 0.7),
        (Claim("no_loss", "lower", margin=1.0), -0.3, 1.3),
        (Claim("equivalence", margin=1.0), -0.3, 0.7),
        (Claim("equivalence", margin=1.0), 1.5, 0.5),
        (Claim("within", limits=(0.8, 1.25)), 0.9, 0.1),
        (Claim("gain", margin=0.5), 0.1, 0.4),
        (Claim("gain", margin=0.5), 0.4, 0.4),
    ],
)
def test_an_interval_shorter_than_the_gap_settles_a_claim(claim: Claim, mean: float, gap: float) -> None:
    assert stats.gap(mean, claim) == pytest.approx(gap)
    error = gap / float(scipy_stats.t.ppf(0.975, 4))

    def around(share: float) -> stats.Student:
        ends = stats.Interval(mean, mean - share * gap, mean + share * gap)
        return stats.Student(ends, 0.0, 5, share * error, 4)

    assert stats.weigh(around(0.99), claim).direction != "open"
    assert stats.weigh(around(1.01), claim).direction == "open"


def scattered(*means: float) -> np.ndarray:
    """Arms whose five seeds scatter by a hundredth around their mean, each in its own order."""
    around = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    return np.array([mean + np.roll(around, shift) for shift, mean in enumerate(means)])


def test_pairs_that_two_scores_rank_apart_and_alike_are_counted() -> None:
    found = stats.discordance(scattered(1, 2, 3), scattered(1, 3, 2))
    assert (found.pairs, found.apart, found.alike) == (3, 1, 2)
    assert found.verdict.direction == "for" and found.p < 0.025
    agreed = stats.discordance(scattered(1, 2, 3), scattered(1, 2, 3))
    assert (agreed.apart, agreed.alike, agreed.verdict.direction) == (0, 3, "against")
    close = stats.discordance(scattered(1, 1, 1, 2), scattered(1, 1, 1, 2))
    assert (close.apart, close.alike, close.verdict.direction) == (0, 3, "against")
    assert stats.discordance(scattered(1, 1, 1, 1), scattered(1, 2, 3, 4)).verdict.direction == "open"


def test_the_p_of_a_pair_is_that_of_the_weaker_score_times_the_pairs() -> None:
    first, second = scattered(1, 2, 3), np.array([[1, 2, 3, 4, 5], [3, 2, 1, 4, 6.5], [9, 9, 9, 9, 8]], dtype=float)
    ranks = stats.discordance(first, -second)
    weaker = scipy_stats.ttest_1samp(second[1] - second[0], 0, alternative="greater").pvalue
    others = [scipy_stats.ttest_1samp(second[2] - second[i], 0, alternative="greater").pvalue for i in (0, 1)]
    assert ranks.p == pytest.approx(min(3 * min(weaker, *others), 1))
    assert ranks.apart == sum(p < 0.025 for p in stats.holm([weaker, *others]))
    assert ranks.alike == 0


def test_noise_seldom_ranks_a_pair_apart() -> None:
    draws = np.random.default_rng(4).normal(size=(400, 2, 6, 4))
    assert np.mean([stats.discordance(*draw).apart > 0 for draw in draws]) <= 0.025
