"""The package outside of its clone: a wheel in a fresh environment, used in an empty folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from effi import paths

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
    return subprocess.run([str(fresh / "bin" / words[0]), *words[1:]], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_methods_callbacks_and_growth_work_from_a_wheel(fresh: Path, tmp_path: Path) -> None:
    done = said(fresh, tmp_path, "python", "-c", USED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(
        f"{fresh.name}/lib/{next(fresh.glob('lib/*')).name}/site-packages/effi/__init__.py"
    )


@pytest.mark.slow
def test_a_wheel_says_what_it_does_not_carry(fresh: Path, tmp_path: Path) -> None:
    assert said(fresh, tmp_path, "effi", "--version").stdout.startswith("effi ")
    assert "Grow a checkpoint" in said(fresh, tmp_path, "effi", "grow", "--help").stdout
    done = said(fresh, tmp_path, "effi", "list")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("effi: effi list reads notebooks, papers and records, which are in a clone")


@pytest.mark.slow
def test_a_wheel_puts_nothing_but_effi_beside_other_packages(fresh: Path) -> None:
    (wheel,) = fresh.parent.glob("*.whl")
    assert {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()} == {
        "effi",
        f"{wheel.name[:10]}.dist-info",
    }
