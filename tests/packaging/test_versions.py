"""pyproject.toml, requirements.lock and environment.yml lead to the same versions."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from importlib.metadata import requires
from itertools import chain

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from effi import paths

PYTHONS = ("3.11", "3.12", "3.13")
PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
WANTED = [Requirement(text) for text in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())]
LOCK = (paths.ROOT / "requirements.lock").read_text().replace("\\\n", "")
LOCKED = [Requirement(line.partition("--hash")[0]) for line in LOCK.splitlines() if line and line[0] not in " #"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str, python: str, system: str = "linux") -> Version | None:
    """The version that the lock installs there."""
    place = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system}
    place |= {"platform_machine": "x86_64", "platform_system": system.capitalize(), "implementation_name": "cpython"}
    same = [each for each in LOCKED if canonical(each.name) == canonical(name)]
    found = [each for each in same if each.marker is None or each.marker.evaluate(place)]
    assert len(found) <= 1, f"{name} is locked twice for Python {python}"
    return Version(next(iter(found[0].specifier)).version) if found else None


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
def test_every_dependency_is_locked_at_a_version_that_fits(wanted: Requirement, python: str) -> None:
    found = locked(wanted.name, python)
    assert found is not None and wanted.specifier.contains(found)


def test_every_locked_package_is_pinned_and_hashed() -> None:
    for line in LOCK.splitlines():
        if line and line[0] not in " #":
            assert re.match(r"[\w.-]+(\[\w+\])?==\S+ ", line) and "--hash=sha256:" in line


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("name", "version"), [("torch", "2.13.0"), ("torchvision", "0.28.0")])
def test_the_torch_pair_is_fixed(name: str, version: str, python: str) -> None:
    assert locked(name, python) == Version(version)


def test_older_images_of_gpu_machines_are_admitted() -> None:
    pair = {wanted.name: wanted.specifier for wanted in WANTED}
    assert pair["torch"].contains("2.11.0") and pair["torchvision"].contains("0.26.0")


def test_the_pythons_are_those_of_the_lock() -> None:
    admitted = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert [python for python in ("3.10", *PYTHONS, "3.14") if admitted.contains(f"{python}.0")] == list(PYTHONS)


def test_conda_installs_the_lock() -> None:
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.12", "pip"] and pip == {"pip": ["-r requirements.lock"]}


def test_mybinder_ends_with_the_step_that_conda_users_are_told() -> None:
    script = paths.ROOT / "postBuild"
    step = script.read_text().splitlines()[-1]
    assert step == "pip install --no-deps -e ." and os.access(script, os.X_OK)
    assert all(step in (paths.ROOT / name).read_text() for name in ("environment.yml", "README.md"))


def test_the_installed_package_is_this_project() -> None:
    installed = {Requirement(text).name for text in requires("effi")}
    assert installed == {wanted.name for wanted in WANTED}


@pytest.mark.parametrize("python", ["/bin/false", "no-such-python"])
def test_make_names_an_unfit_python(python: str) -> None:
    words = ["make", "--always-make", "--no-print-directory", "setup", f"PYTHON={python}", "VENV=no-such-folder"]
    done = subprocess.run(words, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and not (paths.ROOT / "no-such-folder").exists()
    assert f"{python} is not Python 3.11, 3.12 or 3.13; say which is: make PYTHON=python3.12 setup" in done.stderr


def test_make_shows_its_targets() -> None:
    shown = subprocess.run(["make"], cwd=paths.ROOT, capture_output=True, text=True).stdout
    for target in ("setup", "reproduce", "smoke", "test", "outputs", "lab", "bench", "site", "lock"):
        assert re.search(rf"^  {target} +\w", shown, re.MULTILINE)


def test_only_ci_knows_where_this_machine_keeps_data() -> None:
    done = subprocess.run(["git", "grep", "-lF", "../" + "shared"], cwd=paths.ROOT, capture_output=True, text=True)
    if done.returncode > 1:
        pytest.skip("not a git checkout")
    assert done.stdout.split() == [".ci/run"]
