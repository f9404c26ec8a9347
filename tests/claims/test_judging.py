"""From records to verdicts: values, what is missing, and how tests combine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from effi import claims
from effi.claims import ClaimRow, Judgement, Pair, Results, uncertainty
from effi.claims.papers import Paper
from effi.errors import ParameterError
from effi.records.arms import packed
from tests.claims.synthetic import WORDS, arm, paper, record

BETTER = {"rule": "ordering", "metric": "loss", "a": "{dataset}/new", "b": "{dataset}/old", "direction": "lower"}
NEW, OLD = [0.50, 0.51, 0.52], [0.70, 0.72, 0.71]  # -0.20, -0.21, -0.19 apart


def judge(paper: Paper, records: list[dict[str, Any]]) -> list[ClaimRow]:
    return claims.judge(paper, Results(records))


def judged(test: dict[str, Any], records: list[dict[str, Any]], **content: Any) -> Judgement:
    """The judgement as in the paper of a paper with this one test."""
    return judge(paper(test, **content), records)[0].as_in_the_paper


def test_differences_are_paired_by_seed() -> None:
    shifted = [record("d/old", seed, loss=value) for seed, value in zip((2, 0, 1), (0.75, 0.70, 0.71), strict=True)]
    found = judged(BETTER, arm("d/new", NEW) + shifted)
    verdict = found.evidence[0].verdict
    # Differences -0.20, -0.20 and -0.23 over seeds 0, 1 and 2.
    assert (found.here, found.protocol, verdict.mean) == ("for", "reproduced", pytest.approx(-0.21))
    assert verdict.sd == pytest.approx(0.03 / math.sqrt(3))


def test_only_seeds_that_both_arms_have_count() -> None:
    found = judged(BETTER, arm("d/new", NEW) + arm("d/old", OLD[:2]))
    assert found.evidence[0].verdict.n == 2
    assert (found.protocol, found.lacking) == ("not reached", "2 seeds of 3")


def test_a_check_on_many_arms_counts_at_the_seeds_of_the_arms_that_it_tells_of() -> None:
    many, few = "closest_gain/{dataset}/many", "closest_gain/{dataset}/few"
    test = {"rule": "ordering", "metric": f"{few} - {many}", "a": "check/gain"}
    told = [{"closest_gain/d/many": 1.0, "closest_gain/d/few": 2.0}, {"closest_gain/d/many": 1.0}]
    told.insert(1, {"closest_gain/d/many": 1.0, "closest_gain/d/few": 2.1})
    checks = [{**record("check/gain", seed, **values), "dataset": None} for seed, values in enumerate(told)]
    found = judged(test, checks + arm("d/many", NEW) + arm("d/few", OLD[:2]), datasets=["d"])
    verdict = found.evidence[0].verdict
    assert (found.here, verdict.n, verdict.mean) == ("for", 2, pytest.approx(1.05))
    # Trained at every seed, and nothing told of one: that seed may be the one that speaks against it.
    lost = judged(test, checks + arm("d/many", NEW) + arm("d/few", OLD), datasets=["d"])
    assert lost.here == "not run" and lost.why.startswith("Not available: check/gain holds no 'closest_gain/d/few'")


def test_a_test_is_judged_at_its_scales_alone() -> None:
    records = arm("d/new", NEW) + arm("d/old", OLD)
    found = judged({**BETTER, "scales": ["hours"]}, records)
    assert (found.here, found.why) == ("not run", "D/new - d/old, loss is not judged at cpu scale.")
    at_hours = judged({**BETTER, "scales": ["hours"]}, [{**each, "scale": "hours"} for each in records])
    assert at_hours.here == "for"


def test_no_common_seed_is_said() -> None:
    found = judged(BETTER, [record("d/new", 0, loss=1.0), record("d/old", 1, loss=1.0)])
    assert (found.here, found.why) == ("not run", "Not available: no seed that all of d/new, d/old have.")


def test_accuracies_are_judged_in_points() -> None:
    test = {**BETTER, "metric": "test_accuracy", "direction": "higher", "rule": "no_loss", "margin": 1.0}
    new, old = arm("d/new", [0.50, 0.51, 0.52], "test_accuracy"), arm("d/old", [0.55, 0.56, 0.58], "test_accuracy")
    found = judged(test, new + old)
    assert found.here == "against"
    assert found.why == "Against: on d new loses 5.3 points [3.9, 6.8] of test accuracy to old (margin 1 point), n=3."


def test_ratio_and_relative_difference_are_percent() -> None:
    records = arm("d/new", [1.0, 1.1, 1.2]) + arm("d/old", [4.0, 4.4, 4.8])
    ratio = judged({**BETTER, "rule": "bound", "compare": "ratio", "target": 26}, records)
    assert (ratio.here, ratio.evidence[0].verdict.mean) == ("for", pytest.approx(25.0))
    relative = judged({**BETTER, "compare": "relative"}, records)
    assert relative.evidence[0].verdict.mean == pytest.approx(-75.0)


def test_a_ratio_to_zero_is_not_available() -> None:
    found = judged({**BETTER, "compare": "ratio"}, arm("d/new", NEW) + arm("d/old", [0.0, 1.0, 1.0]))
    assert found.why == "Not available: loss of d/old is 0."


def test_a_metric_may_be_a_ratio_of_two() -> None:
    records = [record("d/new", seed, test=1.0, train=4.0) for seed in range(3)]
    test = {"rule": "bound", "metric": "test / train", "a": "{dataset}/new", "direction": "lower", "target": 25}
    found = judged(test, records)
    assert (found.here, found.evidence[0].shown) == ("for", "25.00 % at every seed")


def test_values_that_are_equal_leave_a_test_open_unless_they_are_counted() -> None:
    def both(metric: str) -> list[dict[str, Any]]:
        return arm("d/new", [0.5] * 3, metric) + arm("d/old", [0.7] * 3, metric)

    equal = judged({**BETTER, "metric": "test_accuracy", "direction": "higher"}, both("test_accuracy"))
    assert (equal.here, equal.evidence[0].shown) == ("open", "-20.0 points [-100.0, 100.0]")
    counted = judged({**BETTER, "metric": "parameters"}, both("parameters"))
    assert (counted.here, counted.evidence[0].verdict.p_for) == ("for", 0.0)


def hits_of(own: np.ndarray) -> dict[str, Any]:
    return {"marks": {"test_accuracy": packed(torch.tensor(own))}}


def test_the_error_of_a_test_set_stands_in_the_interval_of_an_accuracy() -> None:
    hits = np.random.default_rng(0).uniform(size=(2, 3, 400)) < np.array([0.8, 0.6])[:, None, None]
    records = [
        record(f"d/{name}", seed, test_accuracy=float(own.mean())) | hits_of(own)
        for name, side in zip(("new", "old"), hits, strict=True)
        for seed, own in enumerate(side)
    ]
    test = {**BETTER, "metric": "test_accuracy", "direction": "higher"}
    (found,) = judged(test, records).evidence
    (bare,) = judged(test, [{**each, "marks": {}} for each in records]).evidence
    pairs = [Pair(records[seed], records[3 + seed]) for seed in range(3)]
    assert (found.verdict.low, found.verdict.high) == uncertainty.change(pairs, "test_accuracy").interval[1:]
    assert found.verdict.low < bare.verdict.low and found.verdict.p_for > 0
    assert (found.verdict.mean, found.verdict.n) == (pytest.approx(bare.verdict.mean), 3)


def test_rank_correlation_runs_over_the_means_of_arms() -> None:
    sizes = {f"d/{name}": (x, 10.0 - x) for x, name in enumerate("abcdef")}
    records = [record(name, seed, size=x, loss=y + seed) for name, (x, y) in sizes.items() for seed in range(3)]
    over = {"over": [f"{{dataset}}/{name}" for name in "abcdef"], "x": "size", "y": "loss"}
    found = judged({"rule": "ordering", "direction": "lower", "statistic": "kendall", **over}, records)
    verdict = found.evidence[0].verdict
    assert (found.here, verdict.mean, verdict.n) == ("for", pytest.approx(-1.0), 6)
    assert found.why.startswith("For: on d over 6 arms Kendall's tau of loss on size is -1.000 [-1.000, 0.000]")


def test_a_slope_runs_over_the_parts_of_one_record() -> None:
    times = {"p": [0.1, 0.3], "q": [0.5, 0.5], "r": [1.0, 0.8]}  # means 0.2, 0.5, 0.9
    metrics = [{f"time/{part}": values[seed] for part, values in times.items()} for seed in (0, 1)]
    sizes = {"size/p": 0.2, "size/q": 0.4, "size/r": 1.0}
    records = [record("check/C1", seed, **sizes, **metrics[seed]) for seed in (0, 1)]
    slope = {
        "rule": "within",
        "a": "check/C1",
        "over": ["p", "q", "r", "s"],
        "statistic": "slope",
        "full": {"seeds": 2},
    }
    test = {**slope, "x": "size", "y": "time", "limits": [-9, 11]}
    found = judged(test, records, words=WORDS | {"size/*": "size of *", "time/*": "time of *"})
    # x - mean = -1/3, -2/15, 7/15: slope = (-0.2/3 - 1/15 + 6.3/15) / (0.111 + 0.0178 + 0.2178) = 0.8269.
    assert found.evidence[0].verdict.mean == pytest.approx(0.8269, abs=1e-4)
    assert (found.here, found.lacking, found.evidence[0].verdict.n) == ("for", "3 arms of 4", 3)
    assert found.evidence[0].label == "time against size, over 3 arms"


def test_pairs_that_losses_and_accuracies_rank_apart_are_counted() -> None:
    values = {"a": (1.0, 0.9), "b": (2.0, 0.8), "c": (3.0, 0.95)}  # c has the worst loss and the best accuracy
    around = (-0.0005, 0.0, 0.0004, 0.0001)
    records = [
        record(f"d/{name}", seed, test_loss=loss + (place + 1) * around[(seed + place) % 4], test_accuracy=accuracy)
        for place, (name, (loss, accuracy)) in enumerate(values.items())
        for seed in range(4)
    ]
    for place, each in enumerate(records):
        each["metrics"]["test_accuracy"] += around[place % 3]
    over = {"over": [f"{{dataset}}/{name}" for name in values], "x": "test_loss", "y": "test_accuracy"}
    found = judged({"rule": "discordance", **over}, records)
    assert found.here == "for" and found.evidence[0].shown == "2 of 3 pairs"
    said = "on d test loss and test accuracy surely rank 2 of 3 pairs of arms apart and 1 alike"
    assert found.why == f"For: {said} (claimed at least one)."


def test_a_constant_ranking_is_not_available() -> None:
    over = {"over": [f"{{dataset}}/{name}" for name in "sml"], "x": "size", "y": "loss", "statistic": "kendall"}
    records = [record(f"d/{name}", size=1.0, loss=1.0) for name in "sml"]
    assert judged({"rule": "ordering", **over}, records).why.startswith("Not available: A rank correlation")


def test_a_metric_may_be_a_difference_of_two() -> None:
    records = [record("d/new", seed, test=1.5, train=1.0) for seed in range(3)]
    test = {"rule": "bound", "metric": "test - train", "a": "{dataset}/new", "direction": "equal", "target": 0.5}
    assert judged(test, records).here == "for"


def test_placeholders_stand_for_each_of_their_values() -> None:
    records = [r for heads in ("h1", "h4") for r in arm(f"d/new-{heads}", NEW) + arm(f"d/old-{heads}", OLD)]
    test = {**BETTER, "a": "{dataset}/new-{heads}", "b": "{dataset}/old-{heads}", "each": {"heads": ["h1", "h4"]}}
    found = judged(test, records)
    assert [each.label for each in found.evidence] == ["d/new-h1 - d/old-h1, loss", "d/new-h4 - d/old-h4, loss"]
    assert found.why.endswith("; of 2 tests 2 for.")


def test_placeholders_may_stand_in_a_metric() -> None:
    records = [record("check/C9", seed, **{"p/d": 0.5 + seed / 100, "p/e": 2.0}) for seed in range(3)]
    test = {"rule": "ordering", "metric": "p/{dataset}", "a": "check/C9", "direction": "lower", "target": 1}
    known = {"words": WORDS | {"p/*": "time of *"}, "full": {}}
    found = judged({**test, "each": {"dataset": ["d"]}}, records, **known)
    assert (found.here, found.why) == (
        "for",
        "For: the p/d is 0.510 [0.485, 0.535] (claimed below 1), n=3.",
    )
    # Data sets that ran stand in also for what only a metric names.
    other = judged({**test, "each": {"dataset": ["f"]}}, [*records, record("e/x", loss=1.0)], **known)
    assert (other.here, other.lacking) == ("open", "e in place of f")


def test_short_training_does_not_reach_the_protocol_and_says_so() -> None:
    short = {"training": {"epochs": 4}}
    found = judged(BETTER, arm("d/new", NEW, settings=short) + arm("d/old", OLD))
    assert (found.here, found.protocol, found.lacking) == ("for", "not reached", "4 epochs of 10")


@pytest.mark.parametrize(("whole", "protocol"), [(True, "reproduced"), (False, "not reached")])
def test_a_protocol_may_ask_for_what_is_true_or_not(whole: bool, protocol: str) -> None:
    settings = {"data": {"whole": whole}}
    records = arm("d/new", NEW, settings=settings) + arm("d/old", OLD, settings=settings)
    found = judged(BETTER, records, full={"data.whole": True})
    assert (found.here, found.protocol, found.lacking) == ("for", protocol, "" if whole else "data not whole")


@pytest.mark.parametrize("settings", [{}, {"training": {}}, {"training": 3}])
def test_unrecorded_epochs_are_said(settings: dict[str, Any]) -> None:
    found = judged(BETTER, arm("d/new", NEW, settings=settings) + arm("d/old", OLD, settings=settings))
    assert (found.protocol, found.lacking) == ("not reached", "epochs not recorded")


def test_what_is_missing_is_told_once_at_its_worst() -> None:
    records = [
        row
        for heads, epochs in (("h1", 8), ("h4", 2))
        for name, values in (("new", NEW), ("old", OLD))
        for row in arm(f"d/{name}-{heads}", values, settings={"training": {"epochs": epochs}})
    ]
    test = {**BETTER, "a": "{dataset}/new-{heads}", "b": "{dataset}/old-{heads}", "each": {"heads": ["h1", "h4", "h8"]}}
    assert judged(test, records).lacking == "2 epochs of 10, 1 of 3 tests not run"


def test_bounds_want_no_protocol_unless_the_file_says_so() -> None:
    bound = {"rule": "bound", "metric": "loss", "a": "check/x", "direction": "lower", "target": 1.0}
    records = [record("check/x", settings={}, loss=0.5)]
    assert judged(bound, records).protocol == "reproduced"
    assert judged({**bound, "full": {"seeds": 2}}, records).lacking == "1 seed of 2"


def test_a_bound_shows_its_range_and_never_is_a_word() -> None:
    bound = {"rule": "bound", "metric": "share_R1", "a": "{dataset}/x", "direction": "lower", "target": 0.5}
    known = {"words": WORDS | {"share_*": "share until *"}}
    drawn = judged(bound, arm("d/x", [0.1, 0.2, 0.3], "share_R1"), **known).evidence[0]
    assert drawn.shown == "0.200, range 0.100 to 0.300"
    some = judged(bound, arm("d/x", [0.1, 0.2, 2.0], "share_R1"), **known)
    assert (some.here, some.evidence[0].shown) == ("against", 'from 0.100 on, "never" at 1 of 3 seeds')
    assert math.isnan(some.evidence[0].verdict.mean) and some.evidence[0].verdict.high == math.inf
    assert judged(bound, arm("d/x", [2.0, 2.0], "share_R1"), **known).evidence[0].shown == '"never" at 2 of 2 seeds'


def test_arms_not_run_are_named() -> None:
    found = judged(BETTER, arm("d/new", NEW))
    assert (found.here, found.protocol, found.lacking) == ("not run", "not reached", "1 of 1 tests not run")
    assert found.why == "Not run: d/old."


def test_a_failed_arm_gives_its_error() -> None:
    failed = {**record("d/old"), "status": "failed", "error": "loss is nan"}
    assert judged(BETTER, [*arm("d/new", NEW), failed]).why == "D/old failed (loss is nan)."


def test_a_failure_that_was_mended_is_forgotten() -> None:
    failed = {**record("d/old", 0), "status": "failed", "error": "loss is nan"}
    assert judged(BETTER, [failed, *arm("d/new", NEW), *arm("d/old", OLD)]).here == "for"


def test_a_missing_metric_is_not_available() -> None:
    found = judged(BETTER, arm("d/new", NEW) + arm("d/old", OLD, "accuracy"))
    assert found.why == "Not available: d/old holds no 'loss': it has accuracy."


AMONG = {**BETTER, "b": "{dataset}/{other}", "among": {"other": ["p", "q", "r"]}}


def test_of_many_arms_those_count_that_ran() -> None:
    found = judged(AMONG, arm("d/new", NEW) + arm("d/p", OLD) + arm("d/q", OLD))
    assert [each.label for each in found.evidence] == ["d/new - d/p, loss", "d/new - d/q, loss"]
    assert (found.here, found.protocol, found.lacking) == ("for", "not reached", "2 arms of 3")
    assert judged(
        {**AMONG, "among": {"other": ["p", "q"]}}, arm("d/new", NEW) + arm("d/p", OLD) + arm("d/q", OLD)
    ).reached
    assert judged(AMONG, arm("d/new", NEW)).here == "not run"


def test_another_data_set_stands_in_only_when_none_of_the_wanted_ran() -> None:
    mine = arm("folder:/my/data/new", NEW) + arm("folder:/my/data/old", OLD)
    found = judged(BETTER, mine)
    assert (found.here, found.protocol, found.lacking) == ("for", "not reached", "folder:/my/data in place of d")
    both = judged(BETTER, mine + arm("d/new", NEW) + arm("d/old", OLD))
    assert [each.label for each in both.evidence] == ["d/new - d/old, loss"]
    assert both.protocol == "reproduced"


def test_what_a_check_was_made_on_is_said_in_words() -> None:
    test = {**BETTER, "a": "check/C9", "b": "", "full": {"full": 1}}
    small = judged(test, arm("check/C9", [-1.0, -1.1, -0.9], settings={"full": 0}))
    silent = judged(test, arm("check/C9", [-1.0, -1.1, -0.9], settings={}))
    assert (small.here, small.lacking) == ("for", "data or models not of full size")
    assert silent.lacking == "size of data and models not recorded"


def test_a_test_beside_the_protocol_never_reaches_it() -> None:
    records = arm("d/new", NEW) + arm("d/old", OLD)
    assert judged(BETTER, records).protocol == "reproduced"
    found = judged({**BETTER, "beside": "another recipe"}, records)
    assert (found.here, found.protocol, found.lacking) == ("for", "not reached", "another recipe")


TICKET = {
    "rule": "no_loss",
    "metric": "test_accuracy",
    "a": "{dataset}/{model}/eb-0.1",
    "b": "{dataset}/{model}/dense",
    "margin": "accuracy",
    "each": {"dataset": ["cifar10"], "model": ["vit"]},
}
MARGINS = {"loss": {"other": 1.0}, "accuracy": {"cifar10": 0.5, "other": 1.0}}


def pair(model: str, values: list[float], metric: str = "test_accuracy") -> list[dict[str, Any]]:
    """Ticket and dense arm of a data set's model; the dense one is better by about 0.006."""
    dense = [value + 0.006 + noise for value, noise in zip(values, (0.0001, 0.0, -0.0001), strict=True)]
    return arm(f"{model}/eb-0.1", values, metric) + arm(f"{model}/dense", dense, metric)


