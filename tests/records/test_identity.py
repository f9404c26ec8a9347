"""What changes an identity, and what does not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath

import pytest

from effi.errors import ParameterError
from effi.records import Run, machine
from effi.records.identity import agree, canonical
from effi.records.machine import device_class
from effi.records.source import closure, significant, source_hash


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
    assert first == key(tmp_path, settings=Training(2, (0.9, 0.999)))


def test_an_option_that_is_added_with_its_default_keeps_identity(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Grown(Training):
        momentum: float = 0.9
        groups: list[str] = field(default_factory=list)

    Grown.__name__ = "Training"
    first = key(tmp_path, settings={"training": Training(3)})
    assert first == key(tmp_path, settings={"training": Grown(3)})
    assert first != key(tmp_path, settings={"training": Grown(3, momentum=0.8)})
    assert first != key(tmp_path, settings={"training": Grown(3, groups=["a"])})


def test_two_classes_of_settings_at_their_defaults_are_two_identities(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Other:
        epochs: int = 2

    assert key(tmp_path, settings=Training()) != key(tmp_path, settings=Other())


def test_values_agree_that_differ_in_keys_alone() -> None:
    old = {"training": {"epochs": 3, "lr": 0.1}, "ratios": [1, 2]}
    assert agree(old, {"training": {"epochs": 3, "lr": 0.1, "betas": [0.9]}, "ratios": [1, 2], "new": 1})
    assert agree({"gone": 1, **old}, old)
    assert agree({"groups": [{"lr": 0.1}]}, {"groups": [{"lr": 0.1, "new": None}]})
    assert not agree({"groups": [{"lr": 0.1}]}, {"groups": [{"lr": 0.2, "new": None}]})
    assert not agree({"groups": [{"lr": 0.1}]}, {"groups": [{"lr": 0.1}, {"lr": 0.1}]})
    assert not agree(old, {"training": {"epochs": 3, "lr": 0.2}, "ratios": [1, 2]})
    assert not agree(old, {"training": {"epochs": 3, "lr": 0.1}, "ratios": [1, 3]})


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
    monkeypatch.setattr("effi.records.run.device_class", lambda device: "NVIDIA H100")
    gpu = key(tmp_path)
    monkeypatch.setattr("torch.__version__", "0.1")
    assert len({here, gpu, key(tmp_path)}) == 3


def test_a_device_that_is_not_there_is_named() -> None:
    assert device_class("cpu") == machine.cpu()
    assert device_class("meta") == "meta"
    with pytest.raises(ParameterError, match='"cuda:99" is not there'):
        device_class("cuda:99")


CPUINFO = """processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 143
model name	: Intel(R) Xeon(R) Processor
stepping	: 8
flags		: fpu avx512f avx512_bf16 amx_tile amx_bf16

processor	: 1
model		: 1
"""


def test_a_cpu_is_named_with_what_says_which_bits_it_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(text: str, capability: str = "AVX512") -> str:
        monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
        (tmp_path / "cpuinfo").write_text(text)
        return machine.cpu()

    known = said(CPUINFO)
    assert known == "Intel(R) Xeon(R) Processor, family 6 model 143 stepping 8, AVX512 bf16 amx"
    others = {said(CPUINFO.replace("143", "85")), said(CPUINFO.replace(" amx_tile", "")), said(CPUINFO, "AVX2")}
    assert len(others - {known}) == 3
    (tmp_path / "cpuinfo").unlink()
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert machine.cpu() == "arm, AVX2"


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
