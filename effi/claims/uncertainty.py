"""How sure a mean is: over seeds, over the examples of a finite test set, and of quantities that are positive."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from scipy import stats as distributions
from scipy.optimize import brentq

from effi.claims import measures, stats
from effi.claims.results import Pair
from effi.claims.stats import Interval
from effi.errors import RecordError

if TYPE_CHECKING:
    from effi.records import Record

# What an interval knows of the test set: hits of its examples, its size alone, or nothing.
Basis = Literal["hits", "size", "seeds"]
CONFIDENCE = 1 - 2 * stats.ALPHA
# Below it no p is told.
LEAST_ERROR = 1e-15
MOST_SEEDS, MOST_EXAMPLES = 100, 10**6


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and test examples in its shown unit: `seed_sd` between seeds, `example_sd` between examples.

    `examples` is 0 where nothing is known of them. Intervals end at `lowest` and `highest`; `highest` is also what the
    whole test set is worth, 100 for an accuracy in %. What is `exact` was counted, so that equal values are certain.
    """

    mean: float
    seeds: int
    seed_sd: float
    examples: int = 0
    example_sd: float = 0.0
    lowest: float = -math.inf
    highest: float = math.inf
    basis: Basis = "seeds"
    exact: bool = False

    @property
    def interval(self) -> Interval:
        """Mean and 95 % bounds; all that can be where neither seeds nor examples show a spread: one seed never does."""
        if not self._is_told:
            return Interval(self.mean, self.lowest, self.highest)
        reach = self.reach(self.seeds, self.examples)
        return Interval(self.mean, max(self.lowest, self.mean - reach), min(self.highest, self.mean + reach))

    def reach(self, seeds: int, examples: int, error: float = 1 - CONFIDENCE) -> float:
        """Half-width of the interval that so many seeds and test examples of this spread have; `error` is outside it.

        The half-widths of two t intervals in quadrature (variance estimates recovered from limits: Zou and Donner
        2008). How one seed scatters on one example is in both of them, which errs on the wide side. Two variances under
        Welch and Satterthwaite's degrees of freedom are too narrow where two or three seeds scatter most.
        """
        return math.hypot(self._of_seeds(seeds, error), self._of_examples(examples, error))

    def _of_seeds(self, seeds: int, error: float = 1 - CONFIDENCE) -> float:
        return _t(seeds, error) * self.seed_sd / math.sqrt(seeds)

    def _of_examples(self, examples: int, error: float = 1 - CONFIDENCE) -> float:
        """At least what n examples that all agree leave open: the share q of others with (1 - q)^n = 5 %, about 3/n."""
        if not self.examples:
            return 0.0
        unseen = self.highest * (1 - error ** (1 / examples))
        return max(unseen, _t(examples, error) * self.example_sd / math.sqrt(examples)) if examples > 1 else unseen

    @property
    def sd(self) -> float:
        """Standard deviation between seeds."""
        return self.seed_sd if self.seeds > 1 else math.nan

    @property
    def n(self) -> int:
        """How many seeds it is the mean of."""
        return self.seeds

    def above(self, line: float) -> float:
        """p of the null hypothesis that the true value is at most the line: half the error of the interval so far."""
        return self._tail(self.mean - line)

    def below(self, line: float) -> float:
        """p of the null hypothesis that the true value is at least the line."""
        return self._tail(line - self.mean)

    @property
    def _is_told(self) -> bool:
        """Whether anything shows how sure the mean is."""
        return self.seeds > 1 and bool(self.seed_sd or self.examples or self.exact)

    def _tail(self, distance: float) -> float:
        if not self._is_told:
            return 1.0
        if distance < 0:
            return 1 - self._tail(-distance)
        if distance >= self.reach(self.seeds, self.examples, LEAST_ERROR):
            return LEAST_ERROR / 2
        return float(brentq(partial(self._beyond, distance), LEAST_ERROR, 1.0)) / 2

    def _beyond(self, distance: float, error: float) -> float:
        return self.reach(self.seeds, self.examples, error) - distance

    def wanted(self, line: float) -> str:
        """How many test examples, seeds or both tell this mean from a line where mean and spread stay, in words."""
        gap = abs(self.mean - line)
        if not (self.seed_sd or self.examples):
            return "more seeds"
        examples = _least(lambda n: self.reach(self.seeds, n) < gap, self.examples, MOST_EXAMPLES)
        seeds = _least(lambda n: self.reach(n, self.examples) < gap, self.seeds, MOST_SEEDS)
        if examples and not (seeds and seeds * self.examples < examples * self.seeds):
            return f"about {_rounded_up(examples):,} test examples"
        if seeds:
            return f"about {_rounded_up(seeds)} seeds"
        share = gap / math.sqrt(2)
        examples = _least(lambda n: self._of_examples(n) < share, self.examples, MOST_EXAMPLES)
        seeds = _least(lambda n: self._of_seeds(n) < share, self.seeds, MOST_SEEDS)
        if examples and seeds:
            return f"about {_rounded_up(seeds)} seeds and {_rounded_up(examples):,} test examples"
        return "no number of seeds and test examples in reach"


