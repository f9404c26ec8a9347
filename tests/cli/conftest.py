"""A small workbook in a folder of its own: one notebook, its claims, records and a front page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from effi import cli, paths, report
from effi.records import store
from tests.report.synthetic import trained
from tests.workbook.tiny import write

CLAIMS = """
id = "made_up"
title = "A made-up paper"
citation = "Nobody"
datasets = ["d"]
full = { seeds = 3 }
margins = { accuracy = { other = 1.0 } }

[report]
baseline = "dense"
headline = []
method = ["thin"]
score = "test_accuracy"
margin = "accuracy"
metrics = ["test_accuracy"]
price_per_gpu_hour = 2.0

[[claims]]
id = "C1"
kind = "trained"
text = "Half is as good as dense"
place = "Sec. 1"
paper = "not available"
fair = "the same"
as_in_the_paper = [
    { rule = "no_loss", metric = "test_accuracy", a = "{dataset}/half", b = "{dataset}/dense", margin = 1.0 },
]
"""


RESULTS = "<!-- results:begin -->\nold\n<!-- results:end -->\n"
FINDINGS = "<!-- findings:begin -->\nold\n<!-- findings:end -->\n"
PAGE = f"Above\n{RESULTS}Between\n{FINDINGS}Below\n"


class Said(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root of the small workbook; half keeps the accuracy of dense, thin loses five points."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    write(paths.notebooks_dir() / "1_made_up.ipynb")
    paths.paper_file("made_up").parent.mkdir(parents=True)
    paths.paper_file("made_up").write_text(CLAIMS)
    paths.readme().write_text(PAGE)
    keep(paths.records_file("results", "cpu", "made_up"))
    tables = report.derive("results", "cpu", "made_up")
    report.save_tables(tables, paths.run_dir("results", "cpu", "made_up"))
    return tmp_path


ARMS = (("dense", 0.8, 100.0), ("half", 0.801, 50.0), ("thin", 0.75, 10.0))


def keep(path: Path, gain: float = 0.0, arms: Sequence[tuple[str, float, float]] = ARMS, scale: str = "cpu") -> Path:
    """Three seeds of each arm, name, accuracy and FLOPs; `gain` is added to every accuracy, and noise to the last."""
    records = []
    for seed in range(3):
        for arm, accuracy, flops in arms:
            noise = 0.001 * seed + 0.0003 * (seed == 2) * (not arm.endswith("dense"))
            records.append(trained(f"d/{arm}", seed, accuracy + gain + noise, flops=flops))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    said = {"paper": "made_up", "scale": scale}
    store.append(path, [{**each, **said, "identity": f"{each['arm']}/{each['seed']}"} for each in records])
    return path


@pytest.fixture
def effi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Calls the command `effi` in this process."""

    def call(*words: str) -> Said:
        monkeypatch.setattr("sys.argv", ["effi", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return Said(left.value.code or 0, *capsys.readouterr())

    return call
