"""Nothing is left of a run that was killed: no process, and after the next run no folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from effi.workbook import run, scratch
from tests.workbook.processes import alive, wait
from tests.workbook.tiny import write

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="needs /proc to see whether a process lives"
)
BUSY = """
import os, tempfile, time
note = {note!r}
with open(note + ".part", "w") as file:
    file.write(f"{{os.getpid()}} {{os.getppid()}} {{tempfile.mkdtemp()}}")
os.rename(note + ".part", note)
until = time.monotonic() + 60
while time.monotonic() < until:
    sum(range(10**5))
"""
RUN = """
from pathlib import Path
from effi.workbook import run
run(scale="smoke", results_dir={results!r}, quiet=True, folder=Path({folder!r}))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of temporary files of its own, for this process and those that it starts."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["run", "all"])
def test_a_killed_run_leaves_nothing(tmp_path: Path, place: Path, victim: str) -> None:
    note = tmp_path / "note"
    write(tmp_path / "notebooks" / "1_busy.ipynb", BUSY.format(note=str(note)))
    code = RUN.format(results=str(tmp_path / "results"), folder=str(tmp_path / "notebooks"))
    command = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    assert wait(note.exists, 60)
    kernel, child, folder = note.read_text().split()
    processes = [int(kernel), int(child)]
    assert all(map(alive, processes)) and Path(folder).is_relative_to(place)
    for pid in (command.pid, *(processes if victim == "all" else ())):
        os.kill(pid, signal.SIGKILL)
    command.wait()
    assert wait(lambda: not any(map(alive, processes)), 8)
    write(tmp_path / "notebooks" / "1_busy.ipynb", "1")
    (outcome,) = run(scale="smoke", results_dir=str(tmp_path / "results"), quiet=True, folder=tmp_path / "notebooks")
    assert outcome.status == "done" and list(place.iterdir()) == []


def test_a_folder_in_use_or_of_others_stays(place: Path) -> None:
    (place / "effi-results").mkdir()
    with scratch.folder() as mine:
        assert scratch.clean() == [] and mine.is_dir()
    assert not mine.exists() and [path.name for path in place.iterdir()] == ["effi-results"]
    abandoned = place / "effi-abandoned"
    abandoned.mkdir()
    (abandoned / scratch.LOCK).touch()
    assert scratch.clean() == [abandoned] and not abandoned.exists()
