"""Records that survive a refactoring: adopted where the bits are the same, left stale where they are not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from effi import paths
from effi.errors import RecordError
from effi.records import Record, machine, records, store
from effi.records.source import Source
from effi.workbook import adoption
from effi.workbook.notebook import find
from tests.workbook.processes import wait
from tests.workbook.tiny import write

METHOD = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Options:
    lr: float = 0.5

FACTOR = 3

def train(arm):
    value = arm.seed * FACTOR + arm.settings["options"].lr
    arm.record({"value": value, "train_seconds": next_time()}, {"loss": [value, value / 3]})

def other(arm):
    arm.record({"value": arm.seed})

def next_time():
    import time
    return time.time()

def count(found):
    return {"n": len(found)}
"""
REFACTORED = (
    METHOD.replace("lr: float = 0.5", "lr: float = 0.5\n    momentum: float = 0.0")
    .replace("value = arm.seed * FACTOR", "scaled = FACTOR * arm.seed\n    value = scaled")
    .replace("value / 3", "value / (2 + 1)")
)
SLEEP_S = 600
ASK = """
from effi import paths
from effi.records import adoption

found = adoption.trained(paths.records_file("results", "cpu", "tiny"))
print(len(adoption.outdated(found, "results")))
"""
PARAMETERS = 'scale: str = "smoke"\nresults_dir: str = "results"\n'
CELLS = (
    "from effi.records import Name, Run\nfrom effi.method import Options, count, other, train",
    'run = Run("tiny", scale, uses=["effi.method"], results_dir=results_dir)\n'
    'options = {"options": Options()}\n'
    'run.each(train, {Name("d", None, "dense"): options}, [0, 1] if scale == "smoke" else [0, 1, 2], jobs=1)\n'
    'run.each(other, {Name("d", None, "other"): None}, [0], jobs=1)',
    'run.derived("check/C1", count, of=run.records())',
)


