"""Student-t intervals, paired differences, equivalence tests and the three-state verdict; no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats as distributions

from effi.errors import ParameterError, did_you_mean

Rule = Literal["ordering", "gain", "no_loss", "equivalence", "bound", "covers"]
Side = Literal["higher", "lower", "equal"]
State = Literal["reproduced", "not reproduced", "inconclusive"]
Direction = Literal["for", "against", "open"]
STATES: tuple[State, ...] = ("reproduced", "not reproduced", "inconclusive")
DIRECTIONS: dict[State, Direction] = {
    "reproduced": "for",
    "not reproduced": "against",
    "inconclusive": "open",
}


class Interval(NamedTuple):
    """Mean and confidence bounds, in the unit of the values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Claim:
    """What the values must do: `margin` in their unit, `target` the limit of a bound or the covered value.

    `margin` is the line that an ordering must clear, the gain below which an interval shows none, what a no_loss may
    cost, the half-width of an equivalence, and the farthest that an interval which covers the target may reach.
    Beyond `refuted`, the second line of a bound, most values must lie before it counts as not reproduced.
    """

    rule: Rule
    direction: Side = "higher"
    margin: float = 0.0
    target: float = 0.0
    refuted: float | None = None
    cap: str | None = None
    name: str = "difference"
    unit: str = ""
    digits: int = 3


@dataclass(frozen=True)
class Verdict:
    """Outcome of one test; `direction` is what the numbers alone say, `state` also obeys the cap."""

    state: State
    mean: float
    low: float
    high: float
    n: int
    direction: Direction
    why: str


def finite(values: Sequence[float], least: int = 1) -> np.ndarray:
    """Float64 of shape (n,). Raises ParameterError for fewer than `least` values, or one not finite."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if array.size < least:
        raise ParameterError(f"Statistics want at least {least} value(s), got {array.size}: run more seeds.")
    if not np.isfinite(array).all():
        raise ParameterError(f"Statistics want finite values, got {array.tolist()}: mend the run.")
    return array


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student-t interval of the mean; one value has infinite bounds. Raises ParameterError without values."""
    array = finite(values)
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -math.inf, math.inf)
    if np.ptp(array) == 0:
        return Interval(*[float(array[0])] * 3)
    error = array.std(ddof=1) / math.sqrt(array.size)
    reach = float(distributions.t.ppf((1 + confidence) / 2, array.size - 1) * error)
    return Interval(mean, mean - reach, mean + reach)


def _t_tail(mean: float, error: float, freedom: float) -> float:
    """P(T > mean / error); a spread of zero decides outright."""
    if error == 0:
        return 0.5 if mean == 0 else float(mean < 0)
    return float(distributions.t.sf(mean / error, freedom))


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of equal means under unequal variances; NaN when a side has fewer than two values."""
    first, second = finite(a), finite(b)
    if min(first.size, second.size) < 2:
        return math.nan
    shares = first.var(ddof=1) / first.size, second.var(ddof=1) / second.size
    weights = shares[0] ** 2 / (first.size - 1) + shares[1] ** 2 / (second.size - 1)
    freedom = sum(shares) ** 2 / weights if weights else 1.0
    return 2 * _t_tail(abs(float(first.mean() - second.mean())), math.sqrt(sum(shares)), freedom)


def tost(values: Sequence[float], margin: float) -> float:
    """p of two one-sided t tests that the mean lies within +-margin; 1 for a single value.

    Raises ParameterError when the margin is not positive.
    """
    array = finite(values)
    if margin <= 0:
        raise ParameterError(f"An equivalence test wants a positive margin, got {margin}.")
    if array.size == 1:
        return 1.0
    error, mean = float(array.std(ddof=1) / math.sqrt(array.size)), float(array.mean())
    return max(_t_tail(margin - mean, error, array.size - 1), _t_tail(margin + mean, error, array.size - 1))


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's tau-b in [-1, 1]. Raises ParameterError when a side is constant or the lengths differ."""
    first, second = finite(x, least=2), finite(y, least=2)
    if first.size != second.size or np.ptp(first) == 0 or np.ptp(second) == 0:
        raise ParameterError("A rank correlation wants two lists of equal length, neither of them constant.")
    return float(distributions.kendalltau(first, second).statistic)


