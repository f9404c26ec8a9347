"""Where a record comes from."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import effi
from effi.records import provenance as room
from effi.records.provenance import provenance
from effi.records.source import source_hash


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    for name in ("code.py", "results/records.jsonl"):
        (tmp_path / name).write_text("old\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_facts_are_plain_json_and_complete() -> None:
    facts = provenance()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["effi"] == effi.__version__ and facts["effi_source"] == source_hash()
    assert facts["versions"]["torch"] == version("torch") and facts["cpu"] and facts["cores"] >= 1
    assert facts["flop_method"] == "closed form" and "gpu" in facts


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    assert room._git(checkout) == {"git_sha": git(checkout, "rev-parse", "HEAD").strip(), "git_dirty": None}


def test_changed_code_is_told_and_changed_results_are_not(checkout: Path) -> None:
    (checkout / "results/records.jsonl").write_text("new\n")
    assert room._git(checkout)["git_dirty"] is None
    hashes = set()
    for text in ("new\n", "newer\n", "newer\n"):
        (checkout / "code.py").write_text(text)
        hashes.add(room._git(checkout)["git_dirty"])
    assert len(hashes) == 2 and None not in hashes


def test_no_checkout_and_no_git_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert room._git(tmp_path)["git_sha"] == "not a git checkout"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert room._git(tmp_path)["git_sha"] == "not a git checkout"


def test_the_gpu_is_named_with_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "H100")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr(room, "_command", lambda *words: "580.1\n580.1")
    assert room._gpu() == {"name": "H100", "driver": "580.1", "cuda": "13.0"}
    monkeypatch.setattr(room, "_command", lambda *words: None)
    assert room._gpu()["driver"] is None