class Repository:
    """A checkout of the workbook with one notebook and one method; each change of the method is committed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(paths.PACKAGE, root / "effi", ignore=shutil.ignore_patterns("__pycache__"))
        write(root / "notebooks" / "1_tiny.ipynb", *CELLS, parameters=PARAMETERS)
        self.git("init", "-q")

    def git(self, *words: str) -> str:
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(["git", *author, *words], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, method: str) -> str:
        (self.root / "effi" / "method.py").write_text(method)
        self.git("add", "effi", "notebooks")
        self.git("commit", "--allow-empty", "-qm", "a change")
        return self.git("rev-parse", "HEAD")

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)

    def run(self) -> dict[str, Any]:
        """Run the notebook's cells at cpu scale: what the run says of its progress, and how many were stale before."""
        done = self.python("\n".join([PARAMETERS, 'scale = "cpu"', ASK, *CELLS]))
        assert not done.returncode, done.stderr
        return json.loads((self.records.parent / "progress.json").read_text()) | {"before": int(done.stdout)}

    def adopt(self) -> subprocess.CompletedProcess[str]:
        return self.python("import sys; sys.argv = ['effi', 'adopt', 'tiny']; from effi.cli import main; main()")

    @property
    def records(self) -> Path:
        return self.root / "results" / "cpu" / "tiny" / "records.jsonl"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("repository"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_neutral_refactoring_is_adopted_and_a_changed_constant_is_refused(repository: Repository) -> None:
    # Made on an unclean tree: the records name a commit that has another source.
    named = repository.commit(METHOD.replace("FACTOR = 3", "FACTOR = 2"))
    (repository.root / "effi" / "method.py").write_text(METHOD)
    assert repository.run()["trained"] == 5
    made = repository.records.read_bytes()
    (record, *_) = records(repository.records)
    assert record["provenance"]["git_sha"] == named and record["provenance"]["git_dirty"]
    maker = repository.commit(METHOD)

    repository.commit(REFACTORED)
    done = repository.adopt()
    assert (done.returncode, done.stdout) == (0, "tiny: 4 of 4 stale records adopted\n"), done.stderr
    (line,) = store.rows(repository.root / "results" / "adopted.jsonl")
    assert (line["commit"], line["device"], line["arms"]) == (maker, "cpu", ["d/dense", "d/other"])
    assert line["machine"] == machine.cpu() and line["versions"]["torch"]
    assert all(pair["old"]["effi"] != pair["new"]["effi"] for pair in line["sources"])
    again = repository.run()
    assert (again["trained"], again["kept"], again["stale"], again["before"]) == (0, 5, 0, 0)
    assert repository.records.read_bytes() == made

    repository.commit(REFACTORED.replace("FACTOR = 3", "FACTOR = 4"))
    refused = repository.adopt()
    told = "tiny: 0 of 4 stale records adopted\n  d/dense seed 1: metrics value was 3.5, now is 4.5\n"
    assert (refused.returncode, refused.stdout) == (1, told), refused.stderr
    anew = repository.run()
    assert (anew["trained"], anew["kept"], anew["stale"], anew["before"]) == (5, 0, 4, 4)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_adoption_leaves_no_kernel(repository: Repository, ending: signal.Signals) -> None:
    repository.commit(METHOD)
    repository.run()
    sleeper = METHOD.replace("def train(arm):", f"def train(arm):\n    import time\n    time.sleep({SLEEP_S})")
    (repository.root / "effi" / "method.py").write_text(sleeper)
    code = "import sys; sys.argv = ['effi', 'adopt', 'tiny']; from effi.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(repository.root)}
    adopting = subprocess.Popen([sys.executable, "-c", code], cwd=repository.root, env=environment)
    assert wait(lambda: kernels(repository.root), 60)
    adopting.send_signal(ending)
    adopting.wait()
    assert wait(lambda: not kernels(repository.root), 60)


def kernels(root: Path) -> list[int]:
    """Processes that import effi from a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"PYTHONPATH={root}".encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes()
                found += [int(process.name)] if b"ipykernel" in command or b"effi.workbook.child" in command else []
    return found


def made(arm: str, effi: str, status: str = "done", seed: int = 0) -> Record:
    source = Source(effi, None, ("effi.seeds",)).plain()
    facts: dict[str, Any] = {"arm": arm, "seed": seed, "status": status, "parents": None, "source": source}
    return {**facts, "error": "nan", "metrics": {"loss": 0.5} if status == "done" else {}, "history": {}}


def compared(there: list[Record], here: list[Record]) -> tuple[list[str], list[str]]:
    """Sources there that are the same as one here, and what differs."""
    old, new = ({(each["arm"], each["seed"]): each for each in side} for side in (there, here))
    same, differences = adoption._compared(old, new)
    return sorted(str(was.effi) for was, _ in same), differences


def test_arms_of_one_source_with_the_same_bits_make_it_the_same() -> None:
    there = [made("a", "1"), made("b", "2"), made("c", "1", "failed")]
    here = [made("a", "3"), made("b", "2"), made("c", "3", "failed"), made("only here", "4")]
    assert compared(there, here) == (["1"], [])


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("done", "failed", "b seed 0: was done, now is failed (nan)"),
        ("failed", "done", "b seed 0: was failed (nan), now is done"),
        ("done", None, "b seed 0: was done, now is missing"),
    ],
)
def test_an_arm_that_fails_or_disappears_refuses_the_source_it_shares(was: str, now: str | None, told: str) -> None:
    there = [made("a", "1"), made("b", "1", was), made("c", "2")]
    here = [made("a", "3"), made("c", "4"), *([made("b", "3", now)] if now else [])]
    assert compared(there, here) == (["2"], [told])


def test_a_seed_that_smoke_scale_no_longer_trains_is_no_loss() -> None:
    there = [made("a", "1"), made("a", "1", seed=1)]
    assert compared(there, [made("a", "3")]) == (["1"], [])
    assert compared(there, [made("b", "3")])[0] == []


def test_a_failure_that_is_gone_is_no_loss() -> None:
    assert compared([made("a", "1"), made("b", "1", "failed")], [made("a", "3")]) == (["1"], [])


def candidates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcomes: list[Any]) -> list[str]:
    """Commits named by number, whose smoke runs give the outcomes; devices that they were asked for."""
    asked: list[str] = []

    def smoke(notebook: object, root: Path, device: str, folder: Path) -> Any:
        asked.append(device)
        outcome = outcomes[int(root.name)]
        if isinstance(outcome, RecordError):
            raise outcome
        return outcome

    monkeypatch.setattr(adoption, "_smoke", smoke)
    trees = [tmp_path / str(number) for number in range(len(outcomes))]
    for tree in trees:
        tree.mkdir()
    monkeypatch.setattr(adoption.adoption, "commits_of", lambda *_: iter(trees))
    return asked


def test_a_commit_that_does_not_run_leaves_the_next_to_be_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (notebook,) = find(["minimal"])
    old = {**made("a", "1"), "device": "cpu"}
    asked = candidates(monkeypatch, tmp_path, [RecordError("it is broken"), {("a", 0): old}])
    (tmp_path / "1" / "README.md").write_text("a text of another day")
    assert adoption._made_by(old, notebook, tmp_path) == ({("a", 0): old}, "1", [])
    assert asked == ["cpu", "cpu"]
    assert (tmp_path / "1" / "README.md").read_bytes() == (paths.ROOT / "README.md").read_bytes()
    other = {**made("a", "2"), "device": "cpu"}
    told = ["no smoke run has the source that made it (2 commits tried, of at most 3)", "it is broken"]
    assert adoption._made_by(other, notebook, tmp_path) == ({}, "", told)


def test_records_are_compared_on_their_own_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (notebook,) = find(["minimal"])
    candidates(monkeypatch, tmp_path, [])
    asked: list[str] = []
    monkeypatch.setattr(adoption, "_smoke", lambda _, root, device, folder: asked.append(device) or {})
    kept = [{**made("a", "1"), "device": "cpu"}, {**made("b", "1"), "device": "cuda"}]
    file = paths.records_file(tmp_path, "cpu", "minimal")
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr(adoption.adoption, "trained", lambda _: kept)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = adoption._adopt(notebook, str(tmp_path))
    assert asked == ["cpu"] and (found.stale, found.adopted) == (2, 0)
    assert found.reasons[1] == "1 were made on a GPU, which this machine lacks; adopt them on one"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    adoption._adopt(notebook, str(tmp_path))
    assert asked == ["cpu", "cpu", "cuda"]


def test_sources_that_an_earlier_adoption_joins_need_one_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (notebook,) = find(["minimal"])
    provenance = {"provenance": {"versions": {}}, "device": "cpu"}
    first, second, here = ({**made("a", effi), **provenance} for effi in "123")
    runs: list[str] = []

    def smoke(_: object, root: Path, *__: object) -> adoption.Bits:
        runs.append(root.name)
        return {("a", 0): second if root.name == "old" else here}

    monkeypatch.setattr(adoption, "_smoke", smoke)
    monkeypatch.setattr(adoption.adoption, "commits_of", lambda *_: iter([tmp_path / "old"]))
    (tmp_path / "old").mkdir()
    joined = {"device": "cpu", "sources": [{"old": first["source"], "new": second["source"]}]}
    store.append(adoption.adoption.file(tmp_path), [joined])
    found = adoption._adopt_on("cpu", [first, second], notebook, str(tmp_path))
    assert (found.stale, found.adopted, found.reasons) == (2, 2, ())
    assert runs == [paths.ROOT.name, "old"]