def test_stand_ins_keep_to_the_model_that_the_arms_name() -> None:
    digits, text = pair("digits/vit", [0.8, 0.81, 0.82]), pair("sst2/gpt2", [0.9, 0.9, 0.9])
    found = judged(TICKET, digits + text, margins=MARGINS)
    assert [each.label for each in found.evidence] == ["digits/vit/eb-0.1 - digits/vit/dense, test accuracy"]
    assert (found.here, found.lacking) == ("for", "digits in place of cifar10")
    assert judged(TICKET, text, margins=MARGINS).why == "Not run: cifar10/vit/eb-0.1, cifar10/vit/dense."


def test_models_stand_in_where_the_file_lists_them() -> None:
    test = {**TICKET, "each": {"dataset": ["imdb"], "model": ["gpt2", "roberta"]}}
    records, listed = pair("sst2/minilm", [0.9, 0.91, 0.92]), {"gpt2": ["minilm"], "roberta": ["minilm"]}
    assert judged(test, records, margins=MARGINS).here == "not run"
    found = judged(test, records, margins=MARGINS, stand_ins=listed)
    assert [each.label for each in found.evidence] == ["sst2/minilm/eb-0.1 - sst2/minilm/dense, test accuracy"]
    assert found.lacking == "sst2 in place of imdb, minilm in place of gpt2 and roberta"
    both = judged(test, records + pair("sst2/gpt2", [0.9, 0.91, 0.92]), margins=MARGINS, stand_ins=listed)
    assert both.lacking == "sst2 in place of imdb, 1 of 2 tests not run"


