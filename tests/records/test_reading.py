"""What a function takes from outside itself counts, or is refused; nothing is dropped in silence."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from effi import early_bird
from effi.errors import ParameterError
from effi.records.artefacts import Artefact, Artefacts
from effi.records.identity import identity
from effi.records.reading import Reads, reads
from effi.spec import Spec

NOTEBOOK = """
import re
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property, partial
from math import ceil, inf
import numpy as np
import torch
from effi import masks
from effi.claims import stats
from effi.spec import Spec
RATE = 1
BEST = inf
DEEP = {"a": [1, {"b": 2}], "none": None}
seeds = [0]
class Loss(Enum):
    MSE = "mse"
class Base:
    FACTOR = 3
    def times(self):
        return self.FACTOR
@dataclass
class Shape(Base):
    width: int = 4
    unseen: int = field(default=0, compare=False)
    @property
    def area(self):
        return self.width * RATE
    @cached_property
    def twice(self):
        return self.area * 2
    @staticmethod
    def still():
        return 5
class Data:
    def __init__(self, checksum):
        self.checksum = checksum
KINDS = {"double": lambda x: 2 * x, "shape": Shape, "effi": stats.interval}
half = partial(lambda x, by: x / by, by=2)
@cache
def helper(n=2):
    return helper(n - 1) if n else Shape().area + 1
opened = {"d": Data("sha256:1")}
def train(arm, epochs=RATE):
    from effi.errors import DataError
    total = 0
    for RATIO in range(ceil(epochs)):
        total += helper() + torch.ones(1) + np.sin(BEST) + half(4)
    arm.seed = stats, torch, shape, seeds, DEEP, KINDS, opened, Loss.MSE, re.compile, masks.magnitude, plan.device
    return total
