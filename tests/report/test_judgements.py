"""The claims table says what decided, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from effi import claims, paths
from effi.claims import ClaimRow, Results
from effi.claims.papers import Paper
from effi.records import store
from effi.report import claims_table, derive, evidence_table, source_tables
from tests.claims.synthetic import arm, paper, record
from tests.report.synthetic import trained

BETTER = {"rule": "ordering", "metric": "test_accuracy", "a": "{dataset}/new", "b": "{dataset}/old"}
RECORDS = arm("d/new", [0.8, 0.81, 0.82], "test_accuracy") + arm("d/old", [0.7, 0.7, 0.7], "test_accuracy")


def judge(paper: str | Paper, records: list[dict[str, Any]]) -> list[ClaimRow]:
    return claims.judge(paper, Results(records))


def test_a_row_is_made_of_the_numbers() -> None:
    rows = judge(paper(BETTER, fair=[{**BETTER, "direction": "lower"}]), RECORDS)
    table = claims_table(rows)
    assert table.columns[4:6] == ("as in the paper (cpu scale)", "fair (cpu scale)")
    assert table.rows[0][:6] == (
        "C1: It works",
        "Sec. 1",
        "not available",
        "11.0 points [8.5, 13.5], n=3",
        "✓ reproduced",
        "✗ not reproduced",
    )
    reason = "d/new - d/old, test accuracy: difference 11.0 points [8.5, 13.5], claimed {} 0, n=3"
    assert table.rows[0][6] == f"{reason.format('above')}. Fair: {reason.format('below')}"


def test_capped_and_missing_claims_say_so() -> None:
    short = {"training": {"epochs": 1}}
    capped = arm("d/new", [0.8, 0.8, 0.8], "test_accuracy", settings=short) + RECORDS[3:]
    assert claims_table(judge(paper(BETTER), capped)).rows[0][4] == "○ inconclusive (points for)"
    missing = claims_table(judge(paper(BETTER), RECORDS[:3])).rows[0]
    assert missing[3:5] == ("not available", "○ inconclusive (not run)")
    assert missing[6] == "not run at this scale: d/old"


def test_every_test_is_listed() -> None:
    table = evidence_table(judge(paper(BETTER, {**BETTER, "b": "{dataset}/none"}), RECORDS))
    assert [row[1] for row in table.rows] == ["as in the paper"] * 2 + ["fair"] * 2
    assert table.rows[1][3:] == ("○ inconclusive", "not run at this scale: d/none")


def test_notes_stand_below_the_table() -> None:
    table = claims_table(judge("minimal", []))
    assert table.rows[13][6] == "not run at this scale: check/C14"
    assert "C14: true but loose: composition gives 3^S; checked at S = 2." in table.notes
    assert [note.partition(":")[0] for note in table.notes[:3]] == ["C1", "C2", "C3"]
    assert max(map(len, table.text().splitlines())) <= 160


def test_derived_tables_come_from_the_records_alone(tmp_path: Path) -> None:
    assert set(derive(tmp_path, "cpu", "minimal")) == {"claims", "evidence"}
    file = paths.records_file(tmp_path, "cpu", "minimal")
    file.parent.mkdir(parents=True)
    records = [
        trained("mnist/mlp-h1", 0, 0.9),
        trained("mnist/minimum", 0, 0.8, flops=9.0),
        record("check/C14", order=9),
    ]
    store.append(file, [{**each, "identity": str(place)} for place, each in enumerate(records)])
    tables = derive(tmp_path, "cpu", "minimal")
    assert set(tables) == {"claims", "evidence", "arms", "cost", "matched"}
    assert tables["evidence"].rows[0][3:] == ("✓ reproduced", "ratio 9.00 %, limit <= 10 %, n=1")
    assert tables["claims"].rows[13][4] == "✓ reproduced"
    assert [row[0] for row in tables["cost"].rows] == ["mnist/mlp-h1", "mnist/minimum"]
    assert derive(tmp_path, "cpu", "minimal") == tables


def test_source_tables_name_source_and_status() -> None:
    tables = source_tables("minimal")
    assert tables["follow_up"].notes == ("Source: arXiv 2510.25366, Table 1",)
    assert tables["follow_up"].title.endswith("(secondary)")
    assert "not available" in tables["reimplementation_variants"].rows[6]
