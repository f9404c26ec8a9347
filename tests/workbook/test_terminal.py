"""What a person sees while notebooks run."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from effi.errors import duration
from effi.workbook import terminal
from effi.workbook.answers import Counts
from effi.workbook.terminal import Bars, Lines, Row, Silent, display, plain_console


def counted(kept: int, failed: int, total: int, elapsed: float) -> Counts:
    return Counts(kept=kept, failed=failed, total=total, elapsed=elapsed)


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Row:
    """A row whose verdicts need no records."""
    monkeypatch.setattr(terminal, "verdicts", lambda *_: {"for": 2, "against": 0, "open": 1})
    return Row("paper", "cpu", "results")


def test_time_left_is_paced_by_what_was_trained_now(row: Row) -> None:
    assert row.time == "waiting"
    row.update(Counts(elapsed=4))
    assert row.time == "4 s"
    # Four arms are kept from an earlier run: they say nothing about the pace.
    row.update(counted(4, 0, 10, 5))
    assert row.time == "5 s" and row.arms == "4/10 arms"
    # One done and one failed in 20 s; four to go.
    row.update(counted(5, 1, 10, 25))
    assert row.time == "25 s, 40 s left" and row.arms == "6/10 arms"
    row.update(counted(9, 1, 10, 65))
    assert row.time == "1 min 05 s"


def test_a_second_run_in_a_notebook_counts_anew(row: Row) -> None:
    row.update(counted(6, 0, 9, 10))
    for seen in (counted(0, 0, 3, 20), Counts(elapsed=21)):
        row.update(seen)
        assert row.time == duration(seen.elapsed)


def test_verdicts_are_counted_in_words(row: Row) -> None:
    row.update(counted(1, 0, 2, 1))
    assert row.summary.plain == "claims: 2 for · 1 open"
    row.finish(failed=True)
    assert row.summary.plain == "failed"


def drawn(bars: Bars) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(bars.table())
    return console.file.getvalue()


def test_every_notebook_has_a_row(row: Row) -> None:
    bars = Bars({"paper": row, "other": Row("other", "cpu", "results")}, plain_console())
    bars.update("paper", counted(1, 0, 2, 3))
    first, second = drawn(bars).splitlines()[:2]
    assert first.split()[0] == "paper" and "1/2 arms" in first and "2 for" in first
    assert second.split()[0] == "other" and "waiting" in second


def test_lines_tell_the_beginning_and_the_end_and_little_between(row: Row) -> None:
    console = Console(file=io.StringIO(), width=120)
    lines = Lines(console, {"paper": row})
    for done in range(3):
        lines.update("paper", counted(done, 0, 3, done))
    lines.finish("paper", failed=False)
    assert console.file.getvalue().splitlines() == [
        "paper: started at scale cpu",
        "paper: done | 2 s | 0 trained, 2 from records | claims: 2 for · 1 open",
    ]


def test_lines_tell_progress_after_a_while(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=120)
    lines = Lines(console, {"paper": row})
    lines.update("paper", counted(0, 0, 3, 0))
    monkeypatch.setattr(terminal, "PLAIN_EVERY_S", 0)
    lines.update("paper", counted(1, 0, 3, 10))
    lines.update("paper", counted(1, 0, 3, 11))
    assert console.file.getvalue().splitlines()[1:] == ["paper: 1/3 arms | 10 s, 20 s left"]


def test_quiet_says_nothing_and_a_pipe_gets_lines(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(terminal, "verdicts", lambda *_: {})
    for quiet, kind in ((True, Silent), (False, Lines)):
        with display(["paper"], "cpu", str(tmp_path), quiet) as shown:
            shown.update("paper", Counts())
            shown.finish("paper", failed=False)
        assert isinstance(shown, kind)
        said = capfd.readouterr()
        assert said.out == "" and bool(said.err) is not quiet


def test_no_records_mean_no_verdicts(tmp_path: Path) -> None:
    assert terminal.verdicts("minimal", "cpu", str(tmp_path)) == {}


def test_verdicts_of_an_older_run_are_not_shown(row: Row) -> None:
    row.update(Counts(elapsed=1))
    row.finish(failed=False)
    assert row.summary.plain == ""
    row.update(counted(0, 2, 2, 3))
    row.finish(failed=False)
    assert row.summary.plain == ""


def test_stale_records_and_both_ways_out_are_told_once(row: Row) -> None:
    file = io.StringIO()
    lines = Lines(plain_console(file=file, width=300), {"paper": row})
    lines.update("paper", Counts())
    for elapsed in (1, 2):
        lines.update("paper", Counts(stale=2, total=3, elapsed=elapsed))
    told = [line for line in file.getvalue().splitlines() if "stale" in line]
    assert told == [
        "paper: 2 of 3 records are stale (the source has changed since) and are trained anew; to keep those that "
        "compute the same bits, stop and run `effi adopt paper`."
    ]


def test_bars_tell_stale_records_too(row: Row) -> None:
    file = io.StringIO()
    bars = Bars({"paper": row}, plain_console(file=file, width=300))
    bars.update("paper", Counts(stale=1, total=3))
    assert file.getvalue().startswith("paper: 1 of 3 records are stale")


def test_rows_and_lines_say_which_process_is_waited_for(row: Row) -> None:
    file = io.StringIO()
    lines = Lines(plain_console(file=file, width=300), {"paper": row})
    for counts in (Counts(), Counts(waiting=7), Counts(waiting=7), Counts(kept=1, total=2)):
        lines.update("paper", counts)
    assert file.getvalue().splitlines() == ["paper: started at scale cpu", "paper: waiting for process 7"]
    bars = Bars({"paper": row}, plain_console())
    assert "waiting for process" not in drawn(bars)
    bars.update("paper", Counts(kept=1, total=2, waiting=8))
    assert "waiting for process 8" in drawn(bars)


def test_what_a_user_typed_is_not_read_as_markup() -> None:
    file = io.StringIO()
    console = plain_console(file=file, width=120)
    lines = Lines(console, {"[/old]": Row("[/old]", "[red]cpu", ":smile:")})
    lines.update("[/old]", Counts())
    assert file.getvalue() == "[/old]: started at scale [red]cpu\n"
