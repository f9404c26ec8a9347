"""Findings: seen with the interval that carries them, not seen, or not run; and whose records are asked."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from effi import report
from effi.claims import Results, papers
from effi.report.findings import findings_table
from tests.claims.synthetic import arm, paper
from tests.report.synthetic import trained
from tests.report.test_headline import keep

# The package has a function of this name.
findings = import_module("effi.report.findings")

BETTER = {"rule": "ordering", "metric": "loss", "a": "{dataset}/new", "b": "{dataset}/old", "direction": "lower"}
MADE_UP = paper(
    BETTER,
    findings=[
        {"id": "F1", "text": "New is better.", "tests": [BETTER]},
        {"id": "F2", "text": "Old is better.", "tests": [{**BETTER, "direction": "higher"}]},
        {"id": "F3", "text": "New is better than none.", "tests": [BETTER, {**BETTER, "b": "{dataset}/none"}]},
        {"id": "F4", "text": "Told of large runs.", "tests": [BETTER], "scales": ["gpu"]},
    ],
)
RECORDS = arm("d/new", [0.5, 0.5, 0.5]) + arm("d/old", [0.6, 0.7, 0.8])


def test_each_sentence_stands_with_the_interval_that_carries_it_or_does_not() -> None:
    table = findings_table(MADE_UP, Results(RECORDS))
    # Differences -0.1, -0.2, -0.3: 0.2 +- 4.303 x 0.1 / sqrt 3.
    said = "on d the loss of new is 0.200 [-0.048, 0.448] below that of old, n=3"
    assert table.rows == (
        ("○ not seen in this run", "New is better.", said),
        ("○ not seen in this run", "Old is better.", said),
        ("○ not seen in this run", "New is better than none.", f"{said}; not run: d/none"),
    )
    surer = findings_table(MADE_UP, Results(RECORDS[:3] + arm("d/old", [0.69, 0.7, 0.71])))
    assert [row[0] for row in surer.rows] == ["✓ seen", "○ not seen in this run", "○ not seen in this run"]
    assert surer.title == "What we learned, by the records of cpu scale"
    assert "without a correction" in surer.notes[0]


def test_a_finding_whose_arms_are_missing_is_not_run() -> None:
    assert {row[0] for row in findings_table(MADE_UP, Results(RECORDS[:3])).rows} == {"– not run"}


def test_a_sentence_speaks_of_the_data_and_models_that_it_names_and_of_no_stand_in() -> None:
    mine = Results(arm("folder:/mine/new", [0.5] * 3) + arm("folder:/mine/old", [0.6, 0.61, 0.62]))
    assert {row[0] for row in findings_table(MADE_UP, mine).rows} == {"– not run"}


def test_some_findings_are_told_of_some_scales_only() -> None:
    large = [{**record, "scale": "gpu"} for record in RECORDS]
    assert [row[1] for row in findings_table(MADE_UP, Results(large)).rows][-1] == "Told of large runs."


def test_without_a_scale_the_highest_with_records_is_asked(tmp_path: Path) -> None:
    assert report.findings("minimal", tmp_path).text() == "Nothing is recorded yet: make reproduce."
    for scale in ("smoke", "cpu", "hours"):
        keep(tmp_path, scale, trained("mnist/minimum", 0, 0.8))
    assert report.findings("minimal", tmp_path).title.endswith("of hours scale")
    assert report.findings("minimal", tmp_path, "cpu").title.endswith("of cpu scale")


@pytest.mark.parametrize("name", ["early_bird", "instant_soup", "minimal"])
def test_findings_of_the_papers_lead_the_page(name: str) -> None:
    found = papers.load(name)
    assert len(found.report["headline"]) == 3
    assert set(found.report["headline"]) <= {finding.id for finding in found.findings}
    assert all(finding.text.endswith(".") for finding in found.findings)


def test_a_larger_scale_that_ran_few_claims_does_not_stand_for_the_paper(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for scale in ("cpu", "hours", "gpu"):
        keep(tmp_path, scale, trained("mnist/minimum", 0, 0.8))
    monkeypatch.setattr(findings, "_ran_most", lambda paper, results: results.scale == "cpu")
    found, parts = findings.by_scale("minimal", tmp_path)
    assert (found.scale, [part.scale for part in parts]) == ("cpu", ["gpu", "hours"])
    assert [part.scale for part in findings.in_part("minimal", tmp_path, "hours")] == ["gpu"]
    monkeypatch.setattr(findings, "_ran_most", lambda paper, results: False)
    found, parts = findings.by_scale("minimal", tmp_path)
    assert (found.scale, parts) == ("gpu", [])


def test_most_claims_are_more_than_half() -> None:
    order = {**trained("check/C14", 0, 0.8), "metrics": {"order": 9}}
    assert not findings._ran_most("minimal", Results([order]))
    assert findings._ran_most("minimal", Results.read("results", "cpu", "minimal"))
    assert not findings._ran_most("early_bird", Results.read("results", "gpu", "early_bird"))


def test_what_a_larger_scale_shows_in_part_is_told_with_its_name() -> None:
    large = Results([{**record, "scale": "gpu"} for record in RECORDS])
    table = findings_table(MADE_UP, Results(RECORDS), [large])
    assert [row[0] for row in table.rows][-1] == "○ not seen in this run, gpu scale"
    assert [row[1] for row in table.rows] == [each.text for each in MADE_UP.findings]
    assert findings_table(MADE_UP, large, [large]).rows == findings_table(MADE_UP, large).rows
