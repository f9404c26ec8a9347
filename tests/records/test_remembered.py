"""Hashes of sources that one process leaves to the next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from effi.records import remembered as cache
from effi.records import source
from effi.records.remembered import remembered


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, found as a user's is."""
    monkeypatch.setattr(cache, "place", PLACE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "effi" / "sources.json"


PLACE = cache.place
ONE, TWO = "1" * 16, "2" * 16


def never() -> str:
    raise AssertionError("computed again")


def test_what_one_call_computes_the_next_one_finds(own: Path) -> None:
    assert remembered("a", lambda: ONE) == ONE and remembered("b", lambda: TWO) == TWO
    assert remembered("a", never) == ONE and json.loads(own.read_text()) == {"a": ONE, "b": TWO}


def test_the_oldest_leave_first(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST", 2)
    for key in "abc":
        remembered(key, lambda: ONE)
    assert [*json.loads(own.read_text())] == ["b", "c"]


@pytest.mark.parametrize("content", ["", '{"a": "on', "[1]", '{"a": 1}', '{"a": "a word"}', "null"])
def test_a_cache_that_is_none_is_made_anew(own: Path, content: str) -> None:
    own.parent.mkdir(parents=True)
    own.write_text(content)
    assert remembered("a", lambda: ONE) == ONE and json.loads(own.read_text()) == {"a": ONE}


def test_where_nothing_can_be_written_it_is_computed(tmp_path: Path) -> None:
    (tmp_path / "caches").write_text("a file where the folder should be")
    assert remembered("a", lambda: ONE) == ONE and remembered("a", lambda: TWO) == TWO


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert cache.place() is None and remembered("a", lambda: ONE) == ONE


def test_a_hash_from_the_cache_is_that_of_the_source_and_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "effi" / "a.py"
    module.parent.mkdir()
    module.with_name("__init__.py").write_text("")
    found = []
    for text in ("A = 1\n", "A = 2\n", "A = 1\n"):
        module.write_text(text)
        found.append(source.source_hash(["effi.a"], tmp_path))
    assert found[0] == found[2] != found[1]
    monkeypatch.setattr(source, "significant", lambda text: never())
    assert source.source_hash(["effi.a"], tmp_path) == found[0]
    monkeypatch.setattr(source, "RULES", ("other rules",))
    with pytest.raises(AssertionError, match="computed again"):
        source.source_hash(["effi.a"], tmp_path)
