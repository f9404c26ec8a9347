"""What broke a file of records is told as that, in one sentence, before any table is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from effi import paths
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
