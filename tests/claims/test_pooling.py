"""Tests that pool cells: means and slopes of differences, and the error of the test sets behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats as distributions

from effi import claims
from effi.claims import Judgement, Pair, Results, stats, uncertainty
from effi.errors import ParameterError
from effi.records.arms import packed
from tests.claims.synthetic import arm, paper, record

FULL = {"training.epochs": 10, "seeds": 3}
BEST = {
    "rule": "ordering",
    "metric": "test_accuracy",
    "a": "{dataset}/new-{p}",
    "b": ["{dataset}/old-{p}", "{dataset}/older-{p}"],
    "pool": ["dataset", "p"],
    "each": {"dataset": ["d", "e"], "p": ["0.3", "0.5"]},
}
ONE = {**BEST, "b": "{dataset}/old-{p}"}
NAMES = {"names": {"d": "D", "e": "E", "new": "the new", "old": "the old", "older": "the older"}}


def judged(test: dict[str, Any], records: list[dict[str, Any]], **content: Any) -> Judgement:
    return claims.judge(paper(test, **{**NAMES, **content}), Results(records))[0].as_in_the_paper


def cells(values: Mapping[str, Sequence[float]], metric: str = "test_accuracy") -> list[dict[str, Any]]:
    """Arms by name with a value per seed."""
    return [row for name, own in values.items() for row in arm(name, list(own), metric)]


def around(gains: Mapping[str, float], base: float = 0.5) -> dict[str, list[float]]:
    """New arms that gain so much over old ones of the same cell, but for three seeds' noise of 0.1 points."""
    noise = (-0.001, 0.0, 0.001)
    new = {f"{cell.replace('-', '/new-')}": [base + gain + each for each in noise] for cell, gain in gains.items()}
    return new | {f"{cell.replace('-', '/old-')}": [base] * 3 for cell in gains}


def test_of_two_rivals_the_better_counts_in_each_cell_and_at_each_seed() -> None:
    values = {
        "d/new-0.3": [0.60, 0.61, 0.65],
        "d/old-0.3": [0.50, 0.60, 0.60],
        "d/older-0.3": [0.55, 0.50, 0.61],  # the better: 0.55, 0.60, 0.61
        "e/new-0.3": [0.80, 0.80, 0.80],
        "e/old-0.3": [0.70, 0.71, 0.72],
        "e/older-0.3": [0.60, 0.90, 0.70],  # the better: 0.70, 0.90, 0.72
    }
    test = {**BEST, "each": {"dataset": ["d", "e"], "p": ["0.3"]}}
    found = judged(test, cells(values))
    # (5 + 10) / 2, (1 - 10) / 2 and (4 + 8) / 2 points.
    by_hand = stats.interval([7.5, -4.5, 6.0])
    verdict = found.evidence[0].verdict
    assert (verdict.mean, verdict.low, verdict.high) == pytest.approx(by_hand)
    assert (found.here, found.protocol, verdict.n) == ("open", "open", 3)
    assert found.evidence[0].label == (
        "{dataset}/new-{p} - the better of {dataset}/old-{p} and {dataset}/older-{p}, test accuracy, mean over 2 cells"
    )
    assert found.evidence[0].clause == (
        "over 2 cells of D and E the new at p = 0.3 gains 3.0 points [-13.2, 19.2] of test accuracy "
        "over the better of the old at p = 0.3 and the older at p = 0.3"
    )


def test_of_losses_the_lowest_rival_counts() -> None:
    test = {**BEST, "metric": "loss", "direction": "lower", "each": {"dataset": ["d"], "p": ["0.3"]}}
    values = {"d/new-0.3": [1.0, 1.1], "d/old-0.3": [2.0, 4.0], "d/older-0.3": [3.0, 2.0]}
    found = judged(test, cells(values, "loss"), full={"seeds": 2})
    assert found.evidence[0].verdict.mean == pytest.approx((-1.0 - 0.9) / 2)


def test_several_rivals_stand_also_in_a_test_that_pools_nothing() -> None:
    test = {**BEST, "pool": [], "each": {"dataset": ["d"], "p": ["0.3"]}}
    values = {"d/new-0.3": [0.6, 0.71, 0.7], "d/old-0.3": [0.5, 0.6, 0.5], "d/older-0.3": [0.4, 0.5, 0.61]}
    found = judged(test, cells(values))
    assert found.evidence[0].verdict.mean == pytest.approx(10.0)
    assert "over the better of the old at p = 0.3 and the older at p = 0.3 (claimed above 0), n=3." in found.why


