"""A workbook of its own in a temporary folder: the package, the notebooks, and a small one made for the campaign."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from effi import paths
from effi.cli import bits
from effi.records import store
from tests.campaign.watched import Command, Ended
from tests.workbook.tiny import write

PAPER = "campaign"
ARMS, SEEDS = 3, 4
MAIN = "from effi.cli import main; main()"
PARAMETERS = """scale: str = "smoke"
seeds: list[int] = []
device: str = "cpu"
dataset: str = "digits"
results_dir: str = "results"
price_per_gpu_hour: float = 2.0
dry_run: bool = False
rest_s: float = 0.0  # seconds of sleep after each step, so that a kill meets a training
page: bool = True  # whether tables and figures are made
"""
CLAIMS = """
id = "campaign"
title = "Made for the campaign of faults"
citation = "Nobody"
datasets = ["digits"]
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
text = "Half of the weights are as good as all"
place = "nowhere"
paper = "not available"
fair = "the same"
as_in_the_paper = [
    { rule = "no_loss", metric = "test_accuracy", a = "{dataset}/vit/thin", b = "{dataset}/vit/dense", margin = 1.0 },
]
"""
SETUP = """
import time
import torch
from effi import data, masks
from effi.models.vit import ViT, ViTShape
from effi.records import Name, Run
from effi.training import Training, checkpoint, fit, outcome

torch.set_num_threads(1)
(opened,) = data.open_parts(
    [dataset], {"digits": {"train": 400, "validation": 100, "size": 8}}, scale=scale, device="cpu", size=8
).values()
plan = {"steps": 48, "batch_size": 16, "eval_every": "12 steps", "lr": 3e-3, "schedule": "cosine", "clip": 1.0}
run = Run("campaign", scale, parameters={}, inputs={opened.name: opened.checksum}, uses=["effi.training"],
          results_dir=results_dir, dry_run=dry_run)
"""
TRAIN = """
rest = rest_s


def train(arm):
    checkpoint.EVERY_S = 0.25
    own = arm.settings
    shape = ViTShape(image_size=8, patch_size=4, channels=1, classes=10, width=own["width"], depth=1, hidden=24)
    model = ViT(shape, heads=2, seed=arm.seed)
    mask = masks.magnitude(masks.prunable(model), own["sparsity"]) if own["sparsity"] else None
    (history,) = fit(model, opened.data, Training(**plan, optimizer=own["optimizer"]), seeds=arm.seeds,
                     ledger=arm.ledger, mask=mask, checkpoint=arm.checkpoint,
                     after_step=[lambda step: time.sleep(rest)])
    worth = outcome(model, history, opened.data)
    arm.record(worth.metrics, history.curves, worth.marks)


given = {"dense": (8, 0.0, "adam"), "thin": (8, 0.5, "adam"), "wide": (16, 0.3, "adamw")}
experiment = {
    Name(opened.data.name, "vit", name): {"data": opened.settings, "width": w, "sparsity": s, "optimizer": o}
    for name, (w, s, o) in given.items()
}
"""
RUN = "run.each(train, experiment, seeds or [0, 1], jobs=2)"
ALONE = RUN.replace("jobs=2", "jobs=1")
SHOW = """
if page:
    from effi import report  # late: it takes as long to import as all trainings here

    report.Page(run, baseline="dense", price=price_per_gpu_hour).save()
