"""The file of records: whole lines, whatever breaks."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from effi import paths
from effi.errors import RecordError
from effi.records import records, store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def row(number: int, status: str = "done", **more: object) -> dict[str, object]:
    return {"identity": str(number), "status": status, **more}


def test_a_file_not_there_holds_no_records(path: Path) -> None:
    assert records(path) == [] and store.finished(path) == set()


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
    path.write_text(json.dumps(row(1)))
    store.append(path, [row(2)])
    assert [each["identity"] for each in records(path)] == ["1", "2"]
    assert not path.with_suffix(".torn").exists()


def test_a_broken_line_in_the_middle_is_named(path: Path) -> None:
    path.write_text(f"{json.dumps(row(1))}\nbroken\n{json.dumps(row(2))}\n")
    with pytest.raises(RecordError, match=r"line 2 of .*records\.jsonl"):
        records(path)


# --- disks that refuse ---------------------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_may_not_grow_keeps_what_it_held(path: Path) -> None:
    store.append(path, [row(1)])
    whole = path.read_bytes()
    rows, told = [row(2, text="x" * 500)], r"records\.jsonl .* 5\d\d bytes .*free space"
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
