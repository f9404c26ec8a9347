"""What broke a file of records is told as that, in one sentence, before any table is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from effi import paths
from effi.records import store
from tests.cli.conftest import Said

BREAK: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "edited": (lambda held: held.replace(b"0.801", b"0.802", 1), "was changed after it was written"),
    "history": (lambda held: held.replace(b"[0.5", b"[1.5", 1), "was changed after it was written"),
    "torn": (lambda held: held[:-40], "is torn"),
    "emptied": (lambda held: b"", "is empty"),
    "zeros": (lambda held: held[:400] + b"\0" * 400, "zero bytes"),
    "no record": (lambda held: b'{"loss": 1}\n' + held, "is no record: it lacks"),
}


@pytest.mark.parametrize("how", BREAK)
def test_verify_says_what_is_broken(root: Path, effi: Callable[..., Said], how: str) -> None:
    file = paths.records_file("results", "cpu", "made_up")
    change, told = BREAK[how]
    held = file.read_bytes()
    file.write_bytes(change(held))
    assert file.read_bytes() != held
    said = effi("verify")
    assert said.status == 2 and told in said.err and str(file) in said.err
    assert len(said.err.splitlines()) == 1


def test_verify_says_that_the_note_of_what_was_asked_for_is_torn(root: Path, effi: Callable[..., Said]) -> None:
    file = paths.records_file("results", "cpu", "made_up").with_name("current.json")
    file.write_text('["d/dense/0", ')
    said = effi("verify")
    assert said.status == 2 and f"{file} is torn" in said.err
    assert len(said.err.splitlines()) == 1


def test_records_of_older_versions_are_compared_but_not_verified(root: Path, effi: Callable[..., Said]) -> None:
    file = paths.records_file("results", "cpu", "made_up")
    old = root / "old" / "records.jsonl"
    old.parent.mkdir()
    known = ("checksum", "dataset", "model", "variant", "ratio")
    rows = [{key: value for key, value in row.items() if key not in known} for row in store.rows(file)]
    old.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = effi("compare", str(old), str(file))
    assert said.status == 0 and "d/half" in said.out
    shutil.copy(old, file)
    refused = effi("verify")
    assert refused.status == 2 and "older version" in refused.err and len(refused.err.splitlines()) == 1
