"""The package outside of its clone: a wheel in a fresh environment, used in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from effi import paths
from effi.claims import papers
from effi.data import available
from effi.records import store
from effi.workbook import notebooks
from tests.report.synthetic import trained

USED = """
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import effi
from effi.masks import sparsity
from effi.mixed_sparsity import Evolution, Phases
from effi.own_loop.callbacks import EarlyBirdCallback, MixedSparsityCallback
from effi.own_loop.growing import grow

config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=24, vocab_size=50, bos_token_id=0, eos_token_id=0)
rows = [{"input_ids": row, "labels": row} for row in torch.randint(50, (32, 12))]
options = {"max_steps": 12, "per_device_train_batch_size": 4, "report_to": [], "save_strategy": "no", "use_cpu": True}
still = Phases(0.5, 0, 0)
callbacks = [EarlyBirdCallback(0.5, every=2, threshold=0.4), MixedSparsityCallback(still, Evolution(every=4))]
for callback in callbacks:
    model = GPT2LMHeadModel(config)
    Trainer(model, TrainingArguments("out", **options), train_dataset=rows, callbacks=[callback]).train()
    assert abs(sparsity(callback.mask) - 0.5) < 0.01
model.save_pretrained("small")
Path("large.json").write_text(json.dumps({"n_layer": 4}))
grow("small", "large.json", "large", by="stack")
assert AutoModelForCausalLM.from_pretrained("large").config.n_layer == 4
print(effi.__file__)
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and all but effi from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    # From a copy, as a build leaves folders beside what it builds.
    subprocess.run(["git", "clone", "-q", str(paths.ROOT), str(folder / "clone")], check=True)
    built = subprocess.run(
        [str(uv), "build", "-q", "--wheel", "--out-dir", str(folder), str(folder / "clone")],
        capture_output=True,
        text=True,
    )
    if built.returncode and "resol" in built.stderr + built.stdout:
        pytest.skip("setuptools, which builds the wheel, cannot be had from a package index here")
    assert built.returncode == 0, built.stderr
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([str(uv), "pip", "install", "-q", "--no-deps", "--python", str(python), str(wheel)], check=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv"


def said(fresh: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "EFFI_DATA")}
    command = [str(fresh / "bin" / words[0]), *words[1:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=own)


@pytest.mark.slow
def test_methods_callbacks_and_growth_work_from_a_wheel(fresh: Path, tmp_path: Path) -> None:
    done = said(fresh, tmp_path, "python", "-c", USED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(
        f"{fresh.name}/lib/{next(fresh.glob('lib/*')).name}/site-packages/effi/__init__.py"
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", ["", "run", "advise", "grow", "compare", "data"])
def test_help_needs_no_clone(fresh: Path, tmp_path: Path, command: str) -> None:
    done = said(fresh, tmp_path, "effi", *filter(None, [command]), "--help")
    assert (done.returncode, done.stderr) == (0, "") and f"Usage: effi {command}".rstrip() in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", ["list", "run"])
def test_what_reads_notebooks_says_that_it_wants_a_clone(fresh: Path, tmp_path: Path, command: str) -> None:
    done = said(fresh, tmp_path, "effi", command)
    assert done.returncode == 2 and done.stderr.startswith("effi: this reads the notebooks, which are in a clone")
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


CLAIMS = """
from effi.claims import papers
for name in ("early_bird", "instant_soup", "mixed_sparsity", "minimal", "ligo"):
    print(name, [claim.id for claim in papers.load(name).claims])
"""


@pytest.mark.slow
def test_every_papers_claims_are_read_from_a_wheel(fresh: Path, tmp_path: Path) -> None:
    done = said(fresh, tmp_path, "python", "-c", CLAIMS)
    here = {notebook.paper: papers.load(notebook.paper).claims for notebook in notebooks()}
    assert done.stdout.splitlines() == [f"{name} {[claim.id for claim in claims]}" for name, claims in here.items()]


@pytest.mark.slow
def test_data_sets_are_listed_and_lie_where_one_stands(fresh: Path, tmp_path: Path) -> None:
    done = said(fresh, tmp_path, "effi", "data")
    assert done.returncode == 0, done.stderr
    assert {each.name for each in available()} <= set(done.stdout.split())
    place = said(fresh, tmp_path, "python", "-c", "from effi.data import files; print(files.downloads())").stdout
    assert place == f"{tmp_path}/data/downloads\n"


@pytest.mark.slow
def test_records_are_compared_from_a_wheel(fresh: Path, tmp_path: Path) -> None:
    for name, accuracy in (("a", 0.75), ("b", 0.5)):
        rows = [{**trained("digits/full", seed, accuracy + seed / 100), "identity": str(seed)} for seed in range(3)]
        store.append(tmp_path / name / "smoke" / "minimal" / "records.jsonl", rows)
    done = said(fresh, tmp_path, "effi", "compare", "a", "b", "--metric", "test_accuracy")
    assert done.returncode == 0, done.stderr
    assert "digits/full" in done.stdout and "25.0" in done.stdout


@pytest.mark.slow
def test_a_wheel_puts_nothing_but_effi_beside_other_packages(fresh: Path) -> None:
    (wheel,) = fresh.parent.glob("*.whl")
    assert {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()} == {
        "effi",
        f"{wheel.name[:10]}.dist-info",
    }
