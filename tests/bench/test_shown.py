"""Rows on disk, those of the older form among them, and the tables drawn from them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import repeat
from pathlib import Path

import pytest

from effi import bench, paths
from effi.bench import shown
from effi.bench.peers import NOT_INSTALLED
from effi.bench.rounds import FORM, Case, FailedError, Row, timed
from effi.bench.shown import HOW, OLDER, newest, save, table, timed_before
from effi.records import store
from effi.records.provenance import provenance
from tests.bench.conftest import Machine, absent


@pytest.fixture
def case(machine: Machine) -> Case:
    takes = {"short": machine.takes(repeat(0.25)), "long": machine.takes(repeat(0.75)), "gone": absent}
    return Case("naps", "short", takes, clock=machine.clock)


def test_rows_carry_what_is_needed_to_repeat_them(case: Case, tmp_path: Path) -> None:
    rows = timed(case, budget_s=0.0)
    for _ in range(2):
        save("naps", rows, tmp_path, written="2020-01-01")
    held = store.rows(paths.bench_file(tmp_path, "naps"))
    assert [row["competitor"] for row in held] == ["short", "long", "gone"] * 2
    assert (held[1]["seconds"], held[1]["beside"], held[1]["form"]) == (rows[1].seconds, rows[1].beside, FORM)
    facts = held[0]["provenance"]
    assert facts["versions"]["torch"] == version("torch") and facts["cpu"] and facts["cores"]
    assert held[0]["others"] == 0.0 and isinstance(held[0]["load"], float | None)


def test_a_table_is_drawn_from_the_newest_rows(case: Case, tmp_path: Path) -> None:
    file = paths.bench_file(tmp_path, "naps")
    facts = {"cpu": "abacus", "cores": 8, "threads": 3, "gpu": None, "versions": {"torch": "9.9"}}
    for day, load in (("2020-01-01", 9.0), ("2020-01-02", 0.5)):
        rows = [replace(row, case="new", load=load) for row in timed(case, budget_s=0.0)]
        store.append(file, [{"written": day, "provenance": facts} | asdict(row) for row in rows])
    shown = table("naps", newest("naps", tmp_path))
    assert shown.columns[4] == "x short"
    assert shown.rows == (
        ("new", "short", "250.0", "250.0", "1", "9", "1,234", "5.00", ""),
        ("new", "long", "750.0", "750.0", "3 [3, 3]", "9", "1,234", "5.00", ""),
        ("new", "gone", "not installed: uv pip install absent", "", "", "", "", "", ""),
    )
    machine = "abacus, 3 threads on 8 cores, torch 9.9, load average 0.50, cores that others kept busy 0.00, 2020-01-02"
    assert shown.notes == (machine, HOW)


def test_a_worthless_row_shows_no_seconds_and_says_why(machine: Machine, case: Case, tmp_path: Path) -> None:
    machine.busy = 100.0
    save("naps", timed(case, budget_s=0.0), tmp_path, written="2020-01-01")
    shown = table("naps", newest("naps", tmp_path))
    assert shown.rows[1] == ("naps", "long", "", "", "noisy: repeat", "9", "1,234", "5.00", "")
    assert shown.notes[3].startswith("naps, long: noisy: repeat: others kept 100.00 of ")


def test_what_was_timed_before_a_case_that_fails_is_kept(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case, replace(case, title="more naps"), replace(case, title="broken", calls="many")]
    monkeypatch.setattr(bench, "BENCHES", {"naps": lambda: cases})
    with pytest.raises(TypeError):
        bench.main("naps", results_dir=tmp_path, budget_s=0.0)
    assert [row["case"] for row in newest("naps", tmp_path)] == ["naps"] * 3 + ["more naps"] * 3


def test_a_competitor_that_failed_fails_the_command_when_all_else_is_timed(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(case, title="broken", competitors={**case.competitors, "bad": lambda: 1 / 0})
    monkeypatch.setattr(bench, "BENCHES", {"naps": lambda: [broken, case]})
    seconds = iter(range(10))  # what is written in one second counts as one measurement
    monkeypatch.setattr(bench, "now", lambda: f"2020-01-0{next(seconds)}")
    with pytest.raises(FailedError, match="broken, bad: failed: ZeroDivisionError: division by zero"):
        bench.main("naps", results_dir=tmp_path, budget_s=0.0)
    assert [row["case"] for row in newest("naps", tmp_path)] == ["broken"] * 4 + ["naps"] * 3
    assert "ZeroDivisionError" in capsys.readouterr().out
    bench.main("naps", results_dir=tmp_path, stored=True)  # what is shown was told before
    monkeypatch.setattr(bench, "BENCHES", {"naps": lambda: [replace(case, title="broken"), case]})
    bench.main("naps", results_dir=tmp_path, budget_s=0.0, resume=True)
    assert [row["case"] for row in newest("naps", tmp_path)] == ["naps"] * 3 + ["broken"] * 3


def test_what_may_turn_out_otherwise_is_timed_again_after_all_that_is_new(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(title: str, note: str | None) -> None:
        rows = [replace(row, case=title, note=note or row.note) for row in timed(case, budget_s=0.0)]
        save("naps", rows, tmp_path, written="2020-01-01")

    notes = {"quiet": None, "loud": "noisy: repeat: others kept 2 of 2 cores busy", "bad": "failed: ValueError: no"}
    notes |= {"installed": f"{NOT_INSTALLED}pytest", "absent": f"{NOT_INSTALLED}no-such-thing"}
    for title, note in notes.items():
        noted(title, note)
    assert timed_before("naps", tmp_path) == dict.fromkeys(("loud", "bad", "installed"), "again") | dict.fromkeys(
        ("quiet", "absent"), "done"
    )
    monkeypatch.setattr(bench, "BENCHES", {"naps": lambda: [replace(case, title=each) for each in (*notes, "new")]})
    bench.main("naps", results_dir=tmp_path, resume=True, budget_s=0.0)
    rows = store.rows(paths.bench_file(tmp_path, "naps"))[3 * len(notes) :]
    assert [row["case"] for row in rows[::3]] == ["new", "loud", "bad", "installed"]


def test_a_benchmark_that_goes_on_times_only_what_this_source_has_not_timed_here(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case, replace(case, title="more naps")]
    monkeypatch.setattr(bench, "BENCHES", {"naps": lambda: cases})
    save("naps", timed(case, budget_s=0.0), tmp_path, written="2020-01-01")
    bench.main("naps", results_dir=tmp_path, resume=True, budget_s=0.0)
    assert [row["case"] for row in store.rows(paths.bench_file(tmp_path, "naps"))] == ["naps"] * 3 + ["more naps"] * 3
    monkeypatch.setattr(shown, "provenance", lambda: provenance() | {"cpu": "another"})
    bench.main("naps", results_dir=tmp_path, resume=True, budget_s=0.0)
    assert len(store.rows(paths.bench_file(tmp_path, "naps"))) == 12


def test_cases_measured_at_other_times_stand_together_with_what_each_was_measured_on(
    case: Case, tmp_path: Path
) -> None:
    """A case that was renamed or is measured no more stays, too, until its rows go."""
    file = paths.bench_file(tmp_path, "naps")
    facts = {"cores": 8, "threads": 3, "gpu": None, "versions": {"torch": "9"}}
    for day, cpu, titles in (("2020-01-01", "abacus", ("one", "two")), ("2020-01-02", "quipu", ("two",))):
        rows = [replace(row, case=title, load=0.5) for title in titles for row in timed(case, budget_s=0.0)]
        header = {"written": day, "provenance": {**facts, "cpu": cpu}}
        store.append(file, [header | asdict(row) for row in rows])
    shown = newest("naps", tmp_path)
    assert [(row["case"], row["written"]) for row in shown[::3]] == [("one", "2020-01-01"), ("two", "2020-01-02")]
    first, second, *_ = table("naps", shown).notes
    assert first.startswith("abacus") and first.endswith("2020-01-01 (one)")
    assert second.startswith("quipu") and second.endswith("2020-01-02 (two)")


def older(row: Row) -> dict[str, object]:
    """The row as it was written before there were intervals."""
    later = {"beside", "low", "high", "others", "form", "extra_bytes"}
    return {name: value for name, value in asdict(row).items() if name not in later}


def test_rows_of_the_older_form_are_read_and_said_to_be_so(case: Case, tmp_path: Path) -> None:
    rows = [older(row) for row in timed(case, budget_s=0.0)]
    facts = {"cpu": "abacus", "cores": 2, "threads": 2, "gpu": None, "versions": {"torch": "9.9"}}
    file = paths.bench_file(tmp_path, "naps")
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps({"written": "2020-01-01", "provenance": facts} | row) + "\n" for row in rows))
    shown = table("naps", newest("naps", tmp_path))
    assert shown.rows[1][2:6] == ("750.0", "750.0", "3", "9")
    assert shown.notes[1] == OLDER
    assert "cores that others kept busy not available" in shown.notes[0]


@pytest.mark.parametrize("file", sorted(paths.bench_dir().glob("*.jsonl")), ids=lambda file: file.stem)
def test_what_is_committed_is_shown(file: Path) -> None:
    rows = newest(file.stem, paths.results())
    shown = table(file.stem, rows)
    assert len(shown.rows) == len(rows) > 0
    assert {HOW, OLDER} & {*shown.notes}


def test_main_appends_and_prints_every_benchmark(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    several = {"one": lambda: [case], "two": lambda: [case, replace(case, title="more naps")]}
    monkeypatch.setattr(bench, "BENCHES", several)
    bench.main(results_dir=tmp_path, budget_s=0.0)
    printed = capsys.readouterr().out
    assert "Benchmark one" in printed and "more naps" in printed
    assert [len(newest(name, tmp_path)) for name in several] == [3, 6]
    bench.main(results_dir=tmp_path, stored=True)
    assert capsys.readouterr().out == printed
    assert len(store.rows(paths.bench_file(tmp_path, "one"))) == 3


def test_what_was_never_timed_is_said_to_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bench.main("vit", results_dir=tmp_path, stored=True)
    assert capsys.readouterr().out == "Benchmark vit: no rows yet; `effi bench vit` makes them\n\n"
    assert list(tmp_path.iterdir()) == []
