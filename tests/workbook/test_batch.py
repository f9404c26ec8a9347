"""Notebooks executed in processes of their own: what succeeds, and every way to fail."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from effi.errors import ParameterError
from effi.workbook import Outcome, batch, find, run
from tests.workbook.processes import alive, wait
from tests.workbook.tiny import write

PROGRESS = """
import json
from pathlib import Path
folder = Path(results_dir, scale, "{paper}")
failures = [{{"arm": "d/thin", "seeds": [2], "error": "loss is nan", "record": "records.jsonl"}}] * {failed}
counts = {{"trained": {trained}, "kept": 0, "failed": {failed}, "stale": 0, "total": 3, "failures": failures}}
(folder / "progress.json").write_text(json.dumps(counts))
"""
TIMES = "import time\nbegan = time.time()\ntime.sleep(1.5)\nprint(began, time.time())"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Outcome], Path]:
    """One batch of notebooks, two at a time: one that is fine, and one for each way to end badly."""
    folder = tmp_path_factory.mktemp("notebooks")
    write(folder / "1_fine.ipynb", TIMES, "import os\nprint(width, scale, os.getcwd(), os.environ['OMP_NUM_THREADS'])")
    write(folder / "2_arms.ipynb", TIMES, PROGRESS.format(paper="arms", trained=2, failed=1))
    write(folder / "3_failing.ipynb", "raise ValueError('first line\\nsecond')", "print('not reached')")
    write(folder / "4_killed.ipynb", "import os\nos.kill(os.getpid(), 9)")
    write(folder / "5_leaving.ipynb", "import sys\nsys.exit(0)", "print('not reached')")
    write(folder / "6_mistaken.ipynb", "from effi.errors import DataError\nraise DataError('no such [set]')")
    write(folder / "7_nothing.ipynb", PROGRESS.format(paper="nothing", trained=0, failed=3), "raise ValueError('page')")
    write(folder / "8_page.ipynb", PROGRESS.format(paper="page", trained=2, failed=1), "raise ValueError('page')")
    results = tmp_path_factory.mktemp("results")
    outcomes = run(scale="cpu", parameters={"width": 7}, jobs=2, results_dir=str(results), quiet=True, folder=folder)
    return {outcome.paper: outcome for outcome in outcomes}, results


def outputs(results: Path, paper: str) -> list[str]:
    """Text of every output of the executed notebook."""
    (path,) = (results / "cpu" / paper).glob("*.ipynb")
    cells = json.loads(path.read_text())["cells"]
    return ["".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", ())]


@pytest.mark.slow
def test_outcomes_come_in_the_order_of_the_notebooks(ran: tuple[dict[str, Outcome], Path]) -> None:
    assert list(ran[0]) == ["fine", "arms", "failing", "killed", "leaving", "mistaken", "nothing", "page"]
    assert [outcome.status for outcome in ran[0].values()] == ["done"] + ["failed"] * 7


@pytest.mark.slow
def test_a_notebook_gets_its_parameters_runs_in_its_folder_and_is_kept(ran: tuple[dict[str, Outcome], Path]) -> None:
    _, printed = outputs(ran[1], "fine")
    width, scale, folder, threads = printed.split()
    assert (width, scale) == ("7", "cpu")
    assert Path(folder).name.startswith("notebooks")
    assert int(threads) == max(1, os.cpu_count() // 2)


@pytest.mark.slow
def test_two_jobs_run_at_once(ran: tuple[dict[str, Outcome], Path]) -> None:
    (began, ended), (other_began, other_ended) = (
        map(float, outputs(ran[1], paper)[0].split()) for paper in ("fine", "arms")
    )
    assert began < other_ended and other_began < ended


@pytest.mark.slow
def test_one_notebook_has_the_machine_to_itself_however_many_may_run(tmp_path: Path) -> None:
    folder, results = tmp_path / "notebooks", tmp_path / "results"
    folder.mkdir()
    write(folder / "1_alone.ipynb", "import os\nprint(os.environ.get('EFFI_RUNS_AT_ONCE', 'alone'))")
    run(scale="cpu", jobs=2, results_dir=str(results), quiet=True, folder=folder)
    assert outputs(results, "alone") == ["alone\n"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paper", "sentence"),
    [
        ("failing", "Cell [3] stopped with ValueError: first line"),
        ("killed", "The kernel was killed in code cell 3, "),
        ("leaving", "Code cell 3 of 4 ended the notebook"),
        ("arms", "1 of 3 arms failed; run again to retry them."),
        ("mistaken", "no such [set]"),
        ("page", "1 of 3 arms failed; run again to retry them. Cell [4] stopped with ValueError: page"),
    ],
)
def test_a_failure_is_one_sentence(ran: tuple[dict[str, Outcome], Path], paper: str, sentence: str) -> None:
    error = ran[0][paper].error
    assert error.startswith(sentence) and "\n" not in error


@pytest.mark.slow
def test_a_mistake_is_told_from_other_errors(ran: tuple[dict[str, Outcome], Path]) -> None:
    assert [paper for paper, outcome in ran[0].items() if outcome.mistake] == ["mistaken"]
    assert ran[0]["mistaken"].error == "no such [set]"


@pytest.mark.slow
def test_where_every_arm_failed_the_page_is_no_news(ran: tuple[dict[str, Outcome], Path]) -> None:
    nothing = ran[0]["nothing"]
    assert nothing.error == "3 of 3 arms failed; run again to retry them."
    assert nothing.failures == (("d/thin", (2,), "loss is nan", "records.jsonl"),) * 3


@pytest.mark.slow
def test_only_a_run_with_records_of_its_own_is_judged(ran: tuple[dict[str, Outcome], Path]) -> None:
    assert [paper for paper, outcome in ran[0].items() if outcome.judged] == ["arms", "page"]


@pytest.mark.slow
def test_what_a_failed_notebook_showed_is_kept(ran: tuple[dict[str, Outcome], Path]) -> None:
    (path,) = (ran[1] / "cpu" / "failing").glob("*.ipynb")
    assert '"ename": "ValueError"' in path.read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"parameters": {"breadth": 1}}, "second has no parameter 'breadth'"),
        ({"parameters": {"scale": "gpu"}}, "give it as --scale"),
        ({"scale": "huge"}, "no scale 'huge'"),
        ({"names": ["third"]}, "no paper 'third'"),
        ({"jobs": 0}, "jobs is 0"),
        ({"results_dir": ""}, "--results-dir is empty"),
    ],
)
def test_nothing_runs_unless_everything_is_right(tmp_path: Path, options: dict[str, object], sentence: str) -> None:
    write(tmp_path / "1_first.ipynb", parameters='scale = "smoke"\nresults_dir = "r"\nbreadth = 1')
    write(tmp_path / "2_second.ipynb", parameters='scale = "smoke"\nresults_dir = "r"')
    with pytest.raises(ParameterError, match=sentence):
        run(**{"results_dir": str(tmp_path / "results"), "quiet": True, "folder": tmp_path, **options})
    assert not (tmp_path / "results").exists()


def test_results_without_a_place_are_named(tmp_path: Path) -> None:
    write(tmp_path / "1_first.ipynb")
    (tmp_path / "taken").touch()
    with pytest.raises(ParameterError, match=r"taken/smoke/first cannot be made \(Not a directory\)"):
        run(scale="smoke", results_dir=str(tmp_path / "taken"), quiet=True, folder=tmp_path)


def begin(tmp_path: Path, *cells: str) -> batch.Child:
    """A notebook that has begun, and not ended yet."""
    write(tmp_path / "1_first.ipynb", *cells)
    (notebook,) = find([], tmp_path)
    return batch.start(batch.prepare(notebook, "smoke", {}, str(tmp_path / "results")))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see whether a process lives")
def test_stopping_ends_the_kernel(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    child = begin(tmp_path, f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    assert wait(lambda: note.exists() and note.read_text(), 30)
    kernel = int(note.read_text())
    assert alive(kernel)
    child.stop()
    assert wait(lambda: not alive(kernel), 30) and child.process.returncode != 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see whether a process lives")
def test_when_the_time_is_over_what_runs_is_stopped_and_what_waits_does_not_begin(tmp_path: Path) -> None:
    note, begun = tmp_path / "pid", time.time()
    write(
        tmp_path / "n" / "1_long.ipynb",
        f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))",
        "time.sleep(250)",
    )
    write(tmp_path / "n" / "2_next.ipynb", "1")
    until = begun + 15
    ended = run(results_dir=str(tmp_path / "r"), quiet=True, folder=tmp_path / "n", until=until, judged=False)
    assert [(each.paper, each.status, each.error) for each in ended] == [
        ("long", "stopped", None),
        ("next", "stopped", None),
    ]
    assert until <= time.time() < begun + 120 and not (tmp_path / "r" / "cpu" / "next").exists()
    assert not note.exists() or wait(lambda: not alive(int(note.read_text())), 30)


@pytest.mark.slow
def test_a_killed_process_is_told_by_its_signal(tmp_path: Path) -> None:
    child = begin(tmp_path, "1")
    child.process.send_signal(signal.SIGKILL)
    child.process.wait()
    outcome = child.outcome()
    assert outcome.status == "failed" and "killed by SIGKILL" in outcome.error


def test_a_process_that_cannot_begin_says_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "papermill.py").write_text("raise ImportError('no papermill here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = begin(tmp_path, "1")
    child.process.wait()
    assert child.outcome().error == "The notebook could not be executed: ImportError: no papermill here"


@pytest.mark.slow
def test_progress_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "smoke" / "first"
    folder.mkdir(parents=True)
    old = folder / "progress.json"
    counts = {"trained": 1, "kept": 2, "failed": 1, "stale": 0, "total": 4, "failures": []}
    old.write_text(json.dumps(counts))
    os.utime(old, (1, 1))
    child = begin(tmp_path, "1")
    child.stop()
    assert child.counts().total is None and child.counts().failed == 0 and child.counts().summary == ""
    old.write_text(json.dumps(counts))
    os.utime(old, (child.began + 1,) * 2)
    assert child.counts()[:5] == (1, 2, 1, 0, 4) and child.counts().done == 3
    assert child.counts().summary == "1 trained, 2 from records, 1 failed"
    old.write_text(json.dumps(counts | {"aside": 5, "waiting": {"arm": "a", "pid": 7}}))
    os.utime(old, (child.began + 1,) * 2)
    assert (child.counts().aside, child.counts().waiting) == (5, 7)
    old.write_text('{"trained": 1')
    assert child.counts().total is None


RUN = """
from effi.errors import TrainingError
from effi.records import Run