def slope(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Interval:
    """Least-squares slope of y on x with a t interval of n - 2 degrees of freedom; infinite bounds at n = 2.

    Raises ParameterError when x is constant or the lengths differ.
    """
    first, second = finite(x, least=2), finite(y, least=2)
    if first.size != second.size or np.ptp(first) == 0:
        raise ParameterError("A slope wants two lists of equal length and an x that varies.")
    fit = distributions.linregress(first, second)
    if first.size == 2:
        return Interval(float(fit.slope), -math.inf, math.inf)
    reach = float(distributions.t.ppf((1 + confidence) / 2, first.size - 2) * fit.stderr)
    return Interval(float(fit.slope), float(fit.slope) - reach, float(fit.slope) + reach)


def number(value: float, digits: int = 3) -> str:
    """Stable text: `digits` decimals, thousands apart, below 1e-6 the next power of ten as a bound."""
    if 0 < abs(value) < 1e-6:
        return f"{'>-' if value < 0 else '<'}1e{math.floor(math.log10(abs(value))) + 1}"
    return _rounded(value, digits)


def _rounded(value: float, digits: int) -> str:
    if abs(value) >= 1000 and math.isfinite(value):
        return f"{value:,.0f}"
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _above(span: Interval, line: float) -> State:
    if span.low > line:
        return "reproduced"
    return "not reproduced" if span.high < line else "inconclusive"


def _towards(span: Interval, direction: Side) -> Interval:
    """The interval mirrored where lower is better, so that what is claimed always points upwards."""
    return Interval(-span.mean, -span.high, -span.low) if direction == "lower" else span


def no_loss(span: Interval, margin: float, direction: Side = "higher") -> State:
    """Whether a change surely costs less than the margin, surely more, or neither: the one rule for margins."""
    return _above(_towards(span, direction), -margin)


def _ordering(span: Interval, claim: Claim) -> State:
    return _above(_towards(span, claim.direction), claim.margin)


def _no_loss(span: Interval, claim: Claim) -> State:
    return no_loss(span, claim.margin, claim.direction)


def _equivalence(span: Interval, claim: Claim) -> State:
    if -claim.margin < span.low and span.high < claim.margin:
        return "reproduced"
    return "not reproduced" if max(span.low, -span.high) > claim.margin else "inconclusive"


def _covers(span: Interval, claim: Claim) -> State:
    if not span.low <= claim.target <= span.high:
        return "not reproduced"
    reach = max(claim.target - span.low, span.high - claim.target)
    return "reproduced" if reach < claim.margin else "inconclusive"


def _gain(span: Interval, claim: Claim) -> State:
    towards = _towards(span, claim.direction)
    if towards.low > 0:
        return "reproduced"
    small = -claim.margin < towards.low and towards.high < claim.margin
    return "not reproduced" if small or towards.high < 0 else "inconclusive"


_RULES: dict[str, Callable[[Interval, Claim], State]] = {
    "ordering": _ordering,
    "gain": _gain,
    "no_loss": _no_loss,
    "equivalence": _equivalence,
    "covers": _covers,
}
_RELATIONS: dict[Side, tuple[str, Callable[[float, float], bool]]] = {
    "lower": ("<=", lambda value, limit: value <= limit),
    "higher": (">=", lambda value, limit: value >= limit),
    "equal": ("==", lambda value, limit: value == limit),
}


def _check(claim: Claim) -> None:
    if claim.rule not in (*_RULES, "bound"):
        raise ParameterError(f"Unknown rule {claim.rule!r}{did_you_mean(claim.rule, (*_RULES, 'bound'))}")
    if claim.direction not in _RELATIONS or (claim.direction == "equal" and claim.rule != "bound"):
        raise ParameterError(f"A rule {claim.rule!r} cannot point {claim.direction!r}: use higher or lower.")
    if claim.rule in ("equivalence", "covers", "gain") and claim.margin <= 0:
        raise ParameterError(f"A rule {claim.rule!r} wants a positive margin, got {claim.margin}.")
    if claim.rule == "no_loss" and claim.margin < 0:
        raise ParameterError(f"A rule 'no_loss' wants a margin of at least 0, got {claim.margin}.")


def _line(value: float) -> str:
    """Text of a threshold: exact where `number` would only give a bound or round it away."""
    return number(value) if abs(value) >= 1000 else f"{round(value, 3) if abs(value) >= 1e-3 else value:g}"


def _wanted(claim: Claim) -> str:
    sign = -1 if claim.direction == "lower" else 1
    unit = " %" if claim.unit == "%" else ""
    return {
        "ordering": f"claimed {'below' if sign < 0 else 'above'} {_line(sign * claim.margin + 0.0)}{unit}",
        "gain": f"claimed {'below' if sign < 0 else 'above'} 0, a tie within ±{_line(claim.margin)}{unit}",
        "no_loss": f"margin {_line(-sign * claim.margin + 0.0)}{unit}",
        "equivalence": f"margin ±{_line(claim.margin)}{unit}",
        "covers": f"target {_line(claim.target)} ± {_line(claim.margin)}{unit}",
        "bound": f"limit {_RELATIONS[claim.direction][0]} {_line(claim.target)}{unit}"
        + ("" if claim.refuted is None else f", refuted beyond {_line(claim.refuted)}{unit}"),
    }[claim.rule]


def measured(span: Interval, n: int, unit: str = "", digits: int = 3) -> str:
    """Mean with unit and interval: "-1.4 points [-2.0, -0.8]"; one value, or equal ones, show no interval."""
    suffix = f" {unit}" if unit else ""
    if n == 1 or span.low == span.high:
        return number(span.mean, digits) + suffix
    # Beside an interval a tiny mean is rounding noise, which another machine rounds otherwise.
    mean, low, high = (_rounded(value, digits) for value in span)
    return f"{mean}{suffix} [{low}, {high}]"


def _why(span: Interval, n: int, claim: Claim) -> str:
    reason = f"{claim.name} {measured(span, n, claim.unit, claim.digits)}, {_wanted(claim)}, n={n}"
    if n == 1 and claim.rule != "bound":
        reason += "; one value has no interval"
    return reason + (f"; capped: {claim.cap}" if claim.cap else "")


def _bound(values: np.ndarray, claim: Claim) -> State:
    holds = _RELATIONS[claim.direction][1]
    if all(holds(value, claim.target) for value in values):
        return "reproduced"
    beyond = sum(not holds(value, claim.target if claim.refuted is None else claim.refuted) for value in values)
    return "not reproduced" if claim.refuted is None or 2 * beyond > len(values) else "inconclusive"


def verdict(values: Sequence[float], claim: Claim) -> Verdict:
    """Judge by the 95 % interval; a bound must hold for every value, and its low and high are the extremes.

    Equivalence by this interval is TOST at 2.5 % a side. Raises ParameterError for no or non-finite values,
    or a claim whose rule, direction or margin makes no sense.
    """
    _check(claim)
    array = finite(values)
    if claim.rule == "bound":
        span = Interval(float(array.mean()), float(array.min()), float(array.max()))
        found = _bound(array, claim)
    else:
        span = interval(values)
        found = _RULES[claim.rule](span, claim)
    state: State = "inconclusive" if claim.cap else found
    return Verdict(state, *span, array.size, DIRECTIONS[found], _why(span, array.size, claim))
