"""From records to verdicts: values, caps, what is missing, and how tests combine."""

from __future__ import annotations

from typing import Any

import pytest

from effi import claims
from effi.claims import ClaimRow, Judgement, Results
from effi.claims.papers import Paper
from effi.errors import ParameterError
from tests.claims.synthetic import arm, paper, record

BETTER = {"rule": "ordering", "metric": "loss", "a": "{dataset}/new", "b": "{dataset}/old", "direction": "lower"}
NEW, OLD = [0.50, 0.51, 0.52], [0.70, 0.72, 0.71]


def judge(paper: Paper, records: list[dict[str, Any]]) -> list[ClaimRow]:
    return claims.judge(paper, Results(records))


def judged(test: dict[str, Any], records: list[dict[str, Any]], **content: Any) -> Judgement:
    """The judgement as in the paper of a paper with this one test."""
    return judge(paper(test, **content), records)[0].as_in_the_paper


def test_differences_are_paired_by_seed() -> None:
    shifted = [record("d/old", seed, loss=value) for seed, value in zip((2, 0, 1), (0.72, 0.70, 0.71), strict=True)]
    found = judged(BETTER, arm("d/new", NEW) + shifted)
    verdict = found.evidence[0].verdict
    assert found.state == "reproduced"
    assert (verdict.mean, verdict.low, verdict.high) == pytest.approx((-0.2, -0.2, -0.2))


def test_only_seeds_that_both_arms_have_count() -> None:
    found = judged(BETTER, arm("d/new", NEW) + arm("d/old", OLD[:2]))
    assert found.evidence[0].verdict.n == 2
    assert found.why.endswith("capped: 2 seeds of 3")


def test_no_common_seed_is_said() -> None:
    found = judged(BETTER, [record("d/new", 0, loss=1.0), record("d/old", 1, loss=1.0)])
    assert found.why == "not available: no seed that all of d/new, d/old have"
    assert not found.ran


def test_accuracies_are_judged_in_points() -> None:
    test = {**BETTER, "metric": "test_accuracy", "direction": "higher", "rule": "no_loss", "margin": 1.0}
    found = judged(test, arm("d/new", [0.5, 0.5, 0.5], "test_accuracy") + arm("d/old", [0.55] * 3, "test_accuracy"))
    assert found.state == "not reproduced"
    assert "difference -5.0 points, margin -1, n=3" in found.why


def test_ratio_and_relative_difference_are_percent() -> None:
    records = arm("d/new", [1.0, 1.0, 1.0]) + arm("d/old", [4.0, 4.0, 4.0])
    ratio = judged({**BETTER, "rule": "bound", "compare": "ratio", "target": 25}, records)
    assert (ratio.state, ratio.evidence[0].verdict.mean) == ("reproduced", 25.0)
    relative = judged({**BETTER, "compare": "relative"}, records)
    assert relative.evidence[0].verdict.mean == -75.0


def test_a_ratio_to_zero_is_not_available() -> None:
    found = judged({**BETTER, "compare": "ratio"}, arm("d/new", NEW) + arm("d/old", [0.0, 1.0, 1.0]))
    assert found.why == "not available: loss of d/old is 0"


@pytest.mark.parametrize(("pick", "mean"), [("lowest", -0.2), ("highest", -0.5)])
def test_several_rivals_count_as_the_lowest_or_highest_of_each_seed(pick: str, mean: float) -> None:
    rivals = arm("d/p", [0.7, 1.0, 1.0]) + arm("d/q", [1.0, 0.7, 0.7])
    test = {**BETTER, "b": ["{dataset}/p", "{dataset}/q"], "pick": pick}
    found = judged(test, arm("d/new", [0.5, 0.5, 0.5]) + rivals)
    assert found.evidence[0].verdict.mean == pytest.approx(mean)


def test_rank_correlation_and_slope_run_over_arms_within_a_seed() -> None:
    sizes = {"d/s": (1.0, 3.0), "d/m": (2.0, 2.0), "d/l": (4.0, 0.0)}
    records = [record(name, seed, size=x, loss=y + seed) for name, (x, y) in sizes.items() for seed in range(3)]
    over = {"over": ["{dataset}/s", "{dataset}/m", "{dataset}/l"], "x": "size", "y": "loss"}
    tau = judged({"rule": "ordering", "direction": "lower", "statistic": "kendall", **over}, records)
    assert (tau.state, tau.evidence[0].verdict.mean) == ("reproduced", -1.0)
    slope = judged({"rule": "covers", "target": -1, "margin": 0.5, "statistic": "slope", **over}, records)
    assert (slope.state, slope.evidence[0].verdict.mean) == ("reproduced", pytest.approx(-1.0))


