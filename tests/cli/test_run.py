"""`effi run` and `effi list`: options reach the workbook, the exit status says whether everything ran."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from effi import paths, workbook
from effi.workbook import Outcome
from effi.workbook.answers import Failure
from tests.cli.conftest import Said, keep

Effi = Callable[..., Said]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What `workbook.run` was asked for; it answers with outcomes["is"]."""
    outcomes: dict[str, object] = {"is": [Outcome("made_up", "done", 1.0, judged=True)]}

    def run(names: list[str], **options: object) -> object:
        outcomes.update(options, names=list(names))
        return outcomes["is"]

    monkeypatch.setattr(workbook, "run", run)
    return outcomes


def test_list_shows_papers_and_the_parameters_of_one(effi: Effi, root: Path) -> None:
    said = effi("list")
    assert said.status == 0 and "made_up" in said.out and "A tiny question" in said.out
    said = effi("list", "made_up")
    row = next(line for line in said.out.splitlines() if "seeds" in line)
    assert "list[int]" in row and "empty: those of the scale" in row


def test_run_hands_its_options_on(effi: Effi, root: Path, asked: dict[str, object]) -> None:
    said = effi("run", "made_up", "--scale", "cpu", "--jobs", "2", "-p", "width=3", "--set", "note=a=b", "--quiet")
    assert said == Said(0, "", "")
    assert asked["names"] == ["made_up"] and asked["jobs"] == 2 and asked["quiet"] is True
    assert asked["parameters"] == {"width": "3", "note": "a=b"}
    assert asked["scale"] == "cpu" and asked["results_dir"] == "results"


