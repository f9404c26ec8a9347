"""Estimates with their intervals, and what they say of a claim; no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple, Protocol

import numpy as np
from scipy import stats as distributions

from effi.errors import ParameterError, did_you_mean

Rule = Literal["ordering", "gain", "no_loss", "equivalence", "within", "bound", "discordance"]
Side = Literal["higher", "lower", "equal"]
Direction = Literal["for", "against", "open"]
Spread = Literal["95 % interval", "range", "count"]

# One-sided: two of them leave the 95 % interval.
ALPHA = 0.025
ANYWHERE = (-math.inf, math.inf)
# Of the bootstrap; one more is a multiple of 1 / ALPHA, so that its interval and its p agree to the last draw.
DRAWS = 1999


class Interval(NamedTuple):
    """Mean and confidence bounds, in the unit of the values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Claim:
    """What the values must do, in their unit.

    `margin` is the gain below which an interval shows none, what a no_loss may cost, and the half-width of an
    equivalence; `target` the line of an ordering and the limit of a bound; `limits` what "within" must lie between.
    `refuted` is a second line: beyond that of a bound most values must lie before it speaks against the claim; an
    ordering is refuted by an interval wholly short of it, by default of the target.
    """

    rule: Rule
    direction: Side = "higher"
    margin: float = 0.0
    target: float = 0.0
    limits: tuple[float, float] = (0.0, 0.0)
    refuted: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What one test says: mean, bounds, standard deviation of its n values, and one-sided p.

    `p_for` is that of the null hypothesis that the claim does not hold, `p_against` of the one that it does; NaN where
    every value must hold, which needs no inference, and for the p against a discordance. `low` and `high` are the 95 %
    interval, the range of the values, or of a count NaN.
    """

    direction: Direction
    mean: float
    low: float
    high: float
    sd: float
    n: int
    spread: Spread
    p_for: float = math.nan
    p_against: float = math.nan


class Tested(Protocol):
    """A statistic with its 95 % interval, and how sure it is that the true value lies above or below a line."""

    @property
    def interval(self) -> Interval:
        """The statistic and its interval."""

    @property
    def sd(self) -> float:
        """Standard deviation of the values it is made of."""

    @property
    def n(self) -> int:
        """How many those are."""

    def above(self, line: float) -> float:
        """p of the null hypothesis that the true value is at most the line."""

    def below(self, line: float) -> float:
        """p of the null hypothesis that the true value is at least the line."""


@dataclass(frozen=True)
class Student:
    """A mean that Student's t tells of; `error` is its standard error, 0 of what is counted, NaN where unknown."""

    interval: Interval
    sd: float
    n: int
    error: float
    freedom: float

    def above(self, line: float) -> float:
        """As of `Tested`."""
        return _t_tail(self.interval.mean - line, self.error, self.freedom)

    def below(self, line: float) -> float:
        """As of `Tested`."""
        return _t_tail(line - self.interval.mean, self.error, self.freedom)


@dataclass(frozen=True, eq=False)
class Resampled:
    """A correlation whose sorted bootstrap draws tell of it, `independent` the p of none at all, above 0 and below.

    Few arms in order are soon so in every draw: what no correlation gives as easily is no evidence of one.
    """

    interval: Interval
    sd: float
    n: int
    draws: np.ndarray
    independent: tuple[float, float]

    def above(self, line: float) -> float:
        """As of `Tested`."""
        drawn = float(1 + (self.draws <= line).sum()) / (1 + self.draws.size)
        return max(drawn, self.independent[0]) if line >= 0 else drawn

    def below(self, line: float) -> float:
        """As of `Tested`."""
        drawn = float(1 + (self.draws >= line).sum()) / (1 + self.draws.size)
        return max(drawn, self.independent[1]) if line <= 0 else drawn