def test_a_slope_runs_within_each_data_set() -> None:
    # 1 and 3 points at 0.3 and 0.5 of d, 31 and 35 of e: data sets apart, 2 and 4 points over 0.2, 1.5 over 0.1.
    gains = {"d-0.3": 0.01, "d-0.5": 0.03, "e-0.3": 0.31, "e-0.5": 0.35}
    values = around(gains)
    values["d/new-0.5"] = [0.52, 0.53, 0.541]
    found = judged({**ONE, "statistic": "slope"}, cells(values))
    verdict = found.evidence[0].verdict
    per_seed = [
        ((x - a) + (y - b)) * 100 / 4
        for x, a, y, b in zip(
            values["d/new-0.5"], values["d/new-0.3"], values["e/new-0.5"], values["e/new-0.3"], strict=True
        )
    ]
    assert (verdict.mean, verdict.low, verdict.high) == pytest.approx(stats.interval(per_seed))
    assert verdict.mean == pytest.approx(1.5, abs=0.05)
    assert (found.here, found.evidence[0].unit.name) == ("for", "points per 0.1")
    assert found.evidence[0].clause.startswith(
        "over 4 cells of D and E the lead of the new over the old in test accuracy grows with p by 1.5 points per 0.1 ["
    )
    assert found.evidence[0].label == "{dataset}/new-{p} - {dataset}/old-{p}, test accuracy, slope on p over 4 cells"


def test_the_weights_of_a_slope_are_those_of_least_squares_with_an_intercept_a_group() -> None:
    x, y, groups = [0.3, 0.4, 0.9, 0.2, 0.7], [1.0, 3.0, 2.0, -5.0, 4.0], ["a", "a", "a", "b", "b"]
    design = np.column_stack([x, [group == "a" for group in groups], [group == "b" for group in groups]])
    wanted = np.linalg.lstsq(design.astype(float), np.array(y), rcond=None)[0][0]
    assert stats.slope_weights(x, groups) @ np.array(y) == pytest.approx(wanted)
    with pytest.raises(ParameterError, match="two different x or more within a group"):
        stats.slope_weights([0.3, 0.5], ["a", "b"])


def test_a_slope_without_two_ratios_in_a_data_set_is_not_available() -> None:
    test = {**ONE, "statistic": "slope", "each": {"dataset": ["d", "e"], "p": ["0.3"]}}
    found = judged(test, cells(around({"d-0.3": 0.1, "e-0.3": 0.2})))
    assert found.why == "Not available: A slope wants two different x or more within a group."
    plain = {**test, "a": "{dataset}/new", "b": "{dataset}/old", "pool": ["dataset"], "each": {"dataset": ["d", "e"]}}
    bare = cells({f"{name}/{arm}": [0.5, 0.6] for name in "de" for arm in ("new", "old")})
    assert judged(plain, bare).why == "Not available: d/new has no ratio, on which a slope could be told."


@pytest.mark.parametrize(("gain", "here"), [(0.001, "for"), (0.02, "against")])
def test_a_pooled_difference_may_be_held_equal(gain: float, here: str) -> None:
    # Each cell alone is 2 points off, in turn up and down: it is the mean that is claimed to be none.
    gains = {"d-0.3": gain + 0.02, "d-0.5": gain - 0.02, "e-0.3": gain + 0.02, "e-0.5": gain - 0.02}
    found = judged({**ONE, "rule": "equivalence", "margin": 0.5}, cells(around(gains)))
    assert (found.here, found.evidence[0].verdict.mean) == (here, pytest.approx(100 * gain))


def test_every_cell_of_each_must_run_and_the_missing_ones_are_named() -> None:
    values = around({"d-0.3": 0.1, "d-0.5": 0.1, "e-0.3": 0.1})
    assert judged(ONE, cells(values)).why == "Not run: e/new-0.5, e/old-0.5."
    assert judged(ONE, []).why == "Not run: {dataset}/new-{p}, {dataset}/old-{p}."
    failed = {**record("e/new-0.5"), "status": "failed", "error": "loss is nan"}
    assert judged(ONE, [*cells(values), failed]).why == "E/new-0.5 failed (loss is nan)."


