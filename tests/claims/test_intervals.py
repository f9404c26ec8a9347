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
    low, high = scipy_stats.t.interval(0.9, 3, loc=np.mean(values), scale=scipy_stats.sem(values))
    assert stats.interval(values, 0.9) == pytest.approx((np.mean(values), low, high))


def test_interval_of_three_in_closed_form() -> None:
    # The 97.5 % quantile of t with 2 degrees of freedom is (2a - 1) / sqrt(2a(1 - a)) at a = 0.975.
    quantile = 0.95 / math.sqrt(2 * 0.975 * 0.025)
    span = stats.interval([-1.0, 0.0, 1.0])
    assert span == pytest.approx((0.0, -quantile / math.sqrt(3), quantile / math.sqrt(3)))


def test_equal_values_have_an_interval_of_no_width_whatever_their_rounding() -> None:
    assert np.std([0.1, 0.1, 0.1]) > 0
    assert stats.interval([0.1, 0.1, 0.1]) == (0.1, 0.1, 0.1)


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


def test_welch_without_spread_decides_by_the_means() -> None:
    assert stats.welch([1.0, 1.0], [2.0, 2.0]) == 0.0
    assert stats.welch([1.0, 1.0], [1.0, 1.0]) == 1.0
    assert math.isnan(stats.welch([1.0], [1.0, 2.0]))


def test_tost_in_closed_form_for_three_values() -> None:
    values, error = [0.0, 0.1, 0.2], 0.1 / math.sqrt(3)
    assert stats.tost(values, 0.5) == pytest.approx(t2_tail((0.5 - 0.1) / error))
    assert stats.tost([-value for value in values], 0.5) == pytest.approx(t2_tail(0.4 / error))


def test_tost_matches_the_worse_of_two_one_sided_tests() -> None:
    values = [0.4, -0.2, 0.9, 0.3, 0.1]
    below = scipy_stats.ttest_1samp(values, 0.7, alternative="less").pvalue
    above = scipy_stats.ttest_1samp(values, -0.7, alternative="greater").pvalue
    assert stats.tost(values, 0.7) == pytest.approx(max(below, above))


def test_tost_edges() -> None:
    assert stats.tost([0.2], 1.0) == 1.0
    assert stats.tost([0.2, 0.2], 1.0) == 0.0
    assert stats.tost([2.0, 2.0], 1.0) == 1.0
    with pytest.raises(ParameterError, match="positive margin"):
        stats.tost([0.1, 0.2], 0.0)


def test_kendall_by_hand() -> None:
    assert stats.kendall([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert stats.kendall([1, 2, 3, 4], [8, 6, 4, 2]) == -1
    # One tie in y: 2 concordant of 3 pairs, tau-b = 2 / sqrt(3 * 2).
    assert stats.kendall([1, 2, 3], [1, 1, 2]) == pytest.approx(2 / math.sqrt(6))


@pytest.mark.parametrize("y", [[1.0, 1.0, 1.0], [1.0, 2.0], [3.0]])
def test_kendall_refuses_constants_and_unequal_lengths(y: list[float]) -> None:
    with pytest.raises(ParameterError):
        stats.kendall([1.0, 2.0, 3.0], y)


def test_slope_matches_the_normal_equations() -> None:
    x, y = np.array([0.1, 0.4, 0.5, 1.0]), np.array([0.2, 0.5, 0.4, 1.1])
    dx = x - x.mean()
    slope = dx @ y / (dx @ dx)
    residual = y - y.mean() - slope * dx
    error = math.sqrt(residual @ residual / 2 / (dx @ dx))
    quantile = 0.95 / math.sqrt(2 * 0.975 * 0.025)
    found = stats.slope(x, y)
    assert found == pytest.approx((slope, slope - quantile * error, slope + quantile * error))


def test_slope_edges() -> None:
    assert stats.slope([0.0, 2.0], [1.0, 5.0]) == (2.0, -math.inf, math.inf)
    assert stats.slope([0, 1, 2], [1, 3, 5]) == pytest.approx((2, 2, 2))
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
    assert stats.measured(stats.interval([101470.0, 101470.0]), 2, digits=0) == "101,470"