def finite(values: Sequence[float], least: int = 1) -> np.ndarray:
    """Float64 of shape (n,). Raises ParameterError for fewer than `least` values, or one not finite."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if array.size < least:
        raise ParameterError(f"Statistics want at least {least} value(s), got {array.size}: run more seeds.")
    if not np.isfinite(array).all():
        raise ParameterError(f"Statistics want finite values, got {array.tolist()}: mend the run.")
    return array


def student(values: Sequence[float], *, within: tuple[float, float] = ANYWHERE, counted: bool = False) -> Student:
    """Mean of a sample, its interval cut to what the statistic can be.

    Without spread - one value, or equal ones - the interval is all of `within`, unless the values are counted exactly.
    Raises ParameterError without values.
    """
    array = finite(values)
    mean, n = float(array.mean()), array.size
    sd = _deviation(array)
    if np.ptp(array) == 0:
        exact, mean = counted and n > 1, float(array[0])
        span = Interval(mean, *((mean, mean) if exact else within))
        return Student(span, sd, n, 0.0 if exact else math.nan, n - 1)
    return _by_t(mean, sd, n, sd / math.sqrt(n), n - 1, within)


def _deviation(array: np.ndarray) -> float:
    """Standard deviation, 0 of equal values whatever their rounding, NaN of a single one."""
    if array.size == 1:
        return math.nan
    return float(array.std(ddof=1)) if np.ptp(array) else 0.0


def _by_t(mean: float, sd: float, n: int, error: float, freedom: int, within: tuple[float, float]) -> Student:
    reach = float(distributions.t.ppf(1 - ALPHA, freedom) * error)
    span = Interval(mean, max(within[0], mean - reach), min(within[1], mean + reach))
    return Student(span, sd, n, error, freedom)


def interval(values: Sequence[float], *, within: tuple[float, float] = ANYWHERE, counted: bool = False) -> Interval:
    """95 % interval of the mean by Student's t, see `student`: no spread is no certainty."""
    return student(values, within=within, counted=counted).interval


def _t_tail(distance: float, error: float, freedom: float) -> float:
    """P(T > distance / error); what is counted decides outright, what has no known error not at all."""
    if math.isnan(error):
        return 1.0
    if error == 0:
        return 0.5 if distance == 0 else float(distance < 0)
    return float(distributions.t.sf(distance / error, freedom))


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of equal means under unequal variances; NaN without spread, or with fewer than two values a side."""
    first, second = finite(a), finite(b)
    if min(first.size, second.size) < 2 or np.ptp(first) == np.ptp(second) == 0:
        return math.nan
    return float(distributions.ttest_ind(first, second, equal_var=False).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p adjusted for the error of any of them, step down (Holm 1979), in the order given; NaN are no tests and stay."""
    adjusted = np.asarray(p, dtype=np.float64).copy()
    tests = np.flatnonzero(~np.isnan(adjusted))
    order = tests[np.argsort(adjusted[tests], kind="stable")]
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(adjusted[order] * np.arange(order.size, 0, -1)))
    return [float(each) for each in adjusted]


def kendall(x: np.ndarray, y: np.ndarray) -> Resampled:
    """Kendall's tau-b of the means of arms, x and y of shape (arms, seeds) with the seeds in common.

    The 95 % interval is that of a bootstrap over arms and over seeds, always of the same draws, within [-1, 1]. It
    reaches to 0 where the order of so few arms may be chance, by an exact test of independence, and where all draws
    agree. Raises ParameterError for shapes that differ, fewer than three arms, or a side that is constant.
    """
    if x.shape != y.shape or x.ndim != 2 or len(x) < 3:
        raise ParameterError(
            "A rank correlation wants two tables of equal shape, arms by seeds, of three arms or more."
        )
    if min(np.ptp(side.mean(1)) for side in (x, y)) == 0:
        raise ParameterError("A rank correlation wants two lists of equal length, neither of them constant.")
    greater, less = (distributions.kendalltau(x.mean(1), y.mean(1), alternative=side) for side in ("greater", "less"))
    draws, tau = _resampled(x, y), float(greater.statistic)
    independent = float(greater.pvalue), float(less.pvalue)
    cut = round(ALPHA * (draws.size + 1)) - 2
    agreed = draws[cut] == draws[-1 - cut]
    low = min(float(draws[cut]), 0.0 if independent[0] >= ALPHA or agreed else 1.0)
    high = max(float(draws[-1 - cut]), 0.0 if independent[1] >= ALPHA or agreed else -1.0)
    return Resampled(Interval(tau, low, high), float(draws.std(ddof=1)), len(x), draws, independent)


