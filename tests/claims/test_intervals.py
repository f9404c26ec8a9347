"""Intervals and p values against scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from effi.claims import stats
from effi.errors import ParameterError


def t2_tail(t: float) -> float:
    """P(T > t) of Student's t with two degrees of freedom, in closed form."""
    return 0.5 * (1 - t / math.sqrt(t * t + 2))


def test_interval_matches_scipy() -> None:
    values = [1.0, 2.5, 3.0, 7.0]
    low, high = scipy_stats.t.interval(0.95, 3, loc=np.mean(values), scale=scipy_stats.sem(values))
    assert stats.interval(values) == pytest.approx((np.mean(values), low, high))


def test_interval_of_three_in_closed_form() -> None:
    # The 97.5 % quantile of t with 2 degrees of freedom is (2a - 1) / sqrt(2a(1 - a)) at a = 0.975.
    quantile = 0.95 / math.sqrt(2 * 0.975 * 0.025)
    span = stats.interval([-1.0, 0.0, 1.0])
    assert span == pytest.approx((0.0, -quantile / math.sqrt(3), quantile / math.sqrt(3)))


def test_no_spread_is_no_certainty_but_of_what_is_counted() -> None:
    assert np.std([0.1, 0.1, 0.1]) > 0
    assert stats.interval([0.1, 0.1, 0.1]) == (0.1, -math.inf, math.inf)
    assert stats.interval([0.1, 0.1, 0.1], within=(-1.0, 1.0)) == (0.1, -1.0, 1.0)
    assert stats.interval([7.0, 7.0], counted=True) == (7.0, 7.0, 7.0)
    assert stats.interval([7.0], counted=True) == (7.0, -math.inf, math.inf)


def test_intervals_end_where_the_statistic_does() -> None:
    span = stats.interval([98.0, 99.0, 100.0], within=(0.0, 100.0))
    assert (span.mean, span.high) == (99.0, 100.0)
    assert span.low == stats.interval([98.0, 99.0, 100.0]).low > 96


def test_interval_of_one_value_is_unbounded() -> None:
    assert stats.interval([4.0]) == (4.0, -math.inf, math.inf)


def test_interval_covers_the_mean_in_95_of_100_runs_of_three_seeds() -> None:
    draws = np.random.default_rng(0).normal(2.0, 3.0, (4000, 3))
    spans = [stats.interval(draw) for draw in draws]
    coverage = np.mean([span.low < 2.0 < span.high for span in spans])
    assert coverage == pytest.approx(0.95, abs=0.0105)  # three standard errors of 4000 trials


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_no_values_or_not_finite_ones_are_refused(values: list[float]) -> None:
    with pytest.raises(ParameterError, match="Statistics want"):
        stats.interval(values)


def test_welch_matches_scipy_either_way_round() -> None:
    a, b = [1.0, 2.0, 4.0], [2.0, 7.0, 6.0, 9.0]
    expected = scipy_stats.ttest_ind(a, b, equal_var=False).pvalue
    assert stats.welch(a, b) == pytest.approx(expected)
    assert stats.welch(b, a) == pytest.approx(expected)


def test_welch_without_spread_says_nothing() -> None:
    assert math.isnan(stats.welch([1.0, 1.0], [2.0, 2.0]))
    assert math.isnan(stats.welch([1.0], [1.0, 2.0]))


def test_one_sided_p_in_closed_form_and_by_scipy() -> None:
    found = stats.student([0.0, 0.1, 0.2])
    assert found.above(0.05) == pytest.approx(t2_tail(0.05 / (0.1 / math.sqrt(3))))
    assert found.above(0.05) + found.below(0.05) == pytest.approx(1.0)
    values = [0.4, -0.2, 0.9, 0.3, 0.1]
    for line in (-0.5, 0.0, 0.3):
        assert stats.student(values).above(line) == pytest.approx(
            scipy_stats.ttest_1samp(values, line, alternative="greater").pvalue
        )


