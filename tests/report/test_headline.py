"""The first cell of a notebook: two sentences and a small table, or what keeps it from that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from effi import paths, report
from effi.records import store
from tests.report.synthetic import trained


def keep(folder: Path, scale: str, *records: dict[str, Any]) -> None:
    """Write records of the paper minimal."""
    file = paths.records_file(folder, scale, "minimal")
    file.parent.mkdir(parents=True)
    store.append(file, [{**each, "scale": scale, "identity": str(place)} for place, each in enumerate(records)])


def test_without_results_it_names_the_command(tmp_path: Path) -> None:
    keep(tmp_path, "smoke", trained("mnist/minimum", 0, 0.8))
    assert report.headline("minimal", tmp_path).text() == "Nothing is recorded yet: make reproduce."


def test_it_counts_claims_and_shows_those_that_the_paper_names(tmp_path: Path) -> None:
    keep(tmp_path, "cpu", trained("check/C14", 0, 0.8) | {"metrics": {"order": 9}})
    found = report.headline("minimal", tmp_path)
    assert found.title == (
        "At cpu scale, tested as in the paper, 1 of its 15 claims holds, 0 fail and 14 stay open; "
        "under fair tests, 1 holds, 0 fail and 14 stay open."
    )
    assert [row[0].partition(":")[0] for row in found.rows] == ["C8", "C10"]
    assert found.rows[0][1:] == ("○ inconclusive (not run)",) * 2
    assert found.notes == ("A claim stays open where this scale is too small, or its seeds too few, to settle it.",)


def test_the_largest_scale_with_records_is_told(tmp_path: Path) -> None:
    for scale in ("smoke", "cpu", "gpu"):
        keep(tmp_path, scale, trained("mnist/minimum", 0, 0.8))
    assert report.headline("minimal", tmp_path).title.startswith("At gpu scale, ")


def test_what_cannot_be_read_does_not_stop_a_notebook(tmp_path: Path) -> None:
    old = {name: value for name, value in trained("mnist/minimum", 0, 0.8).items() if name != "variant"}
    keep(tmp_path, "cpu", old)
    said = report.headline("minimal", tmp_path).text()
    assert said.startswith("The last results cannot be shown: ") and "mnist/minimum" in said
