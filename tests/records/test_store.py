"""The file of records: whole lines, whatever breaks."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from effi import paths
from effi.errors import RecordError
from effi.records import records, store
from effi.records.index import MEASURED
from tests.largest_file import largest_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def row(number: int, status: str = "done", **more: object) -> dict[str, object]:
    return {"identity": str(number), "arm": "a", "seed": number, "status": status, "metrics": {"loss": 1.0}, **more}


def test_a_file_not_there_holds_no_records(path: Path) -> None:
    assert records(path) == [] and store.finished(path) == {}


def test_rows_come_back_in_order_one_per_line(path: Path) -> None:
    store.append(path, [row(1, text="a\nb"), row(2)])
    store.append(path, [row(3)])
    assert [each["identity"] for each in records(path)] == ["1", "2", "3"]
    assert path.read_bytes().count(b"\n") == 3


def test_latest_keeps_the_newest_and_never_hides_what_is_done() -> None:
    found = [row(1, "failed", at=0), row(1, "failed", at=1), row(2, at=2), row(2, "failed", at=3), row(1, at=4)]
    assert {key: each["at"] for key, each in store.latest(found).items()} == {"1": 4, "2": 2}


# --- torn lines ----------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_passed_over_then_moved_aside(path: Path) -> None:
    store.append(path, [row(1)])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"identity": "2", "sta')
    assert [each["identity"] for each in records(path)] == ["1"]
    store.append(path, [row(3)])
    assert [each["identity"] for each in records(path)] == ["1", "3"]
    assert path.read_bytes().startswith(whole)
    assert path.with_suffix(".torn").read_bytes() == b'{"identity": "2", "sta\n'


def test_a_last_line_that_lacks_only_its_newline_is_completed(path: Path) -> None:
    path.write_text(json.dumps(store.seal(row(1))))
    store.append(path, [row(2)])
    assert [each["identity"] for each in records(path)] == ["1", "2"]
    assert not path.with_suffix(".torn").exists()


# --- files that something else broke -------------------------------------------------------------------------


def text(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(store.seal(each)) + "\n" for each in rows)


WHOLE = text(row(1), row(2, loss=0.5), row(3))
BROKEN = {
    "a line that is no JSON": (f"{text(row(1))}broken\n{text(row(2))}", "line 2 of .* is not JSON; restore"),
    "a line of a list": (f"[1]\n{WHOLE}", "line 1 of .* is not JSON"),
    "a line without keys": (f'{text(row(1))}{{"loss": 1}}\n', "line 2 of .* lacks identity, arm, seed, status; "),
    "a changed number": (WHOLE.replace("0.5", "0.500001"), r"line 2 of .* \(arm a, seed 2\) was changed .* restore"),
    "another checksum": (WHOLE.replace('checksum": "', 'checksum": "0'), "line 1 of .* was changed"),
    "a line of an older version": (f"{json.dumps(row(1))}\n", "line 1 of .* older version.* move the file away"),
    "an emptied file": ("", "is empty, and no run leaves it so"),
    "zeros": (WHOLE + "\0" * 9, "zero bytes from line 4 on, as after a power cut"),
    "a changed last line without its end": (WHOLE.replace('seed": 3', 'seed": 4')[:-1], "line 3 of .* was changed"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_is_one_sentence_with_the_mend(path: Path, broken: str) -> None:
    content, told = BROKEN[broken]
    path.write_text(content)
    for read in (records, store.finished, store.current):
        with pytest.raises(RecordError, match=told) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_who_wants_whole_files_hears_of_a_torn_last_line(path: Path) -> None:
    path.write_text(WHOLE[:-9])
    assert len(records(path)) == 2
    with pytest.raises(RecordError, match=r"last line of .* is torn"):
        records(path, whole=True)


def test_lines_of_older_versions_may_be_read_on_request(path: Path) -> None:
    path.write_text(json.dumps(row(1)) + "\n")
    assert records(path, sealed=False) == [row(1)]
    path.write_text(WHOLE.replace("0.5", "0.6"))
    with pytest.raises(RecordError, match="was changed"):
        records(path, sealed=False)


@pytest.mark.parametrize("torn", ['["1", "2', "", '{"1": 2}', "[1]", "\0\0"])
def test_a_torn_note_of_what_was_asked_for_is_named(path: Path, torn: str) -> None:
    path.write_text(WHOLE)
    path.with_name("current.json").write_text(torn)
    with pytest.raises(RecordError, match=r"current\.json is (torn|no list).* run again"):
        store.current(path)


def test_a_new_file_appears_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("effi.records.store.os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        store.append(path, [row(1)])
    assert not path.exists()


# --- rows that no longer count -------------------------------------------------------------------------------


def held(path: Path) -> tuple[list[str], list[str]]:
    """Identities in the file, and of what was put aside."""
    return tuple([each["identity"] for each in records(file)] for file in (path, path.with_name("superseded.jsonl")))


def test_rows_that_were_not_asked_for_are_put_aside_and_come_back(path: Path) -> None:
    store.append(path, [row(1), row(2), row(3, "failed"), row(3), row(4, "failed")])
    whole = path.read_bytes()
    store.point(path, ["3", "4", "5"])
    assert store.tidy(path) == 3
    assert held(path) == (["3", "4"], ["1", "2", "3"])
    assert [each["status"] for each in records(path)] == ["done", "failed"]
    assert store.finished(path).keys() == {"1", "2", "3"}
    store.point(path, ["2", "1"])
    assert [each["identity"] for each in store.current(path)] == ["2", "1"]
    assert store.tidy(path) == 2
    assert held(path) == (["1", "2"], ["3", "3", "4"])
    store.point(path, ["1", "2", "3", "4"])
    store.tidy(path)
    assert set(path.read_bytes().splitlines()) < set(whole.splitlines())
    assert held(path)[1] == ["3"]


def test_without_a_note_nothing_is_put_aside(path: Path) -> None:
    store.append(path, [row(1)])
    assert store.tidy(path) == 0
    assert held(path) == (["1"], [])


@pytest.mark.parametrize("steps", range(3))
def test_a_kill_while_tidying_loses_no_row(path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    store.append(path, [row(1), row(2)])
    store.point(path, ["1"])
    store.tidy(path)
    store.append(path, [row(3)])
    store.point(path, ["2"])
    real, done = store._replace, []

    def killed(file: Path, data: bytes) -> None:
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(file)
        real(file, data)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(store, "_replace", killed)
        store.tidy(path)
    assert store.finished(path).keys() == {"1", "2", "3"}
    store.tidy(path)
    assert held(path) == (["2"], ["1", "3"])


def tidy_many(path: Path) -> None:
    for turn in range(30):
        store.point(path, [str(turn % 5 + 100)])
        store.tidy(path)


def test_rows_are_found_while_another_process_tidies(path: Path) -> None:
    store.append(path, [row(number) for number in range(100, 105)])
    tidying = multiprocessing.get_context("fork").Process(target=tidy_many, args=(path,))
    tidying.start()
    looks = 0
    while tidying.is_alive() or not looks:
        assert len(store.finished(path)) == 5
        looks += 1
    tidying.join()
    assert len(store.every(path)) == 5


# --- locks ---------------------------------------------------------------------------------------------------


def test_who_waits_says_for_which_process(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "PATIENCE_S", 0.1)
    monkeypatch.setenv("EFFI_PROGRESS", "1")
    go = threading.Event()

    def hold() -> None:
        with store.locked(path, "x", "the holder"):
            go.set()
            time.sleep(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    go.wait()
    with store.locked(path, "x", 'arm "a"'):
        holder.join()
    assert capsys.readouterr().err == f'arm "a": waiting for process {os.getpid()}, which is at it\n'
    assert not list(path.with_name("locks").glob("*.pid"))


# --- disks that refuse ---------------------------------------------------------------------------------------


def test_a_file_that_may_not_grow_keeps_what_it_held(path: Path) -> None:
    store.append(path, [row(1)])
    whole = path.read_bytes()
    rows, told = [row(2, text="x" * 500)], r"records\.jsonl .* 6\d\d bytes .*free space"
    with largest_file(len(whole) + 100), pytest.raises(RecordError, match=told):
        store.append(path, rows)
    assert path.read_bytes() == whole
    store.append(path, rows)
    assert len(records(path)) == 2


def test_a_full_disk_after_half_a_line_keeps_what_the_file_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(path, [row(1)])
    whole = path.read_bytes()
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: len(data) // 2])

    monkeypatch.setattr("effi.records.store.os.write", half)
    with pytest.raises(RecordError, match="No space left"):
        store.append(path, [row(2)])
    assert path.read_bytes() == whole


def test_an_interrupt_while_writing_keeps_what_the_file_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(path, [row(1)])
    whole = path.read_bytes()

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("effi.records.store.os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.append(path, [row(2)])
    assert path.read_bytes() == whole


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(RecordError, match=r"results.* cannot be written .*results_dir"):
        store.append(tmp_path / "results" / "records.jsonl", [row(1)])


def test_a_folder_where_the_file_should_be_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(RecordError, match=r"records\.jsonl could not take"):
        store.append(path, [row(1)])
    with pytest.raises(RecordError, match=r"records\.jsonl cannot be read"):
        records(path)


# --- several writers -----------------------------------------------------------------------------------------


def write_many(path: Path, start: int) -> None:
    for number in range(start, start + 20):
        store.append(path, [row(number, text="x" * 3000), row(-number)])


def test_two_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_many, args=(path, start)) for start in (100, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    names = [int(each["identity"]) for each in records(path)]
    assert sorted(names[::2]) == [*range(100, 120), *range(200, 220)]
    assert all(second == -first for first, second in zip(names[::2], names[1::2], strict=True))


def test_replace_leaves_the_new_text_alone_in_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "progress.json"
    paths.replace(path, "old")
    paths.replace(path, "new")
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_what_is_finished_is_known_without_reading_all_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly() -> dict[str, store.Record]:
        done = {name: row for name, row in store.latest(store.every(path)).items() if row["status"] == "done"}
        return {name: {k: v for k, v in row.items() if k not in MEASURED} for name, row in done.items()}

    steps = [
        lambda: store.append(path, [row(1), row(2, "failed")]),
        lambda: store.append(path, [row(2, at=2), row(3), row(1, "failed"), row(1, at=4)]),
        lambda: store.point(path, ["2"]) or store.tidy(path),
        lambda: store.append(path, [row(4)]),
        lambda: store.point(path, ["1", "4"]) or store.tidy(path),
        lambda: path.write_bytes(path.read_bytes() + b'{"identity": "5", "arm"'),
        lambda: store.append(path, [row(5)]),
        lambda: path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1])),
        lambda: path.unlink(),
        lambda: store.append(path, [row(6)]),
    ]
    for step in steps:
        step()
        assert dict(store.finished(path)) == slowly()
        assert not any("metrics" in each for each in store.finished(path).values())
    read = list[bytes]()
    monkeypatch.setattr("effi.records.index.checked", lambda place, line, *_: read.append(line) or json.loads(line))
    store.append(path, [row(7)])
    assert "7" in store.finished(path) and len(read) == 1
