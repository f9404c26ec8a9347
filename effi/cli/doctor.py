"""What this machine can run: each thing that matters, what was found, and the mend."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import joblib
import torch
from packaging.requirements import Requirement

from effi import paths
from effi.data import Listing, available
from effi.workbook import notebooks

LEAST_FREE_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Check:
    """One finding: `ok`, a `note` where something is optional, `mend` where runs would fail."""

    thing: str
    state: Literal["ok", "note", "mend"]
    found: str
    mend: str = ""


def examine(results_dir: str = "results") -> list[Check]:
    """Every finding, in the order a reader would ask; reads the data sets to check them."""
    return [
        *_packages(),
        _kernel(),
        _processor(),
        _gpu(),
        _disk(paths.results(results_dir)),
        *map(_dataset, available()),
        _notebooks(),
    ]


def _packages() -> Iterator[Check]:
    yield Check("Python", "ok", platform.python_version())
    wanted = [Requirement(text) for text in requires("effi") or ()]
    unfit = [text for requirement in wanted if (text := _unfit(requirement))]
    if unfit:
        yield Check("packages", "mend", "; ".join(unfit), "run `make setup`")
    else:
        yield Check("packages", "ok", f"torch {torch.__version__}, every dependency at a version that fits")


def _unfit(requirement: Requirement) -> str | None:
    """What is wrong with an installed package; extras and other systems do not count."""
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return None
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    fits = requirement.specifier.contains(found, prereleases=True)
    return None if fits else f"{requirement.name} {found} is not {requirement.specifier}"


def _kernel() -> Check:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        folder = KernelSpecManager().get_kernel_spec("python3").resource_dir
    except NoSuchKernel:
        return Check("Jupyter kernel", "mend", "there is no kernel python3", "run `make setup`")
    return Check("Jupyter kernel", "ok", f"python3 in {folder}")


def _processor() -> Check:
    cores = joblib.cpu_count()
    return Check("processor", "ok", f"{cores} cores: arms run {cores} at a time; torch uses {torch.get_num_threads()}")


def _gpu() -> Check:
    if not torch.cuda.is_available():
        mend = f"smoke, cpu and hours need none; one that is there wants a driver for CUDA {torch.version.cuda}"
        return Check("GPU", "note", "none that torch can use", mend)
    free, total = torch.cuda.mem_get_info()
    return Check("GPU", "ok", f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free")


def _disk(folder: Path) -> Check:
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(place, os.W_OK):
        return Check("results", "mend", f"{place} cannot be written", "make it writable or give --results-dir")
    free = shutil.disk_usage(place).free
    found = f"{folder}, {free / 1e9:.0f} GB free"
    return Check("results", "ok", found) if free > LEAST_FREE_BYTES else Check("results", "mend", found, "free space")


def _dataset(listing: Listing) -> Check:
    thing = f"data {listing.name}"
    if listing.problem:
        return Check(thing, "mend", listing.problem)
    if listing.where is None:
        return Check(thing, "note", "absent", f"run `effi data fetch {listing.name}` or set EFFI_DATA")
    return Check(thing, "ok", f"{listing.where} ({listing.variant})")


def _notebooks() -> Check:
    if not paths.CLONED:
        return Check("notebooks", "note", "none, as effi is installed without its clone", "clone the repository")
    found = ", ".join(notebook.paper for notebook in notebooks())
    return Check("notebooks", "ok", found) if found else Check("notebooks", "mend", "none", "restore them from git")