@pytest.fixture
def elsewhere(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the workbook, in which the caller stands."""
    folder = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder)
    return folder


def test_results_go_where_the_caller_stands(
    effi: Effi, root: Path, asked: dict[str, object], monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    inside = root / "notes"
    for folder, there in ((elsewhere, str(elsewhere / "mine")), (inside, "notes/mine")):
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(folder)
        effi("run", "--results-dir", "mine", "--quiet")
        assert asked["results_dir"] == there
    effi("run", "--quiet")
    assert asked["results_dir"] == "results"


def test_data_of_ones_own_are_looked_for_where_the_caller_stands(
    effi: Effi, asked: dict[str, object], elsewhere: Path
) -> None:
    (elsewhere / "own.csv").touch()
    (elsewhere / "mnist").mkdir()
    own = f"csv:{elsewhere}/own.csv"
    for given, meant in (("csv:own.csv", own), ("csv:gone.csv", "csv:gone.csv"), ("mnist", "mnist")):
        effi("run", "-p", f"dataset={given}", "-p", "checkpoint=mnist", "-p", "note=csv:own.csv", "--quiet")
        assert asked["parameters"] == {"dataset": meant, "checkpoint": f"{elsewhere}/mnist", "note": "csv:own.csv"}


def test_run_ends_with_the_verdicts_and_where_the_report_is(effi: Effi, root: Path, asked: dict[str, object]) -> None:
    said = effi("run")
    assert said.status == 0 and said.err == ""
    claim = next(line for line in said.out.splitlines() if "C1" in line)
    assert claim.count("✓ for") == 2
    last = next(line for line in said.out.splitlines() if line.strip().startswith("made_up "))
    assert last.count("1 for") == 2
    report = paths.run_dir("results", "cpu", "made_up") / "1_made_up.ipynb"
    assert said.out.splitlines()[-1] == f"report: {report}"


def test_rows_that_were_put_aside_are_counted(effi: Effi, root: Path, asked: dict[str, object]) -> None:
    asked["is"] = [Outcome("made_up", "done", 1.0, aside=59), Outcome("other", "done", 1.0, aside=1)]
    first, second = effi("run").out.splitlines()
    assert first.startswith("made_up: 59 rows of records.jsonl, not counted by this run, put aside")
    assert second.startswith("other: 1 row of")
    assert effi("run", "--quiet").out == ""


@pytest.mark.parametrize(("error", "status"), [(None, 0), ("2 of 3 arms failed.", 1)])
def test_only_what_did_not_run_fails(
    effi: Effi, root: Path, asked: dict[str, object], error: str | None, status: int
) -> None:
    keep(paths.records_file("results", "cpu", "made_up"), arms=(("dense", 0.8, 100.0), ("half", 0.75, 10.0)))
    asked["is"] = [Outcome("made_up", "failed" if error else "done", 1.0, error, judged=True)]
    said = effi("run")
    assert "✗ against" in said.out and said.status == status
    assert said.err == (f"made_up: {error}\n" if error else "")


def test_a_paper_without_claims_is_passed_over(effi: Effi, root: Path, asked: dict[str, object]) -> None:
    paths.paper_file("made_up").unlink()
    said = effi("run")
    assert said.status == 0 and "made_up.toml, which holds the claims of made_up, is missing; restore it" in said.err


def test_an_older_runs_verdicts_are_not_shown_for_one_that_failed_early(
    effi: Effi, root: Path, asked: dict[str, object]
) -> None:
    asked["is"] = [Outcome("made_up", "failed", 1.0, "Cell [3] stopped with ValueError: bad")]
    assert effi("run") == Said(1, "", "made_up: Cell [3] stopped with ValueError: bad\n")


def test_a_mistake_that_a_notebook_found_is_told_once_as_any_other(
    effi: Effi, root: Path, asked: dict[str, object]
) -> None:
    asked["is"] = [Outcome("made_up", "failed", 1.0, "there is no /data[/old]: mend the path", mistake=True)]
    assert effi("run") == Said(2, "", "made_up: there is no /data[/old]: mend the path\n")


def test_arms_that_failed_are_named_with_the_file_of_their_record(
    effi: Effi, root: Path, asked: dict[str, object]
) -> None:
    failures = tuple(Failure(f"d/{arm}", (0, 1), "loss is nan", "a/records.jsonl") for arm in "abcdefg")
    asked["is"] = [Outcome("made_up", "failed", 1.0, "7 of 7 arms failed.", failures=failures)]
    said = effi("run")
    assert said.status == 1 and said.out == ""
    first, second, *_, last = said.err.splitlines()
    assert first == "made_up: 7 of 7 arms failed."
    assert second == "made_up: d/a, seeds 0, 1: loss is nan (record in a/records.jsonl)"
    assert last == "made_up: and 2 more" and said.err.count("\n") == 7


def test_dry_run_prints_the_plan(effi: Effi, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"arm": "dense", "steps": 12_000, "flops": 3_000_000, "peak_bytes": 2_000_000, "hours": 1.3, "trainings": 1},
        {"arm": "half", "steps": None, "flops": 0, "peak_bytes": None, "hours": 0.5, "trainings": 1},
    ]
    monkeypatch.setattr(workbook, "dry_run", lambda name, scale, given, pace: rows if scale == "paper" else [])
    said = effi("run", "made_up", "--dry-run", "--scale", "paper")
    assert "made_up, paper scale: 2 arms, 1 h 48 min one after another" in said.out
    dense = next(line.split() for line in said.out.splitlines() if line.strip().startswith("dense"))
    assert dense == ["dense", "12,000", "3", "MFLOP", "2", "MB", "1", "h", "18", "min"]
    half = next(line for line in said.out.splitlines() if line.strip().startswith("half"))
    assert half.count("not available") == 2 and "30 min 00 s" in half
    for workers in ("2", "slurm:2"):
        said = effi("run", "made_up", "--dry-run", "--scale", "paper", "--workers", workers)
        assert "1 h 18 min on 2 workers at the pace measured here" in " ".join(said.out.split())
    assert "is no place" in effi("run", "made_up", "--dry-run", "--workers", "many").err


def test_a_dry_run_by_flops_says_at_what_rate(effi: Effi, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paces = []

    def dry_run(name: str, scale: str, given: object, pace: float | None) -> list[dict[str, object]]:
        paces.append(pace)
        return [{"arm": "dense", "steps": 1, "flops": 1, "peak_bytes": None, "hours": 2.0, "trainings": 2}]

    monkeypatch.setattr(workbook, "dry_run", dry_run)
    said = effi("run", "made_up", "--dry-run", "--tflops", "250", "--workers", "2")
    title = "made_up, cpu scale: 1 arm, 2 h 00 min one after another, 1 h 00 min on 2 workers, by FLOPs at 250 TFLOP/s"
    assert title in " ".join(said.out.split()) and paces == [2.5e14]
    assert "--tflops is for --dry-run" in effi("run", "made_up", "--tflops", "250").err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "nothing"), "There is no paper 'nothing'; known: made_up."),
        (("run", "made_up", "-p", "widht=3"), "made_up has no parameter 'widht'; did you mean 'width'"),
        (("run", "made_up", "-p", "width"), "--set wants name=value, not 'width'."),
        (("run", "--scale", "gpuu"), "There is no scale 'gpuu'; did you mean 'gpu'"),
        (("list", "made"), "There is no paper 'made'; did you mean 'made_up'"),
        (("data", "fetch", "minst"), "unknown data set 'minst'; did you mean 'mnist'?"),
    ],
)
def test_a_mistake_is_one_sentence(effi: Effi, root: Path, words: tuple[str, ...], sentence: str) -> None:
    said = effi(*words)
    assert said.status == 2 and said.out == ""
    assert said.err.startswith(f"effi: {sentence}") and said.err.count("\n") == 1


def test_every_command_has_help(effi: Effi) -> None:
    said = effi("--help")
    for command in ("list", "run", "verify", "report", "compare", "bench", "data", "doctor"):
        assert command in said.out
        assert effi(command, "--help").status == 0


@pytest.mark.parametrize(("ending", "status"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interrupted_run_says_how_it_goes_on(
    effi: Effi, root: Path, monkeypatch: pytest.MonkeyPatch, ending: BaseException, status: int
) -> None:
    def run(*_: object, **__: object) -> None:
        raise ending

    monkeypatch.setattr(workbook, "run", run)
    said = effi("run", "--quiet")
    assert said.status == status and said.err.startswith("Interrupted. Run again: finished arms are kept")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "there is too little memory"),
        (OSError(28, "No space left on device"), "free space on the disk"),
    ],
)
def test_what_the_system_refuses_is_a_sentence_with_its_mend(
    effi: Effi, root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def run(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(workbook, "run", run)
    said = effi("run", "--quiet")
    assert said.status == 1 and said.err.count("\n") == 1 and sentence in said.err
