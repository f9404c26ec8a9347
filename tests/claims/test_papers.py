"""A paper's file: what is refused, and with which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from effi import paths
from effi.claims import papers
from effi.errors import ParameterError
from tests.claims.synthetic import REPORT, WORDS, paper

TEST = {"rule": "ordering", "metric": "loss", "a": "{dataset}/x"}
FINDING = {"id": "F1", "text": "It is so.", "tests": [TEST]}


@pytest.mark.parametrize(
    ("test", "phrase"),
    [
        ({**TEST, "metrik": "loss"}, "only known keys, not ['metrik']"),
        ({"metric": "loss", "a": "x"}, "wants a rule"),
        ({"rule": "ordering", "metric": "loss"}, "wants a or over"),
        ({**TEST, "over": ["x", "y"]}, "statistic, x and y"),
        ({"rule": "ordering", "over": ["x", "y"], "x": "p"}, "statistic, x and y"),
        ({"rule": "ordering", "a": "x"}, "wants a metric"),
        ({"rule": "discordance", "over": ["d/x", "d/y"], "x": "loss"}, "statistic, x and y"),
        ({"rule": "discordance", "a": "x", "over": ["y", "z"], "x": "loss", "y": "p"}, "wants over, and no a"),
        ({**TEST, "a": "{dataset}/{heads}"}, "names {heads}, which neither each nor among lists"),
        ({**TEST, "margin": "los"}, "names 'los', which [margins] does not list"),
        ({**TEST, "rule": "order"}, "has rule 'order'; did you mean 'ordering'? Known: ordering, "),
        ({**TEST, "direction": "up"}, "has direction 'up'; known: higher, lower, equal"),
        ({**TEST, "compare": "percent"}, "has compare 'percent'; known: difference, ratio, relative"),
        ({**TEST, "statistic": "spearman"}, "has statistic 'spearman'; known: kendall, slope"),
        ({"rule": "ordering", "over": "rivls"}, "names 'rivls', which is no arm and which [groups] does not list"),
        ({**TEST, "each": {"heads": ["h1"]}}, "lists heads, which none of its arms and metrics names"),
        ({**TEST, "among": {"dataset": []}}, "lists no values of dataset"),
        ({**TEST, "each": {"dataset": "imags"}}, "has for dataset 'imags', which [groups] does not list"),
        ({**TEST, "metric": "{m}", "each": {"m": ["loss", "los"]}}, "reads 'los', which no arm of effi records"),
        (
            {**TEST, "metric": "tset_accuracy"},
            "reads 'tset_accuracy', which no arm of effi records and [words] does not",
        ),
        ({**TEST, "metric": "test_loss - trian_loss"}, "reads 'test_loss - trian_loss'"),
        ({"rule": "ordering", "over": ["d/x", "d/y"], "statistic": "slope", "x": "loss", "y": "q"}, "reads 'q'"),
        ({**TEST, "target": "total"}, "names 'total', which [numbers] does not list"),
        ({**TEST, "pool": ["p"]}, "pools p, which none of its arms and metrics names"),
        ({**TEST, "statistic": "slope"}, "has the statistic slope without over: give that, or pool for a slope"),
        ({**TEST, "pool": ["dataset"], "statistic": "kendall"}, "has the statistic kendall without over"),
        (
            {"rule": "ordering", "over": ["d/x", "d/y"], "statistic": "kendall", "y": "p", "printed": [1.0]},
            "has 1 numbers printed for 2 arms",
        ),
    ],
)
def test_tests_that_make_no_sense_are_refused(test: dict[str, Any], phrase: str) -> None:
    with pytest.raises(ParameterError, match=f"C1.*{re.escape(phrase)}"):
        paper(test)


def test_scores_are_metrics_by_data_set() -> None:
    scores = {"task": {"d": "test_mcc", "other": "test_accuracy"}}
    found = paper({**TEST, "metric": "task"}, scores=scores)
    assert [found.score("task", name) for name in ("d", "e")] == ["test_mcc", "test_accuracy"]
    assert found.score("loss", "d") == "loss"
    with pytest.raises(ParameterError, match=r"C1 names 'task', which in .scores. has no entry other"):
        paper({**TEST, "metric": "task"}, scores={"task": {"d": "test_mcc"}})
    with pytest.raises(ParameterError, match="C1 reads 'tset_mcc', which no arm of effi records"):
        paper({**TEST, "metric": "task"}, scores={"task": {"d": "tset_mcc", "other": "test_accuracy"}})


def test_groups_stand_for_their_arms() -> None:
    test = {"rule": "ordering", "over": "rivals", "statistic": "kendall", "x": "loss", "y": "p"}
    found = paper(test, groups={"rivals": ["{dataset}/p", "{dataset}/q"]}).claims[0].tests["fair"][0]
    assert found.arms == ("{dataset}/p", "{dataset}/q")
    assert found.placeholders == {"dataset"}


@pytest.mark.parametrize("key", ["each", "among"])
def test_values_of_a_placeholder_may_be_a_group(key: str) -> None:
    found = paper({**TEST, key: {"dataset": "images"}}, groups={"images": ["d", "e"]})
    assert getattr(found.claims[0].tests["fair"][0], key) == {"dataset": ("d", "e")}


def test_a_list_over_one_arm_reads_a_metric_of_each_part() -> None:
    over = {"rule": "within", "a": "check/C1", "over": ["p", "q"], "statistic": "slope", "x": "size", "y": "time"}
    found = paper(over, words={**WORDS, "size/*": "size of *", "time/*": "time of *"}).claims[0].tests["fair"][0]
    assert found.arms == ("check/C1",)
    assert found.metrics == ("size/p", "size/q", "time/p", "time/q")


@pytest.mark.parametrize("key", REPORT)
def test_every_key_of_the_report_is_wanted(key: str) -> None:
    with pytest.raises(ParameterError, match=f"the key '{key}': add it"):
        paper(TEST, report={name: value for name, value in REPORT.items() if name != key})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ParameterError, match="the key 'claims'"):
        papers.parse({"title": "A paper"})


def test_the_report_names_what_there_is() -> None:
    with pytest.raises(ParameterError, match=r"headline of .report. names F9, which is none of the findings"):
        paper(TEST, report={**REPORT, "headline": ["F1", "F9"]}, findings=[FINDING])
    with pytest.raises(ParameterError, match=r"The margin of .report. names 'loss', which .margins. does not list"):
        paper(TEST, margins={})


def test_named_margins_want_an_entry_for_other_data_sets() -> None:
    accuracy = {"loss": {"other": 1.0}, "accuracy": {"d": 1.0}}
    with pytest.raises(ParameterError, match=r"C1 names 'accuracy', which in .margins. has no entry other"):
        paper({**TEST, "margin": "accuracy"}, margins=accuracy)


def test_claims_and_findings_have_ids_of_their_own() -> None:
    claim = {"id": "C1", "kind": "timing", "text": "t", "place": "p", "paper": "x", "as_in_the_paper": [TEST]}
    with pytest.raises(ParameterError, match="2 claims or findings are called C1: give each its own id"):
        paper(claims=[{**claim, "fair": "the same"}] * 2)
    with pytest.raises(ParameterError, match="2 claims or findings are called F1"):
        paper(TEST, findings=[FINDING, FINDING])


def test_a_claim_is_of_a_kind() -> None:
    claim = {"id": "C1", "kind": "timings", "text": "t", "place": "p", "paper": "x", "as_in_the_paper": [TEST]}
    with pytest.raises(ParameterError, match="C1 is of the kind 'timings'; did you mean 'timing'"):
        paper(claims=[{**claim, "fair": "the same"}])


def test_a_finding_is_carried_by_tests() -> None:
    found = paper(TEST, findings=[{**FINDING, "scales": ["hours"]}]).findings[0]
    assert (found.id, found.scales, found.tests[0].metric) == ("F1", ("hours",), "loss")
    with pytest.raises(ParameterError, match="F1 lists no tests: give those that carry it"):
        paper(TEST, findings=[{**FINDING, "tests": []}])
    with pytest.raises(ParameterError, match="A test of F1 wants a metric"):
        paper(TEST, findings=[{**FINDING, "tests": [{"rule": "ordering", "a": "x"}]}])


def test_a_margin_belongs_to_a_data_set() -> None:
    found = paper(TEST, margins={"loss": {"cifar10": 0.5, "other": 1.0}})
    assert [found.margin("loss", name) for name in ("cifar10", "digits")] == [0.5, 1.0]


@pytest.mark.parametrize("key", ["score", "metrics"])
def test_the_report_reads_metrics_that_arms_record(key: str) -> None:
    with pytest.raises(ParameterError, match=r"\[report\] reads 'accurcy'"):
        paper(TEST, report={**REPORT, key: ["accurcy"] if key == "metrics" else "accurcy"})


def test_words_of_a_paper_make_its_metrics_known() -> None:
    found = paper({**TEST, "metric": "gap_0.3 - test_loss"}, words={"gap_*": "gap at *", **WORDS})
    assert found.claims[0].tests["fair"][0].metrics == ("gap_0.3 - test_loss",)


def test_unknown_papers_and_broken_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.toml").write_text("id = ")
    monkeypatch.setattr(paths, "paper_file", lambda name: tmp_path / f"{name}.toml")
    with pytest.raises(ParameterError, match=r"Unknown paper 'brokn'.*broken"):
        papers.load("brokn")
    with pytest.raises(ParameterError, match="no valid TOML"):
        papers.load("broken")


def test_a_claim_may_be_of_another_kind_where_it_is_read_fairly() -> None:
    claim = {"id": "C1", "text": "t", "place": "p", "paper": "x", "as_in_the_paper": [TEST], "fair": "the same"}
    (one,) = paper(claims=[{**claim, "kind": "timing"}]).claims
    (both,) = paper(claims=[{**claim, "kind": {"as_in_the_paper": "arithmetic", "fair": "timing"}}]).claims
    assert one.kind == "timing" and one.kinds["fair"] == "timing"
    assert both.kind == "arithmetic; fair: timing" and both.kinds["as_in_the_paper"] == "arithmetic"