def test_p_is_below_the_line_where_the_interval_is_beyond_it() -> None:
    generator = np.random.default_rng(0)
    called = set()
    for draw in generator.normal(0.4, 0.3, (300, 3)):
        found = stats.student(draw.tolist())
        assert (found.above(0.0) < stats.ALPHA) == (found.interval.low > 0)
        called.add(found.interval.low > 0)
    assert called == {True, False}


def test_what_is_counted_decides_outright_and_what_shows_no_spread_never() -> None:
    counted, equal = (stats.student([3.0, 3.0], counted=exact) for exact in (True, False))
    assert (counted.above(2.0), counted.below(2.0), counted.above(3.0)) == (0.0, 1.0, 0.5)
    assert (equal.above(2.0), equal.below(2.0)) == (1.0, 1.0)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.04 x 3, 2, 1 = 0.03, 0.04, 0.04, and each at least the one before.
    assert stats.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert stats.holm([0.01, 0.011]) == pytest.approx([0.02, 0.02])
    assert stats.holm([0.6, 0.7]) == [1.0, 1.0]
    assert stats.holm([]) == []


def test_holm_passes_over_what_has_no_p() -> None:
    adjusted = stats.holm([0.01, math.nan, 0.02])
    assert adjusted[::2] == pytest.approx([0.02, 0.02]) and math.isnan(adjusted[1])


def test_holm_keeps_the_error_of_any_of_five() -> None:
    draws = np.random.default_rng(3).uniform(size=(4000, 5))
    wrong = np.mean([min(stats.holm(draw)) < 0.05 for draw in draws])
    assert wrong == pytest.approx(1 - 0.99**5, abs=0.0105)  # 4.9 %: all true, any below 0.05 / 5


def columns(*means: float, seeds: int = 3) -> np.ndarray:
    return np.repeat(np.array(means, dtype=float)[:, None], seeds, axis=1)


def test_kendall_by_hand() -> None:
    assert stats.kendall(columns(1, 2, 3), columns(1, 3, 2)).interval.mean == pytest.approx(1 / 3)
    assert stats.kendall(columns(1, 2, 3, 4), columns(8, 6, 4, 2)).interval.mean == -1
    # One tie in y: 2 concordant of 3 pairs, tau-b = 2 / sqrt(3 * 2).
    assert stats.kendall(columns(1, 2, 3), columns(1, 1, 2)).interval.mean == pytest.approx(2 / math.sqrt(6))


def test_the_interval_of_tau_is_no_point_and_stays_within_its_range() -> None:
    # Nine arms in perfect order but for one pair, at every seed: the units are arms, so that chance is left.
    found = stats.kendall(columns(*range(9)), columns(0, 1, 2, 3, 4, 5, 6, 8, 7))
    assert found.interval.mean == pytest.approx(34 / 36)
    assert -1 <= found.interval.low < found.interval.mean and found.interval.high == 1.0
    again = stats.kendall(columns(*range(9)), columns(0, 1, 2, 3, 4, 5, 6, 8, 7))
    assert (found.interval.low, found.above(0.0)) == (again.interval.low, again.above(0.0))


def test_the_order_of_few_arms_may_be_chance() -> None:
    # All draws of four arms in order are in order, but chance orders four in 1 of 24 cases, five in 1 of 120.
    four, five = (stats.kendall(columns(*range(n)), columns(*range(n))) for n in (4, 5))
    assert (four.interval.mean, four.interval.low, four.above(0.0)) == (1.0, 0.0, pytest.approx(1 / 24))
    assert (five.interval.low, five.interval.high, five.above(0.0)) == (0.0, 1.0, pytest.approx(1 / 120))