def test_a_constant_ranking_is_not_available() -> None:
    over = {"over": ["{dataset}/s", "{dataset}/m"], "x": "size", "y": "loss", "statistic": "kendall"}
    records = [record(name, size=1.0, loss=1.0) for name in ("d/s", "d/m")]
    assert judged({"rule": "ordering", **over}, records).why.startswith("not available: A rank correlation")


def test_a_metric_may_be_a_difference_of_two() -> None:
    records = [record("d/new", seed, test=1.5, train=1.0) for seed in range(3)]
    test = {"rule": "bound", "metric": "test - train", "a": "{dataset}/new", "direction": "equal", "target": 0.5}
    assert judged(test, records).state == "reproduced"


def test_placeholders_stand_for_each_of_their_values() -> None:
    records = [r for heads in ("h1", "h4") for r in arm(f"d/new-{heads}", NEW) + arm(f"d/old-{heads}", OLD)]
    test = {**BETTER, "a": "{dataset}/new-{heads}", "b": "{dataset}/old-{heads}", "each": {"heads": ["h1", "h4"]}}
    found = judged(test, records)
    assert [each.label for each in found.evidence] == ["d/new-h1 - d/old-h1, loss", "d/new-h4 - d/old-h4, loss"]
    assert found.why.endswith("(2 for)")


def test_short_training_caps_and_says_so() -> None:
    short = {"training": {"epochs": 4}}
    found = judged(BETTER, arm("d/new", NEW, settings=short) + arm("d/old", OLD))
    assert (found.state, found.direction) == ("inconclusive", "for")
    assert found.why.endswith("capped: 4 epochs of 10")


@pytest.mark.parametrize(("whole", "state"), [(True, "reproduced"), (False, "inconclusive")])
def test_a_protocol_may_ask_for_what_is_true_or_not(whole: bool, state: str) -> None:
    settings = {"data": {"whole": whole}}
    records = arm("d/new", NEW, settings=settings) + arm("d/old", OLD, settings=settings)
    found = judged(BETTER, records, full={"data.whole": True})
    assert found.state == state
    assert found.why.endswith("n=3" if whole else "capped: data not whole")


@pytest.mark.parametrize("settings", [{}, {"training": {}}, {"training": 3}])
def test_unrecorded_epochs_cap(settings: dict[str, Any]) -> None:
    found = judged(BETTER, arm("d/new", NEW, settings=settings) + arm("d/old", OLD, settings=settings))
    assert (found.state, found.why.partition("; ")[2]) == ("inconclusive", "capped: epochs not recorded")


def test_bounds_are_not_capped_unless_the_file_says_so() -> None:
    bound = {"rule": "bound", "metric": "loss", "a": "check/x", "direction": "lower", "target": 1.0}
    records = [record("check/x", settings={}, loss=0.5)]
    assert judged(bound, records).state == "reproduced"
    assert judged({**bound, "full": {"seeds": 2}}, records).why.endswith("capped: 1 seed of 2")


def test_a_test_may_need_another_protocol_than_the_paper() -> None:
    timing = {"rule": "covers", "metric": "slope", "a": "check/t", "target": 1, "margin": 1, "full": {"seeds": 3}}
    assert judged(timing, arm("check/t", [0.9, 1.0, 1.1], "slope", settings={})).state == "reproduced"


def test_arms_not_run_are_named() -> None:
    found = judged(BETTER, arm("d/new", NEW))
    assert (found.state, found.direction, found.ran) == ("inconclusive", "open", False)
    assert found.why == "not run at this scale: d/old"


def test_a_failed_arm_gives_its_error() -> None:
    failed = {**record("d/old"), "status": "failed", "error": "loss is nan"}
    assert judged(BETTER, [*arm("d/new", NEW), failed]).why == "d/old failed (loss is nan)"


def test_a_failure_that_was_mended_is_forgotten() -> None:
    failed = {**record("d/old", 0), "status": "failed", "error": "loss is nan"}
    assert judged(BETTER, [failed, *arm("d/new", NEW), *arm("d/old", OLD)]).state == "reproduced"


def test_a_missing_metric_is_not_available() -> None:
    found = judged(BETTER, arm("d/new", NEW) + arm("d/old", OLD, "accuracy"))
    assert found.why == "not available: d/old holds no 'loss': it has accuracy."


