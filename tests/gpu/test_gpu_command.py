"""`make gpu` on a machine without one: it starts, stops when its time is over, and goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from effi import paths
from effi.bench import BENCHES
from effi.records import store
from effi.workbook import notebooks
from tests.gpu import __main__ as command

TINY = {"width": 16, "depth": 2, "heads": 2, "hidden": 32}
CODES = {"bad": 5, "worse": 7, "good": 0}
LARGE = {"width": 32, "depth": 2, "heads": 4, "hidden": 64}


def test_it_covers_every_paper_every_benchmark_of_a_gpu_and_every_test_that_asks_for_one() -> None:
    steps = command.steps("cuda", "gpu", "results")
    papers = {notebook.paper for notebook in notebooks()}
    assert list(steps) == ["tests", *(f"bench {name}" for name in command.BENCHES), *command.PAPERS]
    assert set(command.PAPERS) == papers and set(command.BENCHES) == {n for n in BENCHES if n.startswith("gpu")}
    named = {Path(word).parent.name for word in steps["tests"] if word.endswith(".py")}
    assert {"training", "instant_soup", "axes", "cost", "bench", "mixed_sparsity", "data"} <= named


TOY = {
    "minimal": ("digits", "mlp-h1,nomlp-h4", {"variant": {"width": 16, "hidden": 32}}),
    "early_bird": ("digits", "dense,eb-0.3", {"models": ["vit"], "ratios": [0.3], "vision": {"vit": TINY}}),
    "mixed_sparsity": ("grammar", "dense,mst", {"ratio": 0.4, "size": {**TINY, "width": 128, "hidden": 512}}),
    "ligo": ("grammar", "scratch,ligo", {"kinds": ["gpt"], "sizes": {"gpt": {"small": TINY, "large": LARGE}}}),
    "instant_soup": ("digits", "dense,isp-0.9", {"sparsities": [0.9], "clip": {"width": 16, "depth": 1}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("paper", command.PAPERS)
def test_each_notebook_at_gpu_scale_starts_on_a_cpu_at_toy_size(paper: str, tmp_path: Path) -> None:
    """A step of two arms, of all steps that the scale has."""
    dataset, only, options = TOY[paper]
    rows = planned(paper, tmp_path, dataset=dataset, only=only.split(","), **options)
    asked = {row[0].rpartition("/")[2]: row for row in rows if row and row[0].rpartition("/")[2] in only.split(",")}
    assert sorted(asked) == sorted(only.split(",")) and all("FLOP" in " ".join(row) for row in asked.values())
    assert not paths.records_file(tmp_path, "gpu", paper).exists()


@pytest.mark.slow
@pytest.mark.parametrize("paper", sorted({*command.PAPERS} - {"instant_soup"}))
def test_every_arm_of_gpu_scale_can_be_made(paper: str, tmp_path: Path) -> None:
    """By its FLOPs alone; notebook 2 has too many rounds for the embedded images, and says so."""
    ends = {"small": TINY, "large": {"width": 64, "depth": 4, "heads": 8, "hidden": 256}}
    toy = {"ligo": {"sizes": dict.fromkeys(("gpt", "bert", "vit"), ends)}}.get(paper, {})
    rows = planned(paper, tmp_path, "--tflops", "200", **toy)
    assert sum("FLOP" in " ".join(row) for row in rows) > 20


def planned(paper: str, results: Path, *words: str, **parameters: object) -> list[list[str]]:
    """What `effi run --dry-run` prints of a run at gpu scale on a CPU, of one seed, in words by line."""
    told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}
    given = ["seeds=[0]", *(f"{name}={value}" for name, value in told.items())]
    run = command.steps("cpu", "gpu", str(results))[paper]
    words = (*words, *(word for each in given for word in ("-p", each)))
    ended = subprocess.run([*run, "--dry-run", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return [line.split() for line in ended.stdout.splitlines()]


@pytest.mark.slow
def test_a_call_runs_a_notebook_to_its_records(tmp_path: Path) -> None:
    own = ["minimal", "--device", "cpu", "--scale", "smoke", "--results-dir", str(tmp_path), "--done", str(tmp_path)]
    assert command.main(own) == 0
    assert store.records(paths.records_file(tmp_path, "smoke", "minimal"))


def test_what_is_done_is_not_done_again_and_time_that_is_over_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def saying(text: str, seconds: float = 0.0) -> list[str]:
        return [sys.executable, "-c", f"import time; print({text!r}, flush=True); time.sleep({seconds})"]

    steps = {"first": saying("one"), "second": saying("two", 60.0), "third": saying("three")}
    assert command.in_turn(steps, tmp_path, 5.0) == command.MORE
    told = capfd.readouterr().out
    assert "\none\n" in told and "\ntwo\n" in told and "three\n" not in told.partition("second")[2]
    assert "second: the time is over; the same command goes on from here" in told
    assert command.in_turn(steps | {"second": saying("two")}, tmp_path, 60.0) == 0
    told = capfd.readouterr().out
    assert "first: done before" in told and "\none\n" not in told and "\nthree\n" in told


def test_a_step_that_fails_stops_no_other_and_comes_last_in_the_next_call(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad, worse, good = ([sys.executable, "-c", f"print({name!r}); raise SystemExit({n})"] for name, n in CODES.items())
    assert command.in_turn({"bad": bad, "worse": worse, "good": good}, tmp_path, 60.0) == 5
    assert "all but what failed is done" in capfd.readouterr().out
    assert command.in_turn({"bad": bad, "worse": worse, "good": good, "new": good}, tmp_path, 60.0) == 5
    said = capfd.readouterr().out
    assert said.index("good: done before") < said.index("new: ") < said.index("bad: ") < said.index("worse: ")
    assert command.in_turn({"bad": good, "good": bad}, tmp_path, 60.0) == 5, "another command is another step"
    assert command.in_turn({"bad": good}, tmp_path, 60.0) == 0
    assert "all done" in capfd.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, and would be used")
def test_without_a_gpu_nothing_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["bench", "--done", str(tmp_path)]) == command.NO_GPU and not list(tmp_path.iterdir())
    assert "effi doctor" in capsys.readouterr().out


def test_an_unknown_step_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["benches", "--device", "cpu"])
    assert "no step 'benches'; did you mean 'bench'" in capsys.readouterr().err
