"""What changes an identity, and what does not."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

import pytest

from effi.errors import ParameterError
from effi.records import Run
from effi.records.identity import (
    canonical,
    closure,
    cpu_model,
    device_class,
    function_parts,
    identity,
    significant,
    source_hash,
)


class Loss(Enum):
    MSE = "mse"


@dataclass(frozen=True)
class Training:
    epochs: int = 2
    betas: tuple[float, float] = (0.9, 0.999)
    loss: Loss = Loss.MSE


def key(tmp_path: Path, *, seed: int = 0, settings: object = None, name: str = "a", **run: object) -> str:
    return Run("minimal", "smoke", results_dir=tmp_path, **run).arm(name, seed, settings).identities[0]


# --- canonical -----------------------------------------------------------------------------------------------


def test_canonical_turns_nested_objects_into_plain_json() -> None:
    given = {"training": Training(), "file": PurePosixPath("a/b"), "none": None, "on": True}
    plain = {"epochs": 2, "betas": [0.9, 0.999], "loss": "mse"}
    assert canonical(given) == {"training": plain, "file": "a/b", "none": None, "on": True}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), {1: "a"}, Training])
def test_canonical_names_the_key_of_what_has_no_json(value: object) -> None:
    with pytest.raises(ParameterError, match=r"settings\.deep\[1\]\.key "):
        canonical({"deep": [0, {"key": value}]})


# --- identity of a record ------------------------------------------------------------------------------------


def test_identity_is_sixteen_digits_and_the_same_for_equal_settings(tmp_path: Path) -> None:
    first = key(tmp_path, settings=Training())
    assert len(first) == 16 and int(first, 16) >= 0
    assert first == key(tmp_path, settings={"loss": "mse", "betas": [0.9, 0.999], "epochs": 2})


def test_everything_that_can_change_a_result_changes_identity(tmp_path: Path) -> None:
    parameters = {"width": 64}
    keys = [
        key(tmp_path),
        key(tmp_path, seed=1),
        key(tmp_path, name="b"),
        key(tmp_path, settings=Training()),
        key(tmp_path, settings=Training(epochs=3)),
        key(tmp_path, parameters=parameters, defaults={"width": 60}),
        key(tmp_path, inputs={"mnist": "sha256:1"}),
        key(tmp_path, inputs={"mnist": "sha256:2"}),
        key(tmp_path, uses=["effi.claims.stats"]),
        Run("minimal", "cpu", results_dir=tmp_path).arm("a", 0).identities[0],
        Run("ligo", "smoke", results_dir=tmp_path).arm("a", 0).identities[0],
    ]
    assert len(set(keys)) == len(keys)


def test_an_added_parameter_with_its_default_keeps_identity(tmp_path: Path) -> None:
    old = key(tmp_path, parameters={"width": 64}, defaults={"width": 60})
    grown = {"width": 64, "depth": (6, 12)}
    assert old == key(tmp_path, parameters=grown, defaults={"width": 60, "depth": [6, 12]})
    assert old != key(tmp_path, parameters=grown, defaults={"width": 60, "depth": [6]})


def test_parameters_that_cannot_change_a_result_do_not_count(tmp_path: Path) -> None:
    price = {"price_per_gpu_hour": 9.0, "seeds": [1], "dry_run": False, "results_dir": "elsewhere", "device": "cpu"}
    assert key(tmp_path, parameters=price) == key(tmp_path / "other", notices=["a"], quiet=True)


def test_torch_version_and_device_class_change_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = key(tmp_path)
    monkeypatch.setattr("effi.records.device_class", lambda device: "NVIDIA H100")
    gpu = key(tmp_path)
    monkeypatch.setattr("torch.__version__", "0.1")
    assert len({here, gpu, key(tmp_path)}) == 3


def test_a_device_that_is_not_there_is_named() -> None:
    assert device_class("cpu") == cpu_model()
    assert device_class("meta") == "meta"
    with pytest.raises(ParameterError, match='"cuda:99" is not there'):
        device_class("cuda:99")


# --- source of the package -----------------------------------------------------------------------------------

FILES = {
    "__init__": '__version__ = "1"',
    "a": "from typing import TYPE_CHECKING\nfrom effi import b\nif TYPE_CHECKING:\n    from effi import far\n",
    "b": 'def f():\n    """Fact."""\n    from .deep.c import g\n    return g  # why\n',
    "deep/__init__": "",
    "deep/c": "g = 1\n",
    "far": "h = 1\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "effi" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_closure_follows_imports_and_packages_but_not_those_for_type_checkers(package: Path) -> None:
    assert closure(["effi.a"], package) == ["effi", "effi.a", "effi.b", "effi.deep", "effi.deep.c"]
    assert closure(["effi.far"], package) == ["effi", "effi.far"]


def test_a_module_that_is_none_of_effi_is_named() -> None:
    for name in ("effi.nothing", "torch"):
        with pytest.raises(ParameterError, match=f'"{name}"'):
            source_hash([name])


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("deep/c", "g = 2\n", True),
        ("b", FILES["b"].replace("return g", "return -g"), True),
        ("deep/c", "# why\n\ng = (\n    1\n)  # note\n", True),  # brackets are code
        ("deep/c", '"""Fact."""\n\n\n# why\ng  =  1', False),
        ("b", "def f():\n  from .deep.c import g\n  return g", False),
        ("__init__", '"""Fact."""\n\n__version__ = "2"', False),
        ("far", "h = 2\n", False),
    ],
)
def test_source_hash_counts_code_alone(package: Path, name: str, text: str, changes: bool) -> None:
    before = source_hash(["effi.a"], package)
    (package / "effi" / f"{name}.py").write_text(text)
    assert (source_hash(["effi.a"], package) != before) is changes


def test_without_uses_the_whole_package_counts(package: Path) -> None:
    before = source_hash(root=package)
    (package / "effi/far.py").write_text("h = 2\n")
    assert source_hash(root=package) != before


TRICKY = '''
def f(x, *, y: "int" = 1):
    """Goes."""
    if x:
        return f"{x!r:>{y}} {'a' + f'{y}'}" """stays # here

    """
    # goes
    return rb'\\x' \\
        , 0x1F, 1e-3, x @ y, (z := 2)
class A: "goes"; b = "stays"
'''


def test_significant_text_is_the_same_on_every_python() -> None:
    text = significant(TRICKY)
    assert "Goes" not in text and "goes" not in text and text.count("stays") == 2
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "8522f87cc328"


# --- functions of a notebook ---------------------------------------------------------------------------------

NOTEBOOK = """
from dataclasses import dataclass
from functools import cache
import torch
from effi.claims import stats
RATE = 1
DATA = torch.zeros(3)
seeds = [0]
@dataclass
class Spec:
    width: int = 4
    def area(self):
        return self.width * RATE