def test_margins_are_those_of_the_data_set_also_behind_a_model() -> None:
    found = judged(TICKET, pair("cifar10/vit", [0.8, 0.8, 0.8]), margins=MARGINS)
    assert (found.here, "(margin 0.5 points)" in found.why) == ("against", True)


CLOSER = {
    "rule": "bound",
    "metric": "closest_0.1",
    "compare": "ratio",
    "a": "{text}/gpt2/dense",
    "b": "{dataset}/vit/dense",
    "direction": "lower",
    "target": 20,
    "each": {"text": ["imdb"], "dataset": ["cifar10"]},
}


def distances(**models: float) -> list[dict[str, Any]]:
    """Three seeds of dense arms <data set>_<model> with their smallest mask distance."""
    named = {name.replace("_", "/"): value for name, value in models.items()}
    return [r for name, value in named.items() for r in arm(f"{name}/dense", [value] * 3, "closest_0.1")]


def test_two_data_sets_may_be_compared_in_one_test() -> None:
    found = judged(CLOSER, distances(imdb_gpt2=0.001, cifar10_vit=0.01, sst2_gpt2=0.9, digits_vit=0.9))
    assert (found.protocol, found.deciding.verdict.mean) == ("reproduced", pytest.approx(10.0))
    assert found.why == (
        "For: on imdb (gpt2) dense has 10.00 % at every seed of the smallest distance of consecutive masks at p = 0.1 "
        "of dense on cifar10 (vit) (claimed at most 20 %), n=3."
    )