def test_fewer_arms_than_listed_cap_a_list() -> None:
    test = {**BETTER, "b": [f"{{dataset}}/{name}" for name in "pqr"], "pick": "lowest"}
    found = judged(test, arm("d/new", NEW) + arm("d/p", OLD) + arm("d/q", OLD))
    assert (found.state, found.direction) == ("inconclusive", "for")
    assert found.why.endswith("capped: 2 arms of 3")
    assert not judged(test, arm("d/new", NEW) + arm("d/p", OLD)).ran


def test_another_data_set_stands_in_only_when_none_of_the_wanted_ran() -> None:
    mine = arm("folder:/my/data/new", NEW) + arm("folder:/my/data/old", OLD)
    found = judged(BETTER, mine)
    assert (found.state, found.direction) == ("inconclusive", "for")
    assert found.why.endswith("capped: folder:/my/data in place of d")
    both = judged(BETTER, mine + arm("d/new", NEW) + arm("d/old", OLD))
    assert [each.label for each in both.evidence] == ["d/new - d/old, loss"]
    assert both.state == "reproduced"


TICKET = {
    "rule": "no_loss",
    "metric": "test_accuracy",
    "a": "{dataset}/vit/eb-0.1",
    "b": "{dataset}/vit/dense",
    "margin": "accuracy",
    "each": {"dataset": ["cifar10"]},
}
MARGINS = {"loss": {"other": 1.0}, "accuracy": {"cifar10": 0.5, "other": 1.0}}


def pair(model: str, values: list[float], metric: str = "test_accuracy") -> list[dict[str, Any]]:
    """Ticket and dense arm of a data set's model; the dense one is better by 0.006."""
    return arm(f"{model}/eb-0.1", values, metric) + arm(f"{model}/dense", [v + 0.006 for v in values], metric)


def test_stand_ins_keep_to_the_model_that_the_arms_name() -> None:
    digits, text = pair("digits/vit", [0.8, 0.81, 0.82]), pair("sst2/gpt2", [0.9, 0.9, 0.9])
    found = judged(TICKET, digits + text, margins=MARGINS)
    assert [each.label for each in found.evidence] == ["digits/vit/eb-0.1 - digits/vit/dense, test accuracy"]
    assert (found.state, found.direction) == ("inconclusive", "for")
    assert found.why.endswith("capped: digits in place of cifar10")
    assert judged(TICKET, text, margins=MARGINS).why == "not run at this scale: cifar10/vit/eb-0.1, cifar10/vit/dense"


def test_margins_are_those_of_the_data_set_also_behind_a_model() -> None:
    found = judged(TICKET, pair("cifar10/vit", [0.8, 0.8, 0.8]), margins=MARGINS)
    assert (found.state, "margin -0.5," in found.why) == ("not reproduced", True)


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
    assert (found.state, found.deciding.verdict.mean) == ("reproduced", pytest.approx(10.0))
    assert found.why.startswith(
        "imdb/gpt2/dense / cifar10/vit/dense, smallest distance of consecutive masks, p = 0.1: "
    )
    assert "ratio 10.00 %, limit <= 20 %" in found.why


def test_each_data_set_has_stand_ins_of_its_own() -> None:
    images = judged(CLOSER, distances(imdb_gpt2=0.001, digits_vit=0.01))
    assert images.why.endswith("capped: digits in place of cifar10")
    both = judged(CLOSER, distances(sst2_gpt2=0.001, digits_vit=0.01))
    assert [each.label for each in both.evidence] == [
        "sst2/gpt2/dense / digits/vit/dense, smallest distance of consecutive masks, p = 0.1"
    ]
    assert both.why.endswith("capped: digits in place of cifar10, sst2 in place of imdb")
    assert (both.state, both.direction) == ("inconclusive", "for")


def test_of_listed_stand_ins_the_first_that_ran_counts() -> None:
    records = distances(grammar_gpt2=0.9, sst2_gpt2=0.001, other_gpt2=0.9, cifar10_vit=0.01)
    listed = judged(CLOSER, records, stand_ins={"imdb": ["yelp", "sst2", "grammar"]})
    assert listed.why.endswith("capped: sst2 in place of imdb")
    assert len(judged(CLOSER, records).evidence) == 3
    own = judged(CLOSER, records, stand_ins={"imdb": ["yelp"]})
    assert len(own.evidence) == 3


