"""The claims table says what decided, and what is missing."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

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
    assert table.columns == (
        *("claim", "paper", "ours", "as in the paper, here (cpu scale)", "fair, here (cpu scale)"),
        *("at the paper's protocol", "place", "kind", "why"),
    )
    said = "on d new gains 11.0 points [8.5, 13.5] of test accuracy over old (claimed {} 0), n=3."
    assert table.rows == (
        (
            "C1: It works",
            "not available",
            "11.0 points [8.5, 13.5], n=3",
            "✓ for",
            "✗ against",
            "as in the paper: reproduced; fair: not reproduced",
            "Sec. 1",
            "trained",
            f"For: {said.format('above')} Fair: against: {said.format('below')}",
        ),
    )


def test_what_is_missing_of_the_protocol_or_not_run_is_said() -> None:
    short = {"training": {"epochs": 1}}
    small = arm("d/new", [0.8, 0.81, 0.82], "test_accuracy", settings=short) + RECORDS[3:]
    assert claims_table(judge(paper(BETTER), small)).rows[0][3:6] == ("✓ for", "✓ for", "not reached: 1 epoch of 10")
    missing = claims_table(judge(paper(BETTER), RECORDS[:3])).rows[0]
    assert (*missing[2:6], missing[-1]) == (
        *("not available", "– not run", "– not run", "not reached: 1 of 1 tests not run", "Not run: d/old."),
    )


def test_every_test_is_listed_with_its_p() -> None:
    table = evidence_table(judge(paper(BETTER, {**BETTER, "b": "{dataset}/none"}), RECORDS))
    assert [row[1] for row in table.rows] == ["as in the paper"] * 2 + ["fair"] * 2
    # t = 11 / (1 / sqrt 3) = 19.05 of 2 degrees of freedom: one-sided p = (1 - t / sqrt(t^2 + 2)) / 2 = 0.00137.
    assert table.rows[0][2:] == (
        *("d/new - d/old, test accuracy", "11.0 points [8.5, 13.5], n=3", "claimed above 0", "0.001", "0.999", "0.999"),
        *("✓ for", "", "reached"),
    )
    assert table.rows[1][2:4] == ("d/new - d/none, test accuracy", "not available")
    assert table.rows[1][-3:] == ("– not run", "", "not run: d/none")


def test_an_open_test_says_what_would_tell() -> None:
    # Differences 10, 12 and -4 points: mean 6, sd 8.72; t of n - 1 degrees times 8.72 / sqrt n falls below 6 at n = 11.
    loose = arm("d/new", [0.8, 0.82, 0.66], "test_accuracy") + arm("d/old", [0.7, 0.7, 0.7], "test_accuracy")
    rows = judge(paper(BETTER), loose)
    reach = [scipy_stats.t.ppf(0.975, n - 1) * math.sqrt(76) / math.sqrt(n) for n in (10, 11)]
    assert reach[0] > 6 > reach[1]
    assert evidence_table(rows).rows[0][-2] == "about 11 seeds"
    assert rows[0].fair.why.endswith(", n=3; about 11 seeds would tell if mean and spread stayed.")


def test_the_sheet_holds_numbers() -> None:
    table = evidence_table(judge(paper(BETTER, {**BETTER, "b": "{dataset}/none"}), RECORDS))
    first, missing = list(csv.DictReader(io.StringIO(table.csv())))[:2]
    numbers = {name: float(first[name]) for name in ("mean", "low", "high", "sd", "n", "line", "p for", "p against")}
    quantile, error = 0.95 / math.sqrt(2 * 0.975 * 0.025), 1 / math.sqrt(3)
    tail = (1 - (11 / error) / math.sqrt((11 / error) ** 2 + 2)) / 2
    assert numbers == pytest.approx(
        {
            "mean": 11,
            "low": 11 - quantile * error,
            "high": 11 + quantile * error,
            "sd": 1,
            "n": 3,
            "line": 0,
            "p for": tail,
            "p against": 1 - tail,
        },
        rel=1e-5,
    )
    assert (first["kind"], first["low and high"], first["unit"], first["direction"], first["protocol"]) == (
        *("trained", "95 % interval", "points", "for", "reached"),
    )
    assert (missing["mean"], missing["direction"], missing["protocol"]) == ("", "not run", "not run: d/none")


def test_a_range_is_no_interval() -> None:
    bound = {"rule": "bound", "metric": "test_accuracy", "a": "{dataset}/new", "direction": "higher", "target": 79}
    rows = judge(paper(bound), RECORDS)
    assert claims_table(rows).rows[0][2] == "81.0 %, range 80.0 to 82.0, n=3"
    assert next(csv.DictReader(io.StringIO(evidence_table(rows).csv())))["low and high"] == "range"


def test_what_is_noted_of_a_claim_follows_the_reasons() -> None:
    table = claims_table(judge("minimal", []))
    whys = {row[0].partition(":")[0]: row[-1] for row in table.rows}
    assert whys["C14"] == "Not run: check/C14. Noted: true but loose: composition gives 3^S; checked at S = 2."
    assert table.notes[0].startswith("ours: mean [95 % interval]")
    assert len(table.notes) == 1 and all(" Noted: " in whys[claim] for claim in ("C1", "C2", "C3"))
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
    assert tables["evidence"].rows[0][3:5] == ("9.00 %, n=1", "claimed at most 10 %")
    assert tables["claims"].rows[13][3:6] == ("✓ for", "✓ for", "reproduced")
    assert [row[0] for row in tables["cost"].rows] == ["mnist/mlp-h1", "mnist/minimum"]
    assert derive(tmp_path, "cpu", "minimal") == tables


def test_source_tables_name_source_and_status() -> None:
    tables = source_tables("minimal")
    assert tables["follow_up"].notes == ("Source: arXiv 2510.25366, Table 1",)
    assert tables["follow_up"].title.endswith("(secondary)")
    assert "not available" in tables["reimplementation_variants"].rows[6]