def test_each_data_set_has_stand_ins_of_its_own() -> None:
    images = judged(CLOSER, distances(imdb_gpt2=0.001, digits_vit=0.01))
    assert images.lacking == "digits in place of cifar10"
    both = judged(CLOSER, distances(sst2_gpt2=0.001, digits_vit=0.01))
    assert [each.label for each in both.evidence] == [
        "sst2/gpt2/dense / digits/vit/dense, smallest distance of consecutive masks at p = 0.1"
    ]
    assert (both.here, both.lacking) == ("for", "sst2 in place of imdb, digits in place of cifar10")


def test_of_listed_stand_ins_the_first_that_ran_counts() -> None:
    records = distances(grammar_gpt2=0.9, sst2_gpt2=0.001, other_gpt2=0.9, cifar10_vit=0.01)
    listed = judged(CLOSER, records, stand_ins={"imdb": ["yelp", "sst2", "grammar"]})
    assert listed.lacking == "sst2 in place of imdb"
    assert len(judged(CLOSER, records).evidence) == 3
    own = judged(CLOSER, records, stand_ins={"imdb": ["yelp"]})
    assert len(own.evidence) == 3


def test_margins_may_differ_between_data_sets() -> None:
    records = [r for d in ("d", "e") for r in arm(f"{d}/new", [1.0, 1.1, 1.2]) + arm(f"{d}/old", [0.5, 0.6, 0.71])]
    test = {**BETTER, "rule": "no_loss", "margin": "loss"}
    found = judged(test, records, datasets=["d", "e"], margins={"loss": {"d": 0.6, "other": 0.4}})
    assert [each.verdict.direction for each in found.evidence] == ["for", "against"]