def _t(count: int, error: float = 1 - CONFIDENCE) -> float:
    return float(distributions.t.isf(error / 2, count - 1))


def _least(enough: Callable[[int], bool], low: int, most: int) -> int | None:
    """The smallest count from `low` to `most` that is enough, if more is never worse; None without one."""
    if low < 1 or not enough(most):
        return None
    high = most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _rounded_up(count: int) -> int:
    """Two digits that count, upwards."""
    step = 10 ** max(0, len(str(count)) - 2)
    return math.ceil(count / step) * step


@dataclass(frozen=True)
class Pooled(Estimate):
    """A weighted sum over cells; `sets` are what each data set's examples add to its error, `examples` all of them."""

    sets: tuple[Estimate, ...] = ()

    def _of_examples(self, examples: int, error: float = 1 - CONFIDENCE) -> float:
        """Of sets that grow alike, each with examples of its own: their half-widths in quadrature."""
        counts = [max(1, round(each.examples * examples / self.examples)) for each in self.sets]
        halves = (each._of_examples(count, error) for each, count in zip(self.sets, counts, strict=True))
        return math.hypot(*halves)


class Sample(NamedTuple):
    """Of a test set: hits (seeds, examples), or their differences; else its size and the most that they can vary."""

    hits: np.ndarray | None = None
    size: int = 0
    worst: float = 0.0


NOTHING = Sample()


def score(records: Sequence[Record], metric: str) -> Estimate:
    """A metric of one arm over its seeds, in the shown unit. Raises RecordError when a seed does not hold it."""
    values = [measures.value(record, metric) for record in records]
    return _estimate(values, metric, measures.bounds(metric), sample(records, metric))


def change(pairs: Sequence[Pair], metric: str) -> Estimate:
    """Arm minus baseline over seeds, on the same test examples, in the shown unit. Errors as of `score`."""
    values = [measures.value(pair.arm, metric) - measures.value(pair.baseline, metric) for pair in pairs]
    return differences(values, metric, sample_of_pairs(pairs, metric))


def sample(records: Sequence[Record], metric: str) -> Sample:
    """What the seeds of one arm tell of the test set; nothing of what is no accuracy."""
    if not is_accuracy(metric):
        return NOTHING
    mean = float(np.mean([measures.value(record, metric) for record in records]))
    return Sample(_hits(records, metric), _size(records, metric), mean * (1 - mean))


def sample_of_pairs(pairs: Sequence[Pair], metric: str) -> Sample:
    """What two arms on the same examples tell of their difference; nothing of what is no accuracy."""
    if not is_accuracy(metric):
        return NOTHING
    sides = [[pair.arm for pair in pairs], [pair.baseline for pair in pairs]]
    ours, theirs = ([measures.value(record, metric) for record in side] for side in sides)
    first, second = (_hits(side, metric) for side in sides)
    # Two classifiers disagree on no more than the misses, or the hits, of both.
    total = float(np.mean(ours) + np.mean(theirs))
    worst = min(total, 2 - total) - float(np.mean([a - b for a, b in zip(ours, theirs, strict=True)])) ** 2
    apart = first - second if first is not None and second is not None and first.shape == second.shape else None
    return Sample(apart, _size([*sides[0], *sides[1]], metric), worst)


class Cell(NamedTuple):
    """One of several tests that are pooled: its shown values, one per seed, its weight, and on what it was tested."""

    values: Sequence[float]
    weight: float
    dataset: str
    tested: Sample


def pooled(cells: Sequence[Cell], within: tuple[float, float], *, exact: bool = False) -> Pooled:
    """The weighted sum of cells over their common seeds, between the ends `within`; `exact` as of an estimate.

    Cells of one data set share its examples, other data sets have examples of their own.
    """
    values = summed(cells)
    spread = float(values.std(ddof=1)) if any(np.ptp(cell.values) for cell in cells) else 0.0
    named = {cell.dataset: [other for other in cells if other.dataset == cell.dataset] for cell in cells}
    sets = tuple(each for own in named.values() if (each := _joined(own)).examples)
    examples = sum(each.examples for each in sets)
    basis = sets[0].basis if len({each.basis for each in sets}) == 1 else "seeds"
    return Pooled(float(values.mean()), len(values), spread, examples, 0.0, *within, basis, exact, sets)


def summed(cells: Sequence[Cell]) -> np.ndarray:
    """The weighted sum of cells at each seed."""
    found: np.ndarray = np.sum([cell.weight * np.asarray(cell.values) for cell in cells], axis=0)
    return found