@cache
def helper():
    return Spec().area() + 1
def train(arm, epochs=RATE):
    from effi.errors import DataError
    total = 0
    for RATIO in range(epochs):
        total += helper()
    arm.seed = DATA, stats, torch, plan, seeds
    return total
plan = Spec(7)
"""


def parts_of(tmp_path: Path, source: str) -> tuple[str, set[str]]:
    path = tmp_path / f"cell_{len(list(tmp_path.iterdir()))}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parts, modules = function_parts(module.train)
    return identity(parts), modules


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("RATE = 1", "RATE = 2", True),
        ("+ 1", "+ 2", True),
        ("width: int = 4", "width: int = 5", True),
        ("* RATE", "+ RATE", True),
        ("total = 0", "total = 1", True),
        ("RATE = 1", "RATE = 1  # why\nseed = 3\nRATIO = 5\nunused = 3", False),
        ("total = 0", "\n    # why\n    total = 0", False),
        ("zeros(3)", "zeros(4)", False),  # data are identified by their checksums
        ("Spec(7)", "Spec(8)", False),  # what an object holds counts through settings
        ("seeds = [0]", "seeds = [0, 1]", False),
    ],
)
def test_a_function_counts_with_what_it_reads(tmp_path: Path, old: str, new: str, changes: bool) -> None:
    assert old in NOTEBOOK
    before, _ = parts_of(tmp_path, NOTEBOOK)
    after, _ = parts_of(tmp_path, NOTEBOOK.replace(old, new, 1))
    assert (before != after) is changes


def test_a_function_brings_the_modules_of_effi_that_it_names(tmp_path: Path) -> None:
    assert parts_of(tmp_path, NOTEBOOK)[1] == {"effi.claims.stats", "effi.errors"}


def test_a_closure_counts_with_its_values() -> None:
    def make(rate: int) -> Callable[[object], int]:
        def train(arm: object) -> int:
            return rate

        return train

    assert function_parts(make(1))[0] == function_parts(make(1))[0] != function_parts(make(2))[0]


@pytest.mark.parametrize("function", [print, eval("lambda arm: None"), Training])
def test_a_function_without_source_is_refused(function: object) -> None:
    with pytest.raises(ParameterError, match="write it with def"):
        function_parts(function)