def test_a_target_may_be_a_printed_number() -> None:
    bound = {"rule": "bound", "metric": "loss", "a": "check/x", "direction": "equal", "target": "total"}
    assert judged(bound, [record("check/x", loss=7)], numbers={"total": {"value": 7}}).here == "for"


def test_all_tests_must_hold() -> None:
    records = arm("d/new", NEW) + arm("d/old", OLD)
    worse, missing = {**BETTER, "direction": "higher"}, {**BETTER, "b": "{dataset}/none"}
    holds = judge(paper(BETTER, BETTER), records)[0].as_in_the_paper
    fails = judge(paper(BETTER, worse, missing), records)[0].as_in_the_paper
    opens = judge(paper(BETTER, missing), records)[0].as_in_the_paper
    assert (holds.here, holds.protocol) == ("for", "reproduced")
    assert (fails.here, fails.protocol) == ("against", "not reproduced")
    assert fails.why.endswith("; of 3 tests 1 for, 1 against, 1 not run.")
    assert (opens.here, opens.protocol, opens.lacking) == ("open", "not reached", "1 of 2 tests not run")
    assert opens.why == "Open: not run: d/none; of 2 tests 1 for, 1 not run."


def test_a_condition_that_holds_says_nothing_by_itself() -> None:
    records = arm("d/new", NEW) + arm("d/old", OLD)
    lower = {"rule": "bound", "metric": "loss", "a": "{dataset}/new", "direction": "lower", "target": 1}
    condition, missing = {**lower, "condition": True}, {**BETTER, "b": "{dataset}/none"}

    def here(*tests: dict[str, Any]) -> str:
        return judge(paper(*tests), records)[0].as_in_the_paper.here

    assert (here(lower, missing), here(condition, missing)) == ("open", "not run")
    assert (here(condition, BETTER), here({**condition, "target": 0}, missing)) == ("for", "against")