def test_margins_may_differ_between_data_sets() -> None:
    records = [r for d in ("d", "e") for r in arm(f"{d}/new", [1.0, 1.0, 1.0]) + arm(f"{d}/old", [0.5, 0.5, 0.5])]
    test = {**BETTER, "rule": "no_loss", "margin": "loss"}
    found = judged(test, records, datasets=["d", "e"], margins={"loss": {"d": 0.6, "other": 0.4}})
    assert [each.verdict.state for each in found.evidence] == ["reproduced", "not reproduced"]


def test_a_target_may_be_a_printed_number() -> None:
    bound = {"rule": "bound", "metric": "loss", "a": "check/x", "direction": "equal", "target": "total"}
    assert judged(bound, [record("check/x", loss=7)], numbers={"total": {"value": 7}}).state == "reproduced"


def test_all_tests_must_hold() -> None:
    records = arm("d/new", NEW) + arm("d/old", OLD)
    worse, missing = {**BETTER, "direction": "higher"}, {**BETTER, "b": "{dataset}/none"}
    holds = judge(paper(BETTER, BETTER), records)[0].as_in_the_paper
    fails = judge(paper(BETTER, worse, missing), records)[0].as_in_the_paper
    opens = judge(paper(BETTER, missing), records)[0].as_in_the_paper
    assert (holds.state, holds.direction) == ("reproduced", "for")
    assert (fails.state, fails.direction) == ("not reproduced", "against")
    assert fails.why.endswith("(1 for, 1 against, 1 missing)")
    assert (opens.state, opens.direction, opens.ran) == ("inconclusive", "open", True)
    assert opens.why == "not run at this scale: d/none (1 for, 1 missing)"


def test_of_open_tests_one_with_numbers_decides() -> None:
    records = arm("d/new", [0.5, 0.7, 0.9]) + arm("d/old", [0.7, 0.7, 0.7])
    found = judge(paper({**BETTER, "b": "{dataset}/none"}, BETTER), records)[0].as_in_the_paper
    assert (found.state, found.deciding.ran) == ("inconclusive", True)
    assert found.why.startswith("d/new - d/old, loss: difference 0.000 [")


def test_a_claim_without_tests_or_records_was_not_run() -> None:
    for found in (judge(paper(), [])[0], judge(paper(BETTER), [])[0]):
        assert found.as_in_the_paper.state == "inconclusive"
        assert found.as_in_the_paper.why.startswith("not run at this scale")
        assert found.scale == "no"


def test_both_verdicts_are_independent() -> None:
    row = judge(paper(BETTER, fair=[{**BETTER, "direction": "higher"}]), arm("d/new", NEW) + arm("d/old", OLD))[0]
    assert (row.as_in_the_paper.state, row.fair.state) == ("reproduced", "not reproduced")
    assert claims.count([row]) == {"reproduced": 1, "not reproduced": 0, "inconclusive": 0}
    assert claims.count([row], "fair") == {"reproduced": 0, "not reproduced": 1, "inconclusive": 0}


def test_newer_records_replace_older_ones() -> None:
    found = judged(BETTER, arm("d/new", [9.0, 9.0, 9.0]) + arm("d/old", OLD) + arm("d/new", NEW))
    assert found.state == "reproduced"


def test_seeds_of_other_settings_than_the_newest_are_left_out() -> None:
    old_run = arm("d/new", NEW, settings={"training": {"epochs": 8}})
    found = judged(BETTER, [*old_run, record("d/new", 0, loss=0.5), *arm("d/old", OLD)])
    assert found.evidence[0].verdict.n == 1


def test_scales_are_not_mixed() -> None:
    with pytest.raises(ParameterError, match="cpu and gpu mixed"):
        judge(paper(BETTER), [record("d/new"), {**record("d/old"), "scale": "gpu"}])


def test_other_settings_cap_and_are_named() -> None:
    changed = [each | {"parameters": {"variant": {"norm": "post"}}} for each in arm("d/new", NEW)]
    found = judged(BETTER, changed + arm("d/old", OLD))
    assert found.state == "inconclusive"
    assert found.why.endswith("capped: not the protocol: variant={'norm': 'post'}")


def test_a_check_is_no_data_set_that_could_stand_in() -> None:
    test = {**BETTER, "a": "{dataset}/{variant}", "b": "{dataset}/old", "each": {"variant": ["new", "newer"]}}
    records = [record(f"own/{name}", seed, loss=1.0 + seed) for name in ("new", "old") for seed in range(3)]
    found = judged(test, [*records, record("check/C11", 0, slope=1.0)])
    assert {each.label.partition("/")[0] for each in found.evidence} == {"own"}