def _joined(cells: Sequence[Cell]) -> Estimate:
    """What the examples of one data set add: by hits of the weighted sum, else by the worst case of each cell."""
    worth = 100 * sum(abs(cell.weight) for cell in cells)
    none = Estimate(0.0, len(cells[0].values), 0.0, highest=worth)
    hits = [cell.weight * cell.tested.hits for cell in cells if cell.tested.hits is not None]
    if len(hits) == len(cells) and len({each.shape for each in hits}) == 1 and hits[0].shape[1] > 1:
        deviation = 100 * float(np.sum(hits, axis=0).mean(0).std(ddof=1))
        return replace(none, examples=hits[0].shape[1], example_sd=deviation, basis="hits")
    sizes = {cell.tested.size for cell in cells}
    if len(sizes) == 1 and (size := sizes.pop()):
        deviation = 100 * sum(abs(cell.weight) * math.sqrt(max(0.0, cell.tested.worst)) for cell in cells)
        return replace(none, examples=size, example_sd=deviation, basis="size")
    return none


def differences(values: Sequence[float], metric: str, tested: Sample = NOTHING) -> Estimate:
    """Differences of a metric, one per seed, stored as it is, in the shown unit."""
    return _estimate(values, metric, measures.bounds(metric, difference=True), tested)


def _estimate(values: Sequence[float], metric: str, ends: tuple[float, float], tested: Sample) -> Estimate:
    factor, exact = measures.unit(metric).factor, measures.counted(metric)
    spread = factor * float(np.std(values, ddof=1)) if np.ptp(values) else 0.0
    plain = Estimate(factor * float(np.mean(values)), len(values), spread, 0, 0.0, *ends, exact=exact)
    if not is_accuracy(metric):
        return plain
    if tested.hits is not None and tested.hits.shape[1] > 1:
        deviation = factor * float(tested.hits.mean(0).std(ddof=1))
        return replace(plain, examples=tested.hits.shape[1], example_sd=deviation, basis="hits")
    if tested.size:
        return replace(plain, examples=tested.size, example_sd=factor * math.sqrt(max(0.0, tested.worst)), basis="size")
    return plain


def is_accuracy(metric: str) -> bool:
    """Whether a metric is a share of hits, so that the examples of a test set tell of it."""
    return metric.endswith("accuracy") and " - " not in metric


def _hits(records: Sequence[Record], metric: str) -> np.ndarray | None:
    """Hits of every seed on every test example, float (seeds, examples); None where a record does not hold them."""
    held = [marks for record in records if (marks := measures.marks(record, metric)) is not None]
    if len(held) < len(records) or len({len(marks) for marks in held}) != 1:
        return None
    return np.stack(held).astype(float)


def _size(records: Sequence[Record], metric: str) -> int:
    """Predictions that a test metric was measured on, where a part of the test set was asked for; 0 otherwise."""
    sizes = {_predictions(record) for record in records} if "test_" in metric else set()
    return sizes.pop() if len(sizes) == 1 else 0


def _predictions(record: Record) -> int:
    """One for each test example; for each token that follows another in a window of a corpus, as if they were apart.

    What hides tokens, as BERT does, predicts a share that is not known here: a window counts as one.
    """
    subset = measures.setting(record, "data.subset") or {}
    corpus = {"vocabulary", "tokenizer"} & {*subset} and "train" not in subset  # labelled texts are counted
    follows = corpus and record.get("model") != "bert"
    return int(subset.get("test") or 0) * (subset["length"] - 1 if follows else 1)


def positive(values: Sequence[float], *, counted: bool = True) -> Interval:
    """Geometric mean and t interval of the logarithms: of positive quantities and their ratios, never below 0.

    One value has the bounds 0 and infinity, as have equal ones that were not counted; else these are exact. Raises
    RecordError unless all are above 0.
    """
    array = np.asarray(values, dtype=float)
    if not (array > 0).all():
        raise RecordError(f"A cost is {array.min():g}, of which there is no logarithm: measure it again.")
    if len(array) == 1 or np.ptp(array) == 0:
        exact = counted and len(array) > 1
        return Interval(float(array[0]), *((float(array[0]),) * 2 if exact else (0.0, math.inf)))
    logs = np.log(array)
    reach = _t(len(array)) * logs.std(ddof=1) / math.sqrt(len(array))
    return Interval(*(float(np.exp(logs.mean() + shift)) for shift in (0.0, -reach, reach)))


def shown(estimate: Estimate, metric: str, *, difference: bool = False, unit: bool = True) -> str:
    """Mean and 95 % interval as text, with the unit or without."""
    of = measures.unit(metric, difference=difference)
    return stats.measured(estimate.interval, estimate.seeds, of.name if unit else "", of.digits)


def counted(estimate: Estimate) -> str:
    """What an interval is taken over: "3 seeds and 360 test examples"."""
    seeds = f"{estimate.seeds} seed{'s' * (estimate.seeds > 1)}"
    return f"{seeds} and {estimate.examples:,} test examples" if estimate.examples else seeds
