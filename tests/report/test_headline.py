"""The first cell of a notebook: two sentences and three findings, or what keeps it from that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from effi import paths, report
from effi.claims import papers
from effi.records import store
from effi.report.headline import renew
from tests.report.synthetic import trained


def keep(folder: Path, scale: str, *records: dict[str, Any]) -> None:
    """Write records of the paper minimal."""
    file = paths.records_file(folder, scale, "minimal")
    file.parent.mkdir(parents=True)
    store.append(file, [{**each, "scale": scale, "identity": str(place)} for place, each in enumerate(records)])


def test_without_results_it_names_the_command(tmp_path: Path) -> None:
    keep(tmp_path, "smoke", trained("mnist/minimum", 0, 0.8))
    assert report.headline("minimal", tmp_path).text() == "Nothing is recorded yet: make reproduce."


def test_it_counts_claims_and_shows_the_findings_that_lead(tmp_path: Path) -> None:
    keep(tmp_path, "cpu", trained("check/C14", 0, 0.8) | {"metrics": {"order": 9}})
    found = report.headline("minimal", tmp_path)
    assert found.title == (
        "Of 15 claims at cpu scale: as in the paper, 1 for, 14 not run; fair, 1 for, 14 not run. "
        "At the paper's own protocol, as in the paper: 1 reproduced, 14 not reached."
    )
    told = {finding.id: finding for finding in papers.load("minimal").findings}
    leading = [told[name] for name in papers.load("minimal").report["headline"]]
    told_here = [finding for finding in leading if "cpu" in finding.scales or not finding.scales]
    at_cpu = [f"{finding.short}\n{finding.text}" for finding in told_here]
    assert [row[1] for row in found.rows] == at_cpu and len(at_cpu) < len(leading)
    assert {row[0] for row in found.rows} == {"– not run"}


def test_the_largest_scale_with_records_is_told(tmp_path: Path) -> None:
    for scale in ("smoke", "cpu", "gpu"):
        keep(tmp_path, scale, trained("mnist/minimum", 0, 0.8))
    assert report.headline("minimal", tmp_path).title.startswith("Of 15 claims at gpu scale: ")


def test_what_cannot_be_read_does_not_stop_a_notebook(tmp_path: Path) -> None:
    old = {name: value for name, value in trained("mnist/minimum", 0, 0.8).items() if name != "variant"}
    keep(tmp_path, "cpu", old)
    said = report.headline("minimal", tmp_path).text()
    assert said.startswith("The last results cannot be shown: ") and "mnist/minimum" in said


def test_a_page_brings_its_opening_up_to_date_and_says_of_which_run_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both speak of one place of the page; outside a notebook nothing is shown anew."""
    shown: list[tuple[str, ...]] = []
    for name in ("display", "update_display"):
        monkeypatch.setattr(
            f"IPython.display.{name}", lambda table, display_id: shown.append((*table.notes, display_id))
        )
    report.opening("minimal")
    renew("minimal")
    assert len(shown) == 1
    monkeypatch.setattr("IPython.core.getipython.get_ipython", object)
    renew("minimal")
    said = r"Outputs on this page are of the run that (\w+) on \d+ \w+ \d{4} at \d\d:\d\d UTC\. A later one .*"
    assert [re.fullmatch(said, note)[1] for _, note, _ in shown] == ["began", "ended"]
    assert len({place for *_, place in shown}) == 1