def seeds(*differences: float) -> list[dict[str, Any]]:
    """Losses of new and old at three seeds, these differences apart."""
    return arm("d/new", [1.0 + each for each in differences]) + arm("d/old", [1.0, 1.0, 1.0])


def test_one_of_several_tests_refutes_only_after_holm() -> None:
    # 0.9, 1.0, 1.25: t = 1.05 / (0.180 / sqrt 3) = 10.1, one-sided p of 2 degrees 0.0049; four times that is 0.0195.
    clear = judge(paper(*[BETTER] * 4), seeds(0.9, 1.0, 1.25))[0].as_in_the_paper
    assert (clear.here, clear.evidence[0].p_holm) == ("against", pytest.approx(4 * clear.evidence[0].verdict.p_against))
    six = judge(paper(*[BETTER] * 6), seeds(0.9, 1.0, 1.25))[0].as_in_the_paper
    assert [each.verdict.direction for each in six.evidence] == ["against"] * 6
    assert six.here == "open" and six.protocol == "open"
    assert "p = 0.029 by Holm, so that it does not refute as one of several tests; of 6 tests 6 against." in six.why


def test_for_needs_no_correction() -> None:
    assert judge(paper(*[BETTER] * 6), seeds(-0.9, -1.0, -1.25))[0].as_in_the_paper.here == "for"