def test_among_many_cells_those_count_whose_arms_all_ran() -> None:
    listed = {"dataset": ["d", "e", "f"], "p": ["0.3", "0.5", "0.7"]}
    test = {name: value for name, value in ONE.items() if name != "each"} | {"among": listed}
    values = around({"d-0.3": 0.1, "e-0.5": 0.2}) | {"d/new-0.7": [0.9] * 3}  # d/old-0.7 did not run
    found = judged(test, cells(values))
    assert found.evidence[0].verdict.mean == pytest.approx(15.0)
    assert (found.here, found.lacking) == ("for", "2 data sets of 3, 2 ratios of 3")
    failed = {**record("d/old-0.7"), "status": "failed", "error": "loss is nan"}
    assert judged(test, [*cells(values), failed]).lacking.endswith("d/old-0.7 failed")
    assert judged(test, cells({"d/new-0.7": [0.9] * 3})).why == "Not run: d/old-0.7."
    assert judged(test, []).why == "Not run: {dataset}/new-{p}, {dataset}/old-{p}."


def test_the_paper_is_reached_where_every_value_ran_in_some_cell() -> None:
    listed = {"dataset": ["d", "e"], "p": ["0.3", "0.5"]}
    test = {name: value for name, value in ONE.items() if name != "each"} | {"among": listed}
    assert judged(test, cells(around({"d-0.3": 0.1, "e-0.5": 0.2}))).protocol == "reproduced"


def test_another_data_set_stands_in_for_all_of_them() -> None:
    found = judged(ONE, cells(around({"g-0.3": 0.1, "g-0.5": 0.1, "h-0.3": 0.1, "h-0.5": 0.1})))
    assert (found.here, found.lacking) == ("for", "g and h in place of d and e")


def test_seeds_are_those_that_all_cells_have() -> None:
    values = around({"d-0.3": 0.1, "d-0.5": 0.1, "e-0.3": 0.1, "e-0.5": 0.1})
    values["e/old-0.5"] = [0.5, 0.5]
    found = judged(ONE, cells(values))
    assert (found.evidence[0].verdict.n, found.lacking) == (2, "2 seeds of 3")
    apart = [{**row, "seed": row["seed"] + 5 * (row["arm"] == "e/old-0.5")} for row in cells(values)]
    assert judged(ONE, apart).why == "Not available: no seed that all of {dataset}/new-{p}, {dataset}/old-{p} have."


def test_tasks_of_different_metrics_are_pooled_in_points() -> None:
    test = {**ONE, "metric": "task", "each": {"dataset": ["d", "e"], "p": ["0.3"]}}
    records = cells({"d/new-0.3": [0.60, 0.61, 0.62], "d/old-0.3": [0.5] * 3}, "test_mcc")
    records += cells({"e/new-0.3": [0.71, 0.70, 0.72], "e/old-0.3": [0.7] * 3})
    found = judged(test, records, scores={"task": {"d": "test_mcc", "other": "test_accuracy"}})
    # (10 + 1) / 2, (11 + 0) / 2 and (12 + 2) / 2 points.
    assert found.evidence[0].verdict.mean == pytest.approx(6.0)
    assert (found.here, found.evidence[0].unit.name) == ("for", "points")
    assert "gains 6.0 points [3.8, 8.2] of test Matthews correlation or test accuracy over the old" in found.why


def test_single_tests_may_read_a_metric_by_data_set_too() -> None:
    test = {**ONE, "metric": "task", "pool": [], "each": {"dataset": ["d"], "p": ["0.3"]}}
    records = cells({"d/new-0.3": [0.60, 0.61, 0.62], "d/old-0.3": [0.5] * 3}, "test_mcc")
    found = judged(test, records, scores={"task": {"d": "test_mcc", "other": "test_accuracy"}})
    assert found.evidence[0].verdict.mean == pytest.approx(0.11)


def test_arms_may_be_ranked_by_their_means_over_cells() -> None:
    over = ["{dataset}/a-{p}", "{dataset}/b-{p}", "{dataset}/c-{p}", "{dataset}/d-{p}", "{dataset}/x-{p}"]
    test = {
        "rule": "ordering",
        "over": over,
        "statistic": "kendall",
        "y": "test_accuracy",
        "printed": [1.0, 2.0, 3.0, 4.0, 5.0],
        "pool": ["dataset", "p"],
        "among": {"dataset": ["d", "e"], "p": ["0.3"]},
    }
    # In d alone b is ahead of c, and in e behind by more; x did not run.
    means = {"a": (0.1, 0.2), "b": (0.5, 0.3), "c": (0.4, 0.6), "d": (0.8, 0.9)}
    records = cells(
        {
            f"{s}/{name}-0.3": [own[i] + 0.01 * k for k in range(3)]
            for name, own in means.items()
            for i, s in enumerate("de")
        }
    )
    found = judged(test, records)
    verdict = found.evidence[0].verdict
    assert (verdict.mean, verdict.n, found.lacking) == (
        pytest.approx(1.0),
        4,
        "4 arms of 5",
    )
    assert found.evidence[0].label == "test accuracy against what the paper prints, over 4 arms, mean over 2 cells"
    assert found.evidence[0].clause.startswith(
        "over 2 cells of D and E for 4 arms Kendall's tau of test accuracy on what the paper prints is 1.000 ["
    )


