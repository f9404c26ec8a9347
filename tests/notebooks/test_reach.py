"""Smoke uses every method and option that the cpu scale uses, so that what `effi adopt` proves there holds here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from effi.data import catalogue, docstrings
from effi.records import canonical
from effi.workbook import Notebook, notebooks
from effi.workbook.notebook import cells, source, tagged

pytestmark = pytest.mark.slow

MASKS = "its masks are cut as the ViT's are, and held as its own early-bird ticket's is"
DENSE = "a dense training as its baseline is, on another schedule, which GPT-2's takes at smoke"
OFTEN = "how often validation is read changes no weight"
UNITS = "units are drawn as the ViT's are, and removed as its own structured ticket's are"
WIDER = "stacking, which the ViT takes at smoke, widens as it does"
# Paper -> a feature that smoke leaves out -> why nothing is lost by that.
LEFT_OUT: Mapping[str, Mapping[tuple[str, object], str]] = {
    "early_bird": {
        **{("pair", f"{model}/{source}"): MASKS for model in ("swin", "roberta") for source in ("initial", "random")},
        ("pair", "roberta/short"): DENSE,
        **{("pair", f"{model}/structured-random"): UNITS for model in ("gpt2", "roberta")},
    },
    "instant_soup": {},
    "mixed_sparsity": {(".training.eval_every", "20 steps"): OFTEN},
    "ligo": {
        **{(f"{whose}.training.eval_every", "20 steps"): OFTEN for whose in ("", ".source")},
        ("pair", "vit/fpi"): WIDER,
    },
}
# What an arm is trained on is no method, and differs by design.
DATA = (".data", ".group")
STAND_INS = ("digits", "grammar", "docstrings")


def arms(notebook: Notebook, scale: str, folder: Path) -> Mapping[Any, Any]:
    """The arms of a scale: the code cells up to that tagged "arms", without a kernel and without a training."""
    place = tagged(notebook.path, "parameters")
    names: dict[str, Any] = {"__name__": "notebook"}
    for index, cell in enumerate(cells(notebook.path)[: tagged(notebook.path, "arms") + 1]):
        if cell["cell_type"] == "code":
            exec(compile(source(cell), f"cell {index}", "exec"), names)
        if index == place:
            names |= {"scale": scale, "results_dir": str(folder), "device": "cpu"}
    return names["experiment"]


def features(experiment: Mapping[Any, Any]) -> set[tuple[str, object]]:
    """Variants without their numbers, alone and with their model, and every option of the settings.

    Of options words count themselves, numbers by being 0 or not.
    """
    found: set[tuple[str, object]] = set()
    for name, settings in experiment.items():
        variant = re.sub(r"-\d+$", "", name.variant)
        found |= {("variant", variant), ("pair", f"{name.model}/{variant}")}
        found |= set(leaves(canonical(settings)))
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    if path in DATA:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, path)
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        yield path, (value != 0) if number else value


@pytest.fixture(scope="module", autouse=True)
def stand_ins_only() -> Iterator[None]:
    """The same data wherever this runs: those that every installation has, each file of docstrings parsed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "_obtainable", lambda name: name in STAND_INS)
        patch.setattr(docstrings, "_masked", cache(lambda file, read=docstrings._masked: tuple(read(file))))
        yield


@pytest.mark.parametrize("notebook", notebooks(), ids=lambda notebook: notebook.paper)
def test_smoke_reaches_what_the_cpu_scale_runs(notebook: Notebook, tmp_path: Path) -> None:
    smoke, cpu = (features(arms(notebook, scale, tmp_path)) for scale in ("smoke", "cpu"))
    assert len(cpu) > 20
    excused = LEFT_OUT.get(notebook.paper, {})
    assert cpu - smoke - set(excused) == set()
    assert set(excused) <= cpu - smoke, "an exception that is none any more"


def test_what_smoke_lacks_is_seen() -> None:
    class Name:
        def __init__(self, variant: str) -> None:
            self.model, self.variant = "vit", variant

    def settings(**own: Any) -> dict[str, Any]:
        return {"training": {"schedule": "cosine", "warmup": 0.0, **own}, "data": {"name": "a"}, "sizes": [1, 2]}

    few = features({Name("eb"): settings(), Name("drawn-1"): settings()})
    assert features({Name("drawn-5"): settings() | {"data": {"name": "b"}, "sizes": [3]}}) <= few
    assert features({Name("late"): settings()}) - few == {("variant", "late"), ("pair", "vit/late")}
    assert features({Name("eb"): settings(schedule="linear")}) - few == {(".training.schedule", "linear")}
    assert features({Name("eb"): settings(warmup=0.1)}) - few == {(".training.warmup", True)}