def test_draws_of_tau_are_those_of_scipy() -> None:
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(2, 7, 3))
    picks = np.random.default_rng(0)
    arms, seeds = (picks.integers(size, size=(stats.DRAWS, size)) for size in x.shape)
    taus = [
        scipy_stats.kendalltau(*(side[one][:, other].mean(1) for side in (x, y))).statistic
        for one, other in zip(arms[:60], seeds[:60], strict=True)
    ]
    draws = stats.kendall(x, y).draws
    assert all(np.isclose(draws, tau).any() for tau in taus)
    assert len({round(tau, 6) for tau in taus}) > 10


def test_p_of_the_bootstrap_agrees_with_its_interval() -> None:
    generator = np.random.default_rng(2)
    called = set()
    for strength in np.linspace(-2, 2, 40):
        x = generator.normal(size=(8, 3))
        found = stats.kendall(x, strength * x + generator.normal(size=(8, 3)))
        assert (found.above(0.0) < stats.ALPHA) == (found.interval.low > 0)
        assert (found.below(0.0) < stats.ALPHA) == (found.interval.high < 0)
        called |= {found.interval.low > 0, found.interval.high < 0}
    assert called == {True, False}


@pytest.mark.parametrize("y", [columns(1, 1, 1), columns(1, 2), columns(1, 2, 3, seeds=2)])
def test_kendall_refuses_constants_and_unequal_shapes(y: np.ndarray) -> None:
    with pytest.raises(ParameterError):
        stats.kendall(columns(1, 2, 3), y)


def test_slope_matches_the_normal_equations() -> None:
    x, y = np.array([0.1, 0.4, 0.5, 1.0]), np.array([0.2, 0.5, 0.4, 1.1])
    dx = x - x.mean()
    slope = dx @ y / (dx @ dx)
    residual = y - y.mean() - slope * dx
    error = math.sqrt(residual @ residual / 2 / (dx @ dx))
    quantile = 0.95 / math.sqrt(2 * 0.975 * 0.025)
    found = stats.slope(x, y)
    assert (found.interval.mean, found.interval.low, found.interval.high) == pytest.approx(
        (slope, slope - quantile * error, slope + quantile * error)
    )
    assert found.above(0.5) == pytest.approx(t2_tail((slope - 0.5) / error))


def test_slope_edges() -> None:
    for x, y in (([0.0, 2.0], [1.0, 5.0]), ([0, 1, 2], [1, 3, 5])):
        found = stats.slope(x, y)
        assert (found.interval.mean, found.interval.low, found.interval.high, found.above(0.0)) == (
            2.0,
            -math.inf,
            math.inf,
            1.0,
        )
    with pytest.raises(ParameterError, match="x that varies"):
        stats.slope([1.0, 1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.12345, 3, "0.123"),
        (-0.0001, 3, "0.000"),
        (-1.44, 1, "-1.4"),
        (287686.0, 0, "287,686"),
        (999.96, 1, "1000.0"),
        (3e-15, 3, "<1e-14"),
        (-3e-15, 3, ">-1e-14"),
        (0.0, 3, "0.000"),
        (math.inf, 3, "inf"),
    ],
)
def test_numbers_print_stably(value: float, digits: int, text: str) -> None:
    assert stats.number(value, digits) == text


def test_rounding_noise_beside_an_interval_is_zero() -> None:
    assert stats.measured(stats.Interval(4e-17, -0.5, 0.5), 3) == "0.000 [-0.500, 0.500]"


def test_measured_shows_no_interval_where_there_is_none() -> None:
    assert stats.measured(stats.interval([-1.0, -2.0, -1.2]), 3, "points", 1) == "-1.4 points [-2.7, -0.1]"
    assert stats.measured(stats.interval([2.0]), 1) == "2.000"
    assert stats.measured(stats.interval([3e-15]), 1) == "<1e-14"
    assert stats.measured(stats.interval([101470.0, 101470.0], counted=True), 2, digits=0) == "101,470"
    assert stats.measured(stats.interval([0.5, 0.5]), 2) == "0.500"
