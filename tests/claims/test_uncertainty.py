"""Intervals over seeds and test examples: closed forms, ends, and how often they hold what they should."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats as distributions

from effi.claims import Pair, stats, uncertainty
from effi.claims.uncertainty import Estimate
from effi.errors import RecordError
from effi.records.arms import packed
from tests.claims.synthetic import record


def records(hits: np.ndarray) -> list[dict[str, Any]]:
    """A record per seed of hits, bool (seeds, examples)."""
    made = [record("d/x", seed, test_accuracy=float(own.mean())) for seed, own in enumerate(hits)]
    return [
        {**each, "marks": {"test_accuracy": packed(torch.from_numpy(own))}}
        for each, own in zip(made, hits, strict=True)
    ]


def pairs(ours: np.ndarray, theirs: np.ndarray) -> list[Pair]:
    return [Pair(*each) for each in zip(records(ours), records(theirs), strict=True)]


def t(confidence: float, freedom: int) -> float:
    return float(distributions.t.ppf((1 + confidence) / 2, freedom))


# --- closed forms --------------------------------------------------------------------------------------------


def test_both_half_widths_stand_in_quadrature() -> None:
    found = Estimate(0.0, 3, seed_sd=2.0, examples=100, example_sd=30.0, highest=100.0, lowest=-100.0)
    seeds, examples = t(0.95, 2) * 2.0 / math.sqrt(3), t(0.95, 99) * 3.0
    assert found.interval.high == pytest.approx(math.hypot(seeds, examples))
    assert found.interval.low == -found.interval.high


def losses(*values: float) -> list[dict[str, Any]]:
    return [record("d/x", seed, test_loss=value) for seed, value in enumerate(values)]


def test_without_a_test_set_it_is_the_interval_over_seeds() -> None:
    found = uncertainty.score(losses(1.1, 1.25, 1.3), "test_loss").interval
    assert found == pytest.approx(stats.interval([1.1, 1.25, 1.3]))


def test_no_interval_leaves_what_its_metric_can_be() -> None:
    span = stats.interval([0.1, 0.25, 0.3])
    assert uncertainty.score(losses(0.1, 0.25, 0.3), "test_loss").interval == pytest.approx((span.mean, 0.0, span.high))
    assert uncertainty.differences([0.2, -0.1, 0.3], "test_loss").interval.low < 0
    apart = uncertainty.differences([-0.9, 0.1, 0.9], "validation_accuracy").interval
    assert (apart.low, apart.high) == (-100.0, 100.0)


def test_a_difference_of_two_accuracies_has_no_hits_and_no_worst_case() -> None:
    settings = {"data": {"subset": {"test": 400}}}
    made = [record("d/x", s, settings=settings, test_accuracy=0.8 + s / 100, train_accuracy=0.9) for s in range(3)]
    assert uncertainty.score(made, "test_accuracy - train_accuracy").basis == "seeds"


@pytest.mark.parametrize(("examples", "points"), [(24, 11.73), (36, 7.98), (300, 0.994), (3000, 0.0998)])
def test_where_no_example_disagrees_three_in_n_stay_open(examples: int, points: float) -> None:
    same = np.ones((3, examples), dtype=bool)
    found = uncertainty.change(pairs(same, same), "test_accuracy").interval
    assert found == pytest.approx((0.0, -points, points), rel=1e-3)
    assert points == pytest.approx(300 / examples, rel=0.07)
    assert (1 - points / 100) ** examples == pytest.approx(0.05, rel=1e-2)


def test_an_accuracy_of_all_hits_stays_within_its_range() -> None:
    assert uncertainty.score(records(np.ones((3, 24), dtype=bool)), "test_accuracy").interval == pytest.approx(
        (100.0, 88.27, 100.0), rel=1e-3
    )


def test_examples_are_paired() -> None:
    # Ten misses in common and two of the arm's own: D is -1 on 2 of 100 examples, 0 on the others.
    theirs = np.tile(np.arange(100) >= 10, (2, 1))
    ours = np.tile(np.arange(100) >= 12, (2, 1))
    found = uncertainty.change(pairs(ours, theirs), "test_accuracy")
    assert (found.mean, found.seed_sd, found.examples) == (pytest.approx(-2.0), 0.0, 100)
    assert found.example_sd == pytest.approx(100 * math.sqrt(0.02 * 0.98 * 100 / 99))


def test_hits_are_averaged_over_seeds_before_examples_are_compared() -> None:
    # Each seed misses another half: every example is worth one half, and examples do not differ.
    ours = np.array([[True, False] * 50, [False, True] * 50])
    found = uncertainty.score(records(ours), "test_accuracy")
    assert (found.mean, found.example_sd, found.seed_sd) == (50.0, 0.0, 0.0)


def test_one_seed_has_no_interval() -> None:
    one = np.ones((1, 50), dtype=bool)
    assert uncertainty.score(records(one), "test_accuracy").interval == (100.0, 0.0, 100.0)
    assert uncertainty.change(pairs(one, one), "test_accuracy").interval == (0.0, -100.0, 100.0)


def test_no_spread_is_no_certainty_unless_the_values_were_counted() -> None:
    assert uncertainty.score(losses(1.5, 1.5), "test_loss").interval == (1.5, 0.0, math.inf)
    assert uncertainty.differences([0.0, 0.0], "test_loss").interval == (0.0, -math.inf, math.inf)
    sizes = [record("d/x", seed, parameters=7) for seed in range(2)]
    assert uncertainty.score(sizes, "parameters").interval == (7.0, 7.0, 7.0)


def test_without_hits_the_worst_case_of_the_size_stands() -> None:
    settings = {"data": {"subset": {"test": 400}}}
    sides = [[record("d/x", seed, settings=settings, test_accuracy=a) for seed in range(2)] for a in (0.9, 0.8)]
    found = uncertainty.change([Pair(*each) for each in zip(*sides, strict=True)], "test_accuracy")
    # Misses of 10 and 20 % disagree on 30 % at most, of which the difference takes 10: variance 0.3 - 0.01.
    assert (found.basis, found.examples) == ("size", 400)
    assert found.example_sd == pytest.approx(100 * math.sqrt(0.29))
    alone = uncertainty.score(sides[1], "test_accuracy")
    assert alone.example_sd == pytest.approx(100 * math.sqrt(0.8 * 0.2))


@pytest.mark.parametrize(
    ("subset", "model", "predictions"),
    [
        ({"test": 400, "length": 129, "vocabulary": 1024}, "gpt", 400 * 128),
        ({"test": 400, "length": 129, "tokenizer": "a folder"}, "gpt", 400 * 128),
        ({"test": 400, "length": 129, "vocabulary": 1024}, "bert", 400),
        ({"test": 400, "length": 20, "vocabulary": 1024, "train": 100}, "gpt2", 400),
        ({"test": 400, "length": 20, "train": 100}, "minilm", 400),
    ],
)
def test_a_window_of_a_corpus_holds_a_prediction_a_token(subset: dict[str, Any], model: str, predictions: int) -> None:
    made = [record("d/x", seed, settings={"data": {"subset": subset}}, test_accuracy=0.2) for seed in range(2)]
    assert uncertainty.score([{**each, "model": model} for each in made], "test_accuracy").examples == predictions


def test_the_worst_case_is_never_narrower_than_hits_are() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        ours, theirs = (generator.random((2, 50)) < generator.random() for _ in range(2))
        own = uncertainty.change(pairs(ours, theirs), "test_accuracy")
        bare = [
            Pair(*({**each, "marks": {}, "settings": {"data": {"subset": {"test": 50}}}} for each in pair))
            for pair in pairs(ours, theirs)
        ]
        worst = uncertainty.change(bare, "test_accuracy")
        assert worst.basis == "size" and worst.example_sd >= own.example_sd * math.sqrt(49 / 50) - 1e-9


def test_without_hits_and_size_it_is_of_seeds_alone_and_says_so() -> None:
    made = [record("d/x", seed, test_accuracy=value) for seed, value in enumerate((0.97, 0.99, 1.0))]
    found = uncertainty.score(made, "test_accuracy")
    assert found.basis == "seeds" and found.interval.high == 100.0
    assert found.interval.low == pytest.approx(stats.interval([97, 99, 100]).low)
    assert uncertainty.counted(found) == "3 seeds"


def test_test_sets_of_two_sizes_are_not_paired() -> None:
    found = uncertainty.change(pairs(np.ones((2, 5), dtype=bool), np.ones((2, 6), dtype=bool)), "test_accuracy")
    assert found.basis == "seeds"


# --- what would decide ---------------------------------------------------------------------------------------


def test_as_many_examples_as_are_wanted_decide_and_fewer_do_not() -> None:
    found = Estimate(0.0, 5, 0.1, 50, 20.0, -100.0, 100.0)
    assert found.wanted(-1.0) == "about 1,600 test examples"
    assert found.reach(5, 1600) < 1.0 < found.reach(5, 1400)


def test_seeds_are_asked_for_where_they_scatter() -> None:
    found = Estimate(0.0, 3, 1.0, 100_000, 5.0, -100.0, 100.0)
    assert found.wanted(-1.0) == "about 7 seeds"
    assert found.reach(7, 100_000) < 1.0 < found.reach(6, 100_000)


def test_both_are_asked_for_where_neither_alone_would_do() -> None:
    found = Estimate(0.0, 3, 1.0, 100, 20.0, -100.0, 100.0)
    assert found.wanted(-1.0) == "about 11 seeds and 3,100 test examples"
    assert found.reach(11, 3100) < 1.0


def test_equal_seeds_and_no_test_set_ask_for_more_seeds() -> None:
    assert Estimate(0.0, 3, 0.0).wanted(-1.0) == "more seeds"


def test_on_the_line_nothing_would_do() -> None:
    assert Estimate(-1.0, 3, 1.0, 100, 20.0).wanted(-1.0) == "no number of seeds and test examples in reach"


# --- how often an interval holds the truth -------------------------------------------------------------------


def simulated(seeds: int, examples: int, between: float, repeats: int = 400) -> tuple[float, float]:
    """Share of intervals of two made-up arms that hold the true difference: with the test set, and of seeds alone.

    An arm hits where ability + ease of the example + its own liking of it + luck of the seed + noise is positive.
    """
    generator, hits, truth = np.random.default_rng(0), [], []
    ease = 2 * generator.normal(size=(repeats, 1, examples))
    for ability in (1.2, 1.5):
        parts = [(1, examples, 0.5), (seeds, 1, between), (seeds, examples, 1.0)]
        drawn = sum(sd * generator.normal(size=(repeats, rows, columns)) for rows, columns, sd in parts)
        hits.append(ability + ease + drawn > 0)
        truth.append(distributions.norm.cdf(ability / math.sqrt(4 + 0.25 + between**2 + 1)))
    wanted, held, alone = 100 * (truth[0] - truth[1]), 0, 0
    for ours, theirs in zip(*hits, strict=True):
        found = uncertainty.change(pairs(ours, theirs), "test_accuracy")
        narrow = stats.interval((100 * (ours.mean(1) - theirs.mean(1))).tolist())
        held += found.interval.low <= wanted <= found.interval.high
        alone += narrow.low <= wanted <= narrow.high
    return held / repeats, alone / repeats


@pytest.mark.parametrize(
    ("seeds", "examples", "between"), [(2, 300, 0.3), (3, 24, 0.0), (3, 300, 0.3), (5, 100, 0.0), (5, 300, 0.1)]
)
def test_the_interval_holds_the_truth_in_95_of_100_cases(seeds: int, examples: int, between: float) -> None:
    # Three deviations of 400 draws of 95 % are 3.3 points.
    assert simulated(seeds, examples, between)[0] > 0.917


def test_seeds_alone_hold_it_too_seldom() -> None:
    with_examples, alone = simulated(20, 100, 0.0)
    assert with_examples > 0.95 > 0.9 > alone


# --- positive quantities -------------------------------------------------------------------------------------


def test_of_positive_quantities_it_is_a_t_interval_of_logarithms() -> None:
    values = [20.0, 50.0, 190.0]
    found, logs = uncertainty.positive(values), stats.interval(np.log(values).tolist())
    assert found == pytest.approx([math.exp(each) for each in logs])
    assert found.low > 0 > stats.interval(values).low


def test_ratios_and_their_inverses_have_inverse_intervals() -> None:
    values = [0.6, 0.7, 0.9]
    there, back = uncertainty.positive(values), uncertainty.positive([1 / value for value in values])
    assert (there.mean, there.low, there.high) == pytest.approx((1 / back.mean, 1 / back.high, 1 / back.low))


def test_equal_costs_are_exact_and_one_is_open() -> None:
    assert uncertainty.positive([3.0, 3.0]) == (3.0, 3.0, 3.0)
    assert uncertainty.positive([3.0, 3.0], counted=False) == (3.0, 0.0, math.inf)
    assert uncertainty.positive([3.0]) == (3.0, 0.0, math.inf)
    with pytest.raises(RecordError, match="A cost is 0"):
        uncertainty.positive([0.0, 1.0])


# --- p values ------------------------------------------------------------------------------------------------


def test_p_over_seeds_alone_is_students() -> None:
    found = Estimate(1.0, 4, seed_sd=0.5, lowest=-100.0, highest=100.0)
    values = 1.0 + 0.5 * np.array([-1.0, -1.0, 1.0, 1.0]) * math.sqrt(3) / 2
    for line in (-0.5, 0.3, 1.0, 2.5):
        assert found.above(line) == pytest.approx(
            distributions.ttest_1samp(values, line, alternative="greater").pvalue, rel=1e-6
        )
        assert found.above(line) + found.below(line) == pytest.approx(1.0)


def test_p_over_many_seeds_and_examples_is_that_of_a_normal_of_both_variances() -> None:
    found = Estimate(1.0, 5000, seed_sd=20.0, examples=5000, example_sd=30.0, lowest=-100.0, highest=100.0)
    error = math.hypot(20.0, 30.0) / math.sqrt(5000)
    assert found.above(0.2) == pytest.approx(distributions.norm.sf(0.8 / error), rel=0.01)


def test_p_is_two_and_a_half_percent_at_the_ends_of_the_interval() -> None:
    for examples, spread in ((0, 1.0), (400, 1.0), (24, 0.0)):
        found = Estimate(1.0, 3, spread, examples, example_sd=25.0, lowest=-100.0, highest=100.0)
        assert found.above(found.interval.low) == pytest.approx(0.025)
        assert found.below(found.interval.high) == pytest.approx(0.025)


def test_without_spread_and_examples_there_is_no_p_and_the_whole_range() -> None:
    for seeds in (1, 3):
        found = Estimate(100.0, seeds, 0.0, lowest=0.0, highest=100.0)
        assert (found.above(0.0), found.below(100.0), found.interval) == (1.0, 1.0, (100.0, 0.0, 100.0))