"""


@dataclass(frozen=True)
class Bed:
    """The folder of one workbook; what a command does there touches nothing else.

    Its small notebook has `seeds` seeds of each arm, and tables and figures where `page` says so.
    """

    root: Path
    seeds: int = SEEDS
    page: bool = True

    @property
    def trainings(self) -> int:
        """Of the small notebook."""
        return ARMS * self.seeds

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of a command: this workbook's package, its own temporary folder, no data sets and no proxies."""
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("EFFI_")}
        own = {"PYTHONPATH": str(self.root), "TMPDIR": str(self.root / "tmp"), "COLUMNS": "200"}
        return {**kept, **own, **(more or {})}

    def start(
        self,
        *words: str,
        more: Mapping[str, str] | None = None,
        limit: Callable[[], None] | None = None,
        cwd: Path | None = None,
    ) -> Command:
        """`effi WORDS`, as the terminal would start it, standing in a folder called `here`."""
        command = [sys.executable, "-P", "-c", MAIN, *words]
        return Command(command, cwd=cwd or self.root / "here", environment=self.environment(more), limit=limit)

    def effi(
        self,
        *words: str,
        seconds: float = 120,
        more: Mapping[str, str] | None = None,
        limit: Callable[[], None] | None = None,
        cwd: Path | None = None,
    ) -> Ended:
        """`effi WORDS` to its end."""
        with self.start(*words, more=more, limit=limit, cwd=cwd) as command:
            return command.wait(seconds)

    def small(self, results: str, rest_s: float = 0.03) -> tuple[str, ...]:
        """Words that run the small notebook, with so long a rest after each step."""
        seeds = ",".join(map(str, range(self.seeds)))
        place = ("--scale", "smoke", "--results-dir", str(self.root / results))
        return (
            "run",
            PAPER,
            *place,
            "-p",
            f"seeds={seeds}",
            "-p",
            f"rest_s={rest_s}",
            "-p",
            f"page={self.page}",
            "--quiet",
        )

    def records(self, results: str) -> Path:
        """File of the small notebook's records."""
        return self.root / results / "smoke" / PAPER / "records.jsonl"

    def undisturbed(self) -> Path:
        """Folder of results of the same trainings in one process, made at the first call; RuntimeError if that fails.

        Without a notebook, without workers and without rests.
        """
        folder = self.root / "undisturbed"
        if not folder.exists():
            script, values = folder.with_suffix(".py"), f"results_dir, seeds = {str(folder)!r}, [*range({self.seeds})]"
            script.write_text("\n".join((PARAMETERS, values, SETUP, TRAIN, ALONE)))
            words = [sys.executable, "-P", str(script)]
            with Command(words, cwd=self.root / "here", environment=self.environment()) as command:
                ended = command.wait(600)
            if ended.status:
                raise RuntimeError(f"the undisturbed run ended with {ended.status}: {ended.err}{ended.out}")
        return folder


@contextmanager
def workbook(seeds: int = SEEDS, page: bool = True) -> Iterator[Bed]:
    """A workbook of its own, taken away afterwards."""
    with TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as name:
        root = Path(name).resolve()
        shutil.copytree(paths.PACKAGE, root / "effi")
        shutil.copytree(paths.notebooks_dir(), root / "notebooks", ignore=shutil.ignore_patterns(".*"))
        shutil.copytree(paths.paper_file("x").parent, root / "data" / "papers")
        shutil.copy(paths.manifest(), root / "data")
        for front in (paths.readme(), paths.readme().with_name("START.md")):
            shutil.copy(front, root)
        (root / "data" / "papers" / f"{PAPER}.toml").write_text(CLAIMS)
        write(root / "notebooks" / f"9_{PAPER}.ipynb", SETUP, TRAIN, RUN, SHOW, parameters=PARAMETERS)
        for folder in ("tmp", "here"):
            (root / folder).mkdir()
        yield Bed(root, seeds, page)


def whole(file: Path, pairs: int = ARMS * SEEDS) -> str:
    """What is wrong with a file of finished records, or nothing: a torn line, a row twice, an arm that is missing."""
    found = store.records(file, whole=True)
    done = [(record["arm"], record["seed"]) for record in found if record["status"] == "done"]
    if len(done) != len(set(done)):
        return f"{len(done) - len(set(done))} finished rows stand twice"
    return "" if len(done) == pairs else f"{len(done)} of {pairs} arms are finished"


def same_bits(a: Path, b: Path) -> str:
    """How two folders of results differ in bits, or nothing."""
    found = bits.compare(a, b)
    return "; ".join(found.differences)
