"""Where a number comes from: code, versions and machine of the process that measured it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import effi
from effi import paths
from effi.records import machine
from effi.records.source import source_hash

PACKAGES = ("torch", "torchvision", "transformers", "numpy", "scipy", "scikit-learn", "pillow", "triton")


@cache
def provenance() -> dict[str, Any]:
    """Facts kept with every record, computed once per process; null or "not ..." where the machine cannot say."""
    return {
        **_git(paths.PACKAGE.parent),
        "effi": effi.__version__,
        "effi_source": source_hash(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
        "cpu": machine.cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": _gpu(),
        "flop_method": "closed form",
    }


def installed(package: str) -> str | None:
    """Version of a package that is installed here."""
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def _git(root: Path) -> dict[str, str | None]:
    """Commit, and the hash of what differs from it (null when nothing does); results are no source."""
    sha = _command("git", "-C", str(root), "rev-parse", "HEAD")
    if sha is None:
        return {"git_sha": "not a git checkout", "git_dirty": None}
    changes = _command("git", "-C", str(root), "diff", "HEAD", "--no-ext-diff", "--", ".", ":(exclude)results")
    return {"git_sha": sha, "git_dirty": hashlib.sha256(changes.encode()).hexdigest()[:16] if changes else None}


def _command(*words: str) -> str | None:
    """Output of a command; None when it is missing or fails."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(words, capture_output=True, check=True, timeout=20)
        return done.stdout.decode(errors="replace").strip()
    return None


def _gpu() -> dict[str, str | None] | None:
    """Name, driver and CUDA version of the first GPU that torch sees; None without one."""
    if not torch.cuda.is_available():
        return None
    driver = _command("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "name": torch.cuda.get_device_name(),
        "driver": driver.splitlines()[0] if driver else None,
        "cuda": torch.version.cuda,
    }