def train(arm):
    if arm.seed > 0:
        raise TrainingError("the loss is nan in epoch 1; lower the learning rate")
    arm.record({"accuracy": 1.0})

run = Run("real", scale, results_dir=results_dir, uses=["effi.errors"])
run.each(train, {"d/thin": {}, "d/wide": {}}, seeds, jobs=1)
"""


@pytest.mark.slow
def test_a_run_is_counted_as_it_counts_itself(tmp_path: Path) -> None:
    write(tmp_path / "1_real.ipynb", RUN)
    place = {"scale": "smoke", "results_dir": str(tmp_path / "results"), "quiet": True, "folder": tmp_path}
    (first,) = run(parameters={"seeds": [0, 1]}, **place)
    assert first.error == "2 of 4 arms failed; run again to retry them." and first.judged
    thin, wide = first.failures
    records = tmp_path / "results" / "smoke" / "real" / "records.jsonl"
    sentence = "the loss is nan in epoch 1; lower the learning rate"
    assert thin == ("d/thin", (1,), sentence, str(records)) and wide.arm == "d/wide"
    (notebook,) = find([], tmp_path)
    child = batch.start(batch.prepare(notebook, "smoke", {"seeds": [0]}, str(tmp_path / "results")))
    child.process.wait()
    assert child.counts().summary == "0 trained, 2 from records" and child.outcome().error is None