shape = Shape(7)
plan = Spec("cpu", (0, 1), "cpu", ("d",), {"epochs": 3}, ())
"""


def load(tmp_path: Path, source: str) -> ModuleType:
    path = tmp_path / f"cell_{len(list(tmp_path.iterdir()))}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counted(read: Reads) -> str:
    return identity({"code": read.code, "values": read.values, "modules": sorted(read.modules)})


def changed(tmp_path: Path, old: str, new: str) -> bool:
    """Whether what counts differs after an edit of the notebook."""
    assert old in NOTEBOOK
    before, after = (reads(load(tmp_path, text).train) for text in (NOTEBOOK, NOTEBOOK.replace(old, new, 1)))
    return counted(before) != counted(after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 1", "RATE = 2"),
        ("+ 1\n", "+ 2\n"),
        ("width: int = 4", "width: int = 5"),
        ("* RATE", "+ RATE"),
        ("* 2\n", "* 3\n"),
        ("return 5", "return 6"),
        ("FACTOR = 3", "FACTOR = 4"),
        ("total = 0", "total = 1"),
        ("BEST = inf", "BEST = -inf"),
        ('{"b": 2}', '{"b": 3}'),
        ('"none": None', '"none": 0'),
        ("Shape(7)", "Shape(8)"),
        ("2 * x", "3 * x"),
        ("by=2", "by=3"),
        ("x / by", "x // by"),
        ('"mse"', '"l2"'),
        ('"effi": stats.interval', '"effi": Spec'),
    ],
)
def test_what_a_function_reads_counts(tmp_path: Path, old: str, new: str) -> None:
    assert changed(tmp_path, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 1", "RATE = 1  # why\nseed = 3\nRATIO = 5\nunused = 3"),
        ("total = 0", "\n    # why\n    total = 0"),
        ("seeds = [0]", "seeds = [0, 1]"),
        ("sha256:1", "sha256:2"),  # which data an arm is trained on is in its settings
        ('opened = {"d"', 'opened = {"e": Data("sha256:3"), "d"'),
        ('"cpu", (0, 1), "cpu", ("d",), {"epochs": 3}', '"gpu", (0,), "cuda", (), {"epochs": 4}'),  # plan.device alone
        ("Shape(7)", "Shape(7, unseen=3)"),
    ],
)
def test_what_cannot_change_a_result_does_not_count(tmp_path: Path, old: str, new: str) -> None:
    assert not changed(tmp_path, old, new)


def test_the_row_of_a_scale_counts_when_it_is_read(tmp_path: Path) -> None:
    keys = set()
    for read in ("plan.device", "plan.row", "plan"):
        for epochs in (3, 4):
            text = NOTEBOOK.replace("plan.device", read).replace('"epochs": 3', f'"epochs": {epochs}')
            keys.add((read, counted(reads(load(tmp_path, text).train))))
    assert len(keys) == 5


def test_a_function_brings_the_modules_of_effi_that_it_names(tmp_path: Path) -> None:
    wanted = {"effi.claims.stats", "effi.errors", "effi.masks"}
    assert reads(load(tmp_path, NOTEBOOK).train).modules >= wanted


@pytest.mark.parametrize(
    "value", ["torch.zeros(3)", "{'a': [torch.zeros(3)]}", "np.random.default_rng(0)", "re.compile('a')", "object()"]
)
def test_what_nothing_tells_apart_is_named(tmp_path: Path, value: str) -> None:
    module = load(tmp_path, NOTEBOOK.replace("shape = Shape(7)", f"shape = {value}"))
    with pytest.raises(ParameterError, match=r"train reads shape.*, an? \w+, .* in the arm's settings"):
        reads(module.train)


def test_an_object_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    text = NOTEBOOK.replace("shape = Shape(7)", "shape = {'rate': 1}\nshape['self'] = shape")
    assert reads(load(tmp_path, text).train).values["shape['rate']"] == 1


# --- data ----------------------------------------------------------------------------------------------------


def test_settings_name_the_data_that_a_function_uses(tmp_path: Path) -> None:
    read = reads(load(tmp_path, NOTEBOOK).train)
    assert read.data == {"opened['d']": "sha256:1"}
    read.check_named("arm a", {"data": {"checksum": "sha256:1"}}, {})
    read.check_named("arm a", {}, {"d": "sha256:1"})
    Reads().check_named("arm a", {})
    with pytest.raises(ParameterError, match=r"arm a uses opened\['d'\], .* checksum"):
        read.check_named("arm a", {"data": "sha256:2"}, {})


# --- what encloses a function --------------------------------------------------------------------------------


def make(rate: int) -> Callable[[object], object]:
    def train(arm: object) -> object:
        return (rate, train)

    return train


def scaled(scale: int) -> Callable[[object], int]:
    def train(arm: object) -> int:
        return scale

    return train


class Experiment:
    """Holds what its arms share."""

    def __init__(self, rate: int) -> None:
        self.rate = rate

    def train(self, arm: object) -> int:
        """One arm."""
        return self.rate


def power(rate: int, arm: object) -> int:
    return rate


@pytest.mark.parametrize(
    "function", [make, scaled, lambda rate: Experiment(rate).train, lambda rate: partial(power, rate)]
)
def test_closures_methods_and_partials_count_with_what_they_hold(function: Callable[[int], Callable]) -> None:
    one, again, other = (counted(reads(function(rate))) for rate in (1, 1, 2))
    assert one == again != other


def test_a_method_of_effi_counts_with_its_module_and_what_its_object_holds() -> None:
    short, long = (Spec("cpu", (0,), "cpu", (), {"epochs": epochs}, ()) for epochs in (1, 2))

    def of(spec: Spec) -> Reads:
        return reads(partial(Spec.together.fget, spec))

    assert of(short).modules == {Spec.__module__} and of(short).code == {}
    assert counted(of(short)) != counted(of(long))


def test_artefacts_count_by_how_they_are_made(tmp_path: Path) -> None:
    def using(rate: int) -> Reads:
        def search(settings: object, seed: int) -> Artefact:
            return Artefact({}, {"rate": rate})

        searched = Artefacts(tmp_path / str(rate), search, {"results": "anywhere"})

        def train(arm: object) -> Artefacts:
            return searched

        return reads(train)

    assert counted(using(1)) == counted(using(1)) != counted(using(2))


@pytest.mark.parametrize("function", [print, eval("lambda arm: None"), Experiment])
def test_a_function_without_source_is_refused(function: Callable) -> None:
    with pytest.raises(ParameterError, match="write it with def"):
        reads(function)


# --- closely -------------------------------------------------------------------------------------------------

FACT = """
from effi import masks
from effi.claims import stats
from effi.claims.stats import interval
def fact(records):
    return interval([1.0, 2.0]), stats.welch, masks
"""


def test_closely_functions_of_effi_count_by_their_own_text(tmp_path: Path) -> None:
    read = reads(load(tmp_path, FACT.replace(", masks\n", "\n")).fact, closely=True)
    assert read.modules == set()
    assert {"fact", "effi.claims.stats.interval", "effi.claims.stats.welch"} <= set(read.code)
    assert reads(load(tmp_path, FACT).fact, closely=True).modules == {"effi.masks"}


def test_the_fact_of_paper_1_survives_every_edit_but_its_own() -> None:
    read = reads(early_bird.distance_ratios, closely=True)
    assert read.modules == set() and list(read.code) == ["distance_ratios"]