def test_a_bound_that_fails_needs_no_correction_and_takes_no_part_in_it() -> None:
    bound = {"rule": "bound", "metric": "loss", "a": "{dataset}/new", "direction": "higher", "target": 1.95}
    found = judge(paper(BETTER, bound), seeds(0.9, 1.0, 1.25))[0].as_in_the_paper
    assert (found.here, found.deciding.label) == ("against", "d/new, loss")
    assert found.evidence[0].p_holm == found.evidence[0].verdict.p_against


def test_of_open_tests_one_with_numbers_decides() -> None:
    records = arm("d/new", [0.5, 0.7, 0.9]) + arm("d/old", [0.7, 0.7, 0.7])
    found = judge(paper({**BETTER, "b": "{dataset}/none"}, BETTER), records)[0].as_in_the_paper
    assert found.why == (
        "Open: on d the loss of new is 0.000 [-0.497, 0.497] above that of old (claimed below 0), n=3; "
        "no number of seeds and test examples in reach would tell if mean and spread stayed; "
        "of 2 tests 1 open, 1 not run."
    )


def test_a_claim_without_tests_or_records_was_not_run() -> None:
    for found in (judge(paper(), [])[0], judge(paper(BETTER), [])[0]):
        assert (found.as_in_the_paper.here, found.as_in_the_paper.protocol) == ("not run", "not reached")
        assert found.as_in_the_paper.why.startswith("Not run: ")
        assert found.scale == "no"


def test_both_readings_are_independent() -> None:
    row = judge(paper(BETTER, fair=[{**BETTER, "direction": "higher"}]), arm("d/new", NEW) + arm("d/old", OLD))[0]
    assert (row.as_in_the_paper.protocol, row.fair.protocol) == ("reproduced", "not reproduced")
    assert claims.count([row]) == {"for": 1, "against": 0, "open": 0, "not run": 0}
    assert claims.count([row], "fair") == {"for": 0, "against": 1, "open": 0, "not run": 0}
    assert claims.tally([row], "fair") == {claims.Tally("trained", "against", True): 1}