def test_of_two_placeholders_among_those_pairs_are_tested_that_ran_together() -> None:
    listed = {"dataset": ["d", "e"], "p": ["0.3", "0.5"]}
    test = {name: value for name, value in ONE.items() if name not in ("each", "pool")} | {"among": listed}
    found = judged(test, cells(around({"d-0.3": 0.1, "e-0.5": 0.2})))
    assert [each.label for each in found.evidence] == [
        "d/new-0.3 - d/old-0.3, test accuracy",
        "e/new-0.5 - e/old-0.5, test accuracy",
    ]
    assert found.protocol == "reproduced"
    assert judged(test, []).why == "Not run: {dataset}/new-{p}, {dataset}/old-{p}."


# --- the error of test sets ----------------------------------------------------------------------------------


def with_hits(hits: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Arms with hits (seeds, examples) by name."""
    return [
        record(name, seed, test_accuracy=float(one.mean()))
        | {"marks": {"test_accuracy": packed(torch.from_numpy(one))}}
        for name, own in hits.items()
        for seed, one in enumerate(own)
    ]


def drawn(examples: Mapping[str, int], seeds: int = 3) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    names = [f"{s}/{arm}-{p}" for s in examples for arm in ("new", "old") for p in ("0.3", "0.5")]
    shares = {"new": 0.8, "old": 0.6}
    return {n: generator.random((seeds, examples[n[0]])) < shares[n[2:5]] for n in names}


def apart(hits: Mapping[str, np.ndarray], dataset: str, p: str) -> np.ndarray:
    return hits[f"{dataset}/new-{p}"].astype(float) - hits[f"{dataset}/old-{p}"]


def half_width(deviation: float, count: int) -> float:
    return float(distributions.t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)


def test_cells_of_one_data_set_share_its_examples_and_data_sets_add_in_quadrature() -> None:
    sizes = {"d": 200, "e": 50}
    hits = drawn(sizes)
    (found,) = judged(ONE, with_hits(hits)).evidence
    summed = {s: sum(apart(hits, s, p) for p in ("0.3", "0.5")) / 4 for s in sizes}
    per_seed = 100 * sum(own.mean(1) for own in summed.values())
    halves = [half_width(float(per_seed.std(ddof=1)), 3)]
    halves += [half_width(100 * float(own.mean(0).std(ddof=1)), sizes[s]) for s, own in summed.items()]
    reach = math.sqrt(sum(each**2 for each in halves))
    assert (found.verdict.mean, found.verdict.n) == (pytest.approx(per_seed.mean()), 3)
    assert found.verdict.high - found.verdict.mean == pytest.approx(reach)
    assert reach > halves[0]


def test_the_slope_of_hits_has_the_error_of_its_own_contrast() -> None:
    hits = drawn({"d": 200, "e": 50})
    (found,) = judged({**ONE, "statistic": "slope"}, with_hits(hits)).evidence
    # A slope per 0.1 of two cells 0.2 apart in each of two data sets: a quarter of the differences.
    summed = {s: (apart(hits, s, "0.5") - apart(hits, s, "0.3")) / 4 for s in "de"}
    per_seed = 100 * sum(own.mean(1) for own in summed.values())
    halves = [half_width(float(per_seed.std(ddof=1)), 3)]
    halves += [half_width(100 * float(own.mean(0).std(ddof=1)), own.shape[1]) for own in summed.values()]
    assert found.verdict.high - found.verdict.mean == pytest.approx(math.sqrt(sum(each**2 for each in halves)))


def test_a_pool_of_one_cell_is_that_cell() -> None:
    hits = drawn({"d": 100})
    (found,) = judged({**ONE, "each": {"dataset": ["d"], "p": ["0.3"]}}, with_hits(hits)).evidence
    records = with_hits(hits)
    sides = [[row for row in records if row["arm"] == f"d/{name}-0.3"] for name in ("new", "old")]
    alone = uncertainty.change([Pair(*each) for each in zip(*sides, strict=True)], "test_accuracy")
    assert (found.verdict.mean, found.verdict.low, found.verdict.high) == pytest.approx(alone.interval)
    assert (found.verdict.p_for, found.verdict.p_against) == pytest.approx((alone.above(0), alone.below(0)))


def test_without_hits_the_worst_case_of_each_cell_stands() -> None:
    settings = {"data": {"subset": {"test": 400}}}
    values = around({"d-0.3": 0.1, "d-0.5": 0.1}, base=0.8)
    rows = [row for name, own in values.items() for row in arm(name, own, "test_accuracy", settings=settings)]
    test = {**ONE, "each": {"dataset": ["d"], "p": ["0.3", "0.5"]}, "full": {}}
    (found,) = judged(test, rows).evidence
    # Misses of 10 and 20 % disagree on 30 % at most, and both cells may do so on the same examples.
    halves = half_width(0.1, 3), half_width(100 * math.sqrt(0.3 - 0.01), 400)
    assert found.verdict.high - found.verdict.mean == pytest.approx(math.hypot(*halves), rel=1e-3)


def test_where_no_example_disagrees_three_in_n_of_each_data_set_stay_open() -> None:
    same = np.ones((3, 300), dtype=bool)
    names = [f"{s}/{arm}-{p}" for s in "de" for arm in ("new", "old") for p in ("0.3", "0.5")]
    (found,) = judged(ONE, with_hits(dict.fromkeys(names, same))).evidence
    # Half of 0.994 points for each of two data sets, in quadrature.
    assert found.verdict.high == pytest.approx(0.994 / math.sqrt(2), rel=1e-3)


def test_a_correlation_among_accuracies_adds_no_examples() -> None:
    hits = drawn({"e": 80})
    records = with_hits({name: own for name, own in hits.items() if name.endswith("0.3")})
    records += cells({"d/new-0.3": [0.60, 0.61, 0.62], "d/old-0.3": [0.5] * 3}, "test_mcc")
    test = {**ONE, "metric": "task", "each": {"dataset": ["d", "e"], "p": ["0.3"]}}
    (found,) = judged(test, records, scores={"task": {"d": "test_mcc", "other": "test_accuracy"}}).evidence
    own = apart(hits, "e", "0.3") / 2
    per_seed = 100 * (own.mean(1) + np.array([0.10, 0.11, 0.12]) / 2)
    halves = half_width(float(per_seed.std(ddof=1)), 3), half_width(100 * float(own.mean(0).std(ddof=1)), 80)
    assert found.verdict.high - found.verdict.mean == pytest.approx(math.hypot(*halves))


def test_what_would_tell_grows_all_test_sets_alike() -> None:
    sets = tuple(uncertainty.Estimate(0.0, 5, 0.0, n, 20.0, highest=100.0) for n in (100, 300))
    found = uncertainty.Pooled(0.0, 5, 0.01, 400, 0.0, -100.0, 100.0, "hits", sets=sets)
    told = found.wanted(-1.0)
    assert told.startswith("about ") and told.endswith(" test examples")
    count = int(told.removeprefix("about ").removesuffix(" test examples").replace(",", ""))
    assert found.reach(5, count) < 1.0 < found.reach(5, count * 9 // 10)
    # Variances of 20 over a quarter and over three quarters of the examples.
    assert found.reach(5, 10**6) == pytest.approx(math.hypot(1.96 * 20 / 500, 1.96 * 20 / math.sqrt(750_000)), rel=0.06)


def test_pooled_intervals_hold_the_truth_in_95_of_100_cases() -> None:
    generator, held, repeats = np.random.default_rng(0), 0, 300
    for _ in range(repeats):
        hits = {}
        for s, examples in (("d", 60), ("e", 120)):
            ease = 2 * generator.normal(size=examples)
            for name, ability in (("new", 1.5), ("old", 1.2)):
                for p in ("0.3", "0.5"):
                    drawn_now = 0.3 * generator.normal(size=(4, 1)) + generator.normal(size=(4, examples))
                    hits[f"{s}/{name}-{p}"] = ability + ease + drawn_now > 0
        cells_now = [
            uncertainty.Cell((100 * apart(hits, s, p).mean(1)).tolist(), 0.25, s, uncertainty.Sample(apart(hits, s, p)))
            for s in "de"
            for p in ("0.3", "0.5")
        ]
        new, old = (distributions.norm.cdf(each / math.sqrt(4 + 0.09 + 1)) for each in (1.5, 1.2))
        interval = uncertainty.pooled(cells_now, (-100.0, 100.0)).interval
        held += interval.low <= 100 * (new - old) <= interval.high
    assert held / repeats > 0.91