def _resampled(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sorted tau-b of arms and seeds drawn with replacement; a draw that leaves a side constant says 0."""
    generator = np.random.default_rng(0)
    arms, seeds = (generator.integers(size, size=(DRAWS, size)) for size in first.shape)
    ranked = [np.sign(_apart(side[arms[:, :, None], seeds[:, None, :]].mean(2))) for side in (first, second)]
    scale = np.sqrt(np.prod([(side**2).sum((1, 2)) for side in ranked], axis=0))
    agreement = (ranked[0] * ranked[1]).sum((1, 2))
    return np.sort(np.divide(agreement, scale, out=np.zeros(DRAWS), where=scale > 0))


def _apart(means: np.ndarray) -> np.ndarray:
    """Differences of every pair, (draws, arms, arms)."""
    return means[:, :, None] - means[:, None, :]


def slope_weights(x: Sequence[float], groups: Sequence[str]) -> np.ndarray:
    """Weights (n,) of y whose weighted sum is its least-squares slope on x, with an intercept for each group.

    Raises ParameterError where x is the same throughout each group.
    """
    array, members = finite(x), np.asarray(groups)
    for group in set(groups):
        array[members == group] -= array[members == group].mean()
    if np.allclose(array, 0):
        raise ParameterError("A slope wants two different x or more within a group.")
    return array / (array**2).sum()


def slope(x: Sequence[float], y: Sequence[float]) -> Student:
    """Least-squares slope of y on x, a point each, with a t interval of n - 2 degrees of freedom.

    Two points, or more on one line, show no spread. ParameterError when x is constant or the lengths differ.
    """
    first, second = finite(x, least=2), finite(y, least=2)
    if first.size != second.size or np.ptp(first) == 0:
        raise ParameterError("A slope wants two lists of equal length and an x that varies.")
    fit, n = distributions.linregress(first, second), first.size
    if n == 2 or fit.stderr == 0:
        return Student(Interval(float(fit.slope), *ANYWHERE), math.nan, n, math.nan, n - 2)
    error = float(fit.stderr)
    return _by_t(float(fit.slope), error * math.sqrt(n), n, error, n - 2, ANYWHERE)


# --- text --------------------------------------------------------------------------------------------------------


def number(value: float, digits: int = 3) -> str:
    """Stable text: `digits` decimals, thousands apart, below 1e-6 the next power of ten as a bound."""
    if 0 < abs(value) < 1e-6:
        return f"{'>-' if value < 0 else '<'}1e{math.floor(math.log10(abs(value))) + 1}"
    return rounded(value, digits)


def rounded(value: float, digits: int) -> str:
    """A value beside others: a tiny one is rounding noise, which another machine rounds otherwise."""
    if abs(value) >= 1000 and math.isfinite(value):
        return f"{value:,.0f}"
    return f"{round(value, digits) + 0.0:.{digits}f}"


def measured(span: Interval, n: int, unit: str = "", digits: int = 3) -> str:
    """Mean with unit and interval: "-1.4 points [-2.0, -0.8]"; without spread the mean alone."""
    suffix = f" {unit}" if unit else ""
    if n == 1 or span.low == span.high or not (math.isfinite(span.low) and math.isfinite(span.high)):
        return number(span.mean, digits) + suffix
    mean, low, high = (rounded(value, digits) for value in span)
    return f"{mean}{suffix} [{low}, {high}]"


# --- what estimates say of claims --------------------------------------------------------------------------------


def no_loss(span: Interval, margin: float, direction: Side = "higher") -> Direction:
    """For where a change surely costs less than the margin, against where surely more: the one rule for margins."""
    _, low, high = span if direction == "higher" else Interval(-span.mean, -span.high, -span.low)
    if low > -margin:
        return "for"
    return "against" if high < -margin else "open"


Tails = tuple[float, float]


def _beyond(found: Tested, line: float, direction: Side) -> Tails:
    """p for and p against the true value lying on the claimed side of a line."""
    sides = found.above(line), found.below(line)
    return sides if direction == "higher" else sides[::-1]


def _between(found: Tested, low: float, high: float) -> Tails:
    """Two one-sided tests for lying between the limits; against it the better of two for lying outside."""
    return max(found.above(low), found.below(high)), min(found.above(high), found.below(low))


def _ordering(found: Tested, claim: Claim) -> Tails:
    supports, refutes = _beyond(found, claim.target, claim.direction)
    return supports, refutes if claim.refuted is None else _beyond(found, claim.refuted, claim.direction)[1]


def _no_loss(found: Tested, claim: Claim) -> Tails:
    return _beyond(found, -claim.margin if claim.direction == "higher" else claim.margin, claim.direction)


def _gain(found: Tested, claim: Claim) -> Tails:
    """Against: a tie within the margin, or a loss."""
    gained, lost = _beyond(found, 0.0, claim.direction)
    return gained, min(lost, _between(found, -claim.margin, claim.margin)[0])


def _equivalence(found: Tested, claim: Claim) -> Tails:
    return _between(found, -claim.margin, claim.margin)


def _within(found: Tested, claim: Claim) -> Tails:
    return _between(found, *claim.limits)


_RULES: dict[str, Callable[[Tested, Claim], Tails]] = {
    "ordering": _ordering,
    "gain": _gain,
    "no_loss": _no_loss,
    "equivalence": _equivalence,
    "within": _within,
}
_RELATIONS: dict[Side, Callable[[float, float], bool]] = {
    "lower": lambda value, limit: value <= limit,
    "higher": lambda value, limit: value >= limit,
    "equal": lambda value, limit: value == limit,
}


def _check(claim: Claim) -> None:
    if claim.rule not in (*_RULES, "bound"):
        raise ParameterError(f"Unknown rule {claim.rule!r}{did_you_mean(claim.rule, (*_RULES, 'bound'))}")
    if claim.direction not in _RELATIONS or (claim.direction == "equal" and claim.rule != "bound"):
        raise ParameterError(f"A rule {claim.rule!r} cannot point {claim.direction!r}: use higher or lower.")
    if claim.rule in ("equivalence", "gain") and claim.margin <= 0:
        raise ParameterError(f"A rule {claim.rule!r} wants a positive margin, got {claim.margin}.")
    if claim.rule == "no_loss" and claim.margin < 0:
        raise ParameterError(f"A rule 'no_loss' wants a margin of at least 0, got {claim.margin}.")
    if claim.rule == "within" and claim.limits[0] >= claim.limits[1]:
        raise ParameterError(f"A rule 'within' wants limits that grow, got {claim.limits}.")


def gap(mean: float, claim: Claim) -> float:
    """How short the half-width of an interval around this mean must be to settle the claim one way or the other."""
    if claim.rule == "ordering":
        return max(abs(mean - line) for line in (claim.target, claim.refuted) if line is not None)
    if claim.rule == "no_loss":
        return abs(mean + (claim.margin if claim.direction == "higher" else -claim.margin))
    if claim.rule == "gain":
        return max(abs(mean), claim.margin - abs(mean))
    limits = claim.limits if claim.rule == "within" else (-claim.margin, claim.margin)
    return min(abs(mean - limit) for limit in limits)


def weigh(found: Tested, claim: Claim) -> Verdict:
    """Judge one estimate, each side at 2.5 %, which is by its 95 % interval. Errors as of `verdict`."""
    _check(claim)
    supports, refutes = _RULES[claim.rule](found, claim)
    # A gain may be too small to matter and yet a gain.
    direction: Direction = "for" if supports < ALPHA else "against" if refutes < ALPHA else "open"
    return Verdict(direction, *found.interval, found.sd, found.n, "95 % interval", supports, refutes)


def _bound(array: np.ndarray, claim: Claim) -> Direction:
    holds = _RELATIONS[claim.direction]
    if all(holds(value, claim.target) for value in array):
        return "for"
    beyond = sum(not holds(value, claim.target if claim.refuted is None else claim.refuted) for value in array)
    return "against" if claim.refuted is None or 2 * beyond > array.size else "open"


def verdict(
    values: Sequence[float], claim: Claim, *, within: tuple[float, float] = ANYWHERE, counted: bool = False
) -> Verdict:
    """Judge a sample by its 95 % interval, see `student`; a bound must hold for every value, its ends are the range.

    Raises ParameterError for no or non-finite values, or a claim whose rule, direction or margin makes no sense.
    """
    _check(claim)
    if claim.rule != "bound":
        return weigh(student(values, within=within, counted=counted), claim)
    array = finite(values)
    ends = float(array.min()), float(array.max())
    return Verdict(_bound(array, claim), float(array.mean()), *ends, _deviation(array), array.size, "range")


class Discordance(NamedTuple):
    """How many of all pairs of arms two scores surely rank apart, and how many alike; `p` is of none apart, by Holm."""

    pairs: int
    apart: int
    alike: int
    p: float

    @property
    def verdict(self) -> Verdict:
        """For: a pair is ranked apart; against: none is, and half of all are ranked alike."""
        direction: Direction = "for" if self.apart else "against" if 2 * self.alike >= self.pairs else "open"
        return Verdict(direction, self.apart, math.nan, math.nan, math.nan, self.pairs, "count", self.p)


def discordance(first: np.ndarray, second: np.ndarray) -> Discordance:
    """Two scores of shape (arms, seeds), of both of which more is better, compared pair by pair of arms.

    A pair is ranked apart where the paired differences over seeds surely favour one arm by the first score and the
    other by the second, after Holm's correction over all pairs; alike where both surely favour the same.
    """
    pairs = combinations(range(len(first)), 2)
    tails = [[_tails(side[i] - side[j]) for side in (first, second)] for i, j in pairs]
    alike = holm([min(max(a[0], b[0]), max(a[1], b[1])) for a, b in tails])
    apart = holm([min(max(a[0], b[1]), max(a[1], b[0])) for a, b in tails])
    return Discordance(len(tails), sum(p < ALPHA for p in apart), sum(p < ALPHA for p in alike), min(apart))


def _tails(differences: np.ndarray) -> Tails:
    found = student(differences.tolist())
    return found.above(0.0), found.below(0.0)