def test_a_test_at_the_protocol_refutes_whatever_the_others_lack() -> None:
    short = {"training": {"epochs": 1}}
    records = arm("d/new", NEW, settings=short) + arm("d/old", OLD, settings=short)
    bound = {"rule": "bound", "metric": "loss", "a": "{dataset}/new", "direction": "lower", "target": 0.1}
    found = judge(paper(BETTER, bound), records)[0].as_in_the_paper
    assert (found.here, found.protocol, found.lacking) == ("against", "not reproduced", "")


def test_smoke_scale_judges_arithmetic_alone() -> None:
    records = [{**each, "scale": "smoke"} for each in arm("d/new", NEW) + arm("d/old", OLD)]
    found = judged(BETTER, records)
    assert (found.here, found.protocol, found.evidence[0].verdict.direction) == ("open", "not reached", "for")
    assert found.why == "Open: smoke scale only tests that everything runs."
    claim = {"id": "C1", "kind": "arithmetic", "text": "t", "place": "p", "paper": "x", "fair": "the same"}
    settled = judge(paper(claims=[{**claim, "as_in_the_paper": [BETTER]}]), records)[0].fair
    assert (settled.here, settled.protocol) == ("for", "reproduced")


@pytest.mark.parametrize(("gpu", "name"), [(None, "abacus"), ({"name": "H100", "driver": "1"}, "H100")])
def test_the_machine_belongs_to_what_a_clock_measured(gpu: dict[str, str] | None, name: str) -> None:
    made = [each | {"provenance": {"cpu": "abacus", "gpu": gpu}} for each in seeds(-0.9, -1.0, -1.25)]
    timed = [each | {"cost": {**each["cost"], "seconds": each["metrics"]["loss"] + 3}} for each in made]
    assert f" on {name} (claimed below 0), n=3." in judged({**BETTER, "metric": "cost.seconds"}, timed).why
    assert name not in judged(BETTER, timed).why


def test_a_finding_is_seen_where_all_its_tests_hold() -> None:
    found = paper(BETTER, findings=[{"id": "F1", "text": "New is better.", "tests": [BETTER]}])
    for differences, here in (((-0.9, -1.0, -1.25), "for"), ((0.9, 1.0, 1.25), "against"), ((-1.0, 0.0, 1.0), "open")):
        assert claims.look(found.findings[0], found, Results(seeds(*differences))).here == here
    assert claims.look(found.findings[0], found, Results(arm("d/new", NEW))).here == "not run"


def test_newer_records_replace_older_ones() -> None:
    found = judged(BETTER, arm("d/new", [9.0, 9.0, 9.0]) + arm("d/old", OLD) + arm("d/new", NEW))
    assert found.here == "for"


def test_seeds_of_other_settings_than_the_newest_are_left_out() -> None:
    older = arm("d/new", [9.0, 9.0, 9.0], settings={"training": {"epochs": 99}})
    found = judged(BETTER, [*older, record("d/new", 0, loss=0.5), *arm("d/old", OLD)])
    assert found.evidence[0].verdict.n == 1


def test_scales_are_not_mixed() -> None:
    with pytest.raises(ParameterError, match="cpu and gpu mixed"):
        judge(paper(BETTER), [record("d/new"), {**record("d/old"), "scale": "gpu"}])


def test_other_settings_are_named() -> None:
    changed = [each | {"parameters": {"variant": {"norm": "post"}}} for each in arm("d/new", NEW)]
    found = judged(BETTER, changed + arm("d/old", OLD))
    assert (found.here, found.lacking) == ("for", "not the protocol: variant={'norm': 'post'}")


def test_a_check_is_no_data_set_that_could_stand_in() -> None:
    test = {**BETTER, "a": "{dataset}/{variant}", "b": "{dataset}/old", "each": {"variant": ["new", "newer"]}}
    records = [record(f"own/{name}", seed, loss=1.0 + seed) for name in ("new", "old") for seed in range(3)]
    found = judged(test, [*records, record("check/C11", 0, slope=1.0)])
    assert {each.label.partition("/")[0] for each in found.evidence} == {"own"}
