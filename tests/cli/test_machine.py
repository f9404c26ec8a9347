"""`effi doctor | data | bench`: what this machine has and can run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from effi import data, paths
from effi.cli import doctor
from effi.cli.doctor import Check, examine
from effi.data import Listing, own
from tests.cli.conftest import Said

Effi = Callable[..., Said]
HERE = Listing("here", Path("/data/here"), "official", "CC", "a site", 10, None)
ABSENT = Listing("absent", None, None, "CC", "a site", 10, None)
DAMAGED = Listing("damaged", Path("/data/damaged"), None, "CC", "a site", 10, "damaged is damaged: fetch it again")


@pytest.fixture(autouse=True)
def listings(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (data, doctor):
        monkeypatch.setattr(room, "available", lambda: [HERE, ABSENT])


def checks() -> dict[str, Check]:
    return {check.thing: check for check in examine()}


def test_a_sound_machine_needs_no_mending(effi: Effi, root: Path) -> None:
    said = effi("doctor")
    assert said.status == 0
    found = checks()
    assert {check.state for check in found.values()} <= {"ok", "note"}
    assert found["Python"].found == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"].found.startswith(f"torch {torch.__version__}")
    assert found["notebooks"].found == "made_up"
    assert found["data here"] == Check("data here", "ok", "/data/here (official)")
    assert found["data absent"].state == "note" and "effi data fetch absent" in found["data absent"].mend


def test_damaged_data_are_to_mend(effi: Effi, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "available", lambda: [DAMAGED])
    said = effi("doctor")
    assert said.status == 1 and "damaged is damaged: fetch it again" in said.out


def test_packages_missing_or_too_old_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "pooch":
            raise PackageNotFoundError(name)
        return "0.1" if name == "scipy" else "99"

    monkeypatch.setattr(doctor, "version", version)
    found = checks()["packages"]
    assert found.state == "mend" and found.found == "scipy 0.1 is not >=1.15; pooch is missing"


def test_a_kernel_that_is_not_there_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    def none(self: KernelSpecManager, name: str) -> None:
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    assert checks()["Jupyter kernel"].state == "mend"


def test_a_full_disk_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    assert checks()["results"] == Check("results", "mend", f"{paths.results()}, 1 GB free", "free space")


def test_a_folder_that_cannot_be_written_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda place, _: Path(place) != paths.results())
    found = checks()["results"]
    assert found.state == "mend" and "cannot be written" in found.found


def test_a_gpu_is_told_with_its_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert checks()["GPU"].state == "note"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (70e9, 80e9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    assert checks()["GPU"].found == "a card, 70 of 80 GB free"


def test_no_notebooks_are_to_mend(root: Path) -> None:
    shutil.rmtree(paths.notebooks_dir())
    assert checks()["notebooks"].state == "mend"


def test_data_shows_every_set_and_fetch_says_where(effi: Effi, monkeypatch: pytest.MonkeyPatch) -> None:
    said = effi("data")
    assert "official" in next(line for line in said.out.splitlines() if "/data/here" in line)
    assert "absent" in said.out.splitlines()[4]
    monkeypatch.setattr(data, "fetch", lambda name: Path("/data") / name)
    assert effi("data", "fetch", "here") == Said(0, "here is in /data/here\n", "")


def test_shards_are_made_by_loading_what_needs_them(
    effi: Effi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFI_DATA", str(tmp_path))
    text = tmp_path / "own.txt"
    text.write_text("some words of a text\n" * 2000)
    asked = ("data", "shards", f"text:{text}", "--vocabulary", "300")
    assert effi(*asked).out == "text:own.txt fits into memory, and needs no shards\n"
    monkeypatch.setattr(own, "LARGEST_CORPUS", 1000)
    said = effi(*asked)
    assert said.out.startswith(f"text:own.txt is larger than memory: it is read from shards in {tmp_path}/shards/")
    assert [*tmp_path.glob("shards/*/manifest.json")]


@pytest.mark.parametrize(
    ("words", "handed"),
    [
        ((), (None, {})),
        (("attention", "--stored", "--results-dir", "/a"), ("attention", {"results_dir": "/a", "stored": True})),
        (("gpu", "--resume", "--budget", "1.5m"), ("gpu", {"resume": True, "budget_s": 90.0})),
    ],
)
def test_bench_hands_on_what_it_is_told(
    effi: Effi, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], handed: tuple[str | None, dict[str, object]]
) -> None:
    asked: list[object] = []
    room = ModuleType("effi.bench")
    room.main = lambda name, **options: asked.append((name, options))
    monkeypatch.setitem(sys.modules, "effi.bench", room)
    monkeypatch.setattr(sys.modules["effi"], "bench", room, raising=False)
    assert effi("bench", *words).status == 0
    usual = {"results_dir": "results", "stored": False, "resume": False, "budget_s": 20.0}
    assert asked == [(handed[0], usual | handed[1])]


def test_a_budget_of_a_benchmark_is_a_time(effi: Effi) -> None:
    said = effi("bench", "import", "--budget", "soon")
    assert said.status == 2 and "give it like 90s" in said.err


def test_damaged_data_fail_the_list_of_data(effi: Effi, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert effi("data").status == 0
    monkeypatch.setattr(data, "available", lambda: [HERE, DAMAGED])
    said = effi("data")
    assert said.status == 1 and "damaged is damaged" in said.out


def test_an_installed_package_has_no_notebooks_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CLONED", False)
    assert doctor._notebooks().state == "note"
