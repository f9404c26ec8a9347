"""What a parameter may be, held before anything starts: each rule passes what is right and names what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from effi import spec
from effi.errors import DataError, ParameterError


@dataclass(frozen=True)
class Shelf:
    """A part of the options, written as a dict."""

    of: str
    height: float | None = None


@dataclass(frozen=True)
class Oven:
    """Options of every type that ours have."""

    hours: int = 1
    heat: float = 180.0
    mode: Literal["grill", "fan"] = "fan"
    limit: float | None = None
    trays: tuple[str, ...] = ()
    range: tuple[float, float] = (0.0, 1.0)
    dials: Mapping[str, int] | None = None
    light: bool = False
    shelves: tuple[Shelf | Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.heat > 300:
            raise ParameterError("the oven melts")


def bake(classes: int, *, width: int = 3, layers: Sequence[int] = (1, 2), seed: int = 0) -> None:
    """A function whose keyword arguments are options."""


RULES = {
    "word": spec.one_of("red", "green"),
    "share": spec.between(0, 1),
    "count": spec.at_least(1, int),
    "shares": spec.several(spec.between(0, 1)),
    "names": spec.several(spec.text),
    "oven": spec.options_of(Oven, base={}),
    "bake": spec.options_of(bake, "dropout"),
    "each": spec.per({"a": spec.options_of(bake), "b": spec.options_of(Oven)}),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("word", "red"),
        ("share", 0.5),
        ("count", 1),
        ("shares", []),
        ("shares", [0.1, 0.2]),
        ("names", ["x"]),
        ("oven", {}),
        ("oven", {"hours": 2, "heat": 200, "mode": "grill", "limit": None, "trays": ["a"], "range": [0, 1.5]}),
        ("oven", {"shelves": [{"of": "wood", "height": 3}, {"of": "tin"}]}),
        ("oven", {"limit": 3, "dials": {"left": 1}, "light": True}),
        ("bake", {"width": 4, "layers": [3], "dropout": 0.1}),
        ("each", {"a": {"width": 1}, "b": {"hours": 3}}),
    ],
)
def test_what_is_right_passes(name: str, value: object) -> None:
    spec.check(RULES, {name: value})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("word", "gren", "unknown word 'gren'; did you mean 'green'? Known: red, green."),
        ("word", ["red"], "unknown word ['red']; did you mean 'red'? Known: red, green."),
        ("share", 0, "share is 0; give a number between 0 and 1, both left out."),
        ("share", 1.0, "share is 1.0; give a number"),
        ("share", "half", "share is 'half'; give a number"),
        ("share", float("nan"), "share is nan; give a number"),
        ("count", 0, "count is 0; give a whole number of at least 1."),
        ("count", 1.5, "count is 1.5; give a whole number"),
        ("count", True, "count is True; give a whole number"),
        ("shares", 0.1, "shares is 0.1; give a list."),
        ("shares", [0.1, 2], "shares is 2; give a number between 0 and 1"),
        ("shares", [0.1, 0.2, 0.1], "shares holds 0.1 more than once; give each value once."),
        ("names", [""], "names is ''; give text."),
        ("names", [["x"]], "names is ['x']; give text."),
        ("oven", [], "oven is []; give a dict of options, for example {'hours': ...}."),
        ("oven", {"heet": 1}, "unknown option of oven 'heet'; did you mean 'heat'? Known: hours, heat"),
        ("oven", {1: 1}, "unknown option of oven 1; known: hours"),
        ("oven", {"hours": 1.5}, "oven hours is 1.5; it wants a whole number from 1 on."),
        ("oven", {"hours": True}, "oven hours is True; it wants a whole number from 1 on."),
        ("oven", {"heat": "hot"}, "oven heat is 'hot'; it wants a number from 0 on."),
        ("oven", {"heat": -1}, "oven heat is -1; it wants a number from 0 on."),
        ("oven", {"heat": float("inf")}, "oven heat is inf; it wants a number from 0 on."),
        ("oven", {"heat": 301}, "the oven melts"),
        ("bake", {"width": 0}, "bake width is 0; it wants a whole number from 1 on."),
        ("bake", {"dropout": 1.0}, "bake dropout is 1.0; it wants a share below 1."),
        ("oven", {"mode": "gril"}, "unknown oven mode 'gril'; did you mean 'grill'?"),
        ("oven", {"limit": "1"}, "oven limit is '1'; it wants a number from 0 on or None."),
        ("oven", {"trays": "a"}, "oven trays is 'a'; it wants a list of text."),
        ("oven", {"trays": [1]}, "oven trays is [1]; it wants a list of text."),
        ("oven", {"range": [1]}, "oven range is [1]; it wants a list of 2 numbers from 0 on."),
        (
            "oven",
            {"dials": {"left": "x"}},
            "oven dials is {'left': 'x'}; it wants a dict of whole numbers from 1 on or None.",
        ),
        (
            "oven",
            {"shelves": [{"hight": 1}]},
            "oven shelves is [{'hight': 1}]; it wants a list of dicts with of, height.",
        ),
        (
            "oven",
            {"shelves": [{"of": "tin", "height": "x"}]},
            "oven shelves is [{'of': 'tin', 'height': 'x'}]; it wants",
        ),
        ("oven", {"light": 1}, "oven light is 1; it wants True or False."),
        (
            "bake",
            {"classes": 3},
            "unknown option of bake 'classes'; did you mean 'layers'? Known: width, layers, dropout.",
        ),
        ("bake", {"layers": ["x"]}, "bake layers is ['x']; it wants a list of whole numbers from 1 on."),
        ("each", {"c": {}}, "unknown key of each 'c'; known: a, b."),
        ("each", {"a": {"widht": 1}}, "unknown option of each['a'] 'widht'; did you mean 'width'?"),
        ("each", {"a": 3}, "each['a'] is 3; give a dict of options"),
        ("each", 3, "each is 3; give a dict with a or b."),
        ("seeds", 3, "seeds=3 must be different whole numbers from 0 on"),
        ("seeds", [0, True], "seeds=[0, True] must be different whole numbers"),
        ("device", "tpu", "unknown device 'tpu'; did you mean 'cpu'? Known: auto, cpu, cuda."),
        ("price_per_gpu_hour", -2.0, "price_per_gpu_hour is -2.0; give a number of at least 0."),
        ("price_per_gpu_hour", float("inf"), "price_per_gpu_hour is inf; give a number"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: object, sentence: str) -> None:
    with pytest.raises(ParameterError) as caught:
        spec.check(RULES, {name: value})
    assert str(caught.value).startswith(sentence)


def test_values_without_a_rule_are_let_be() -> None:
    spec.check(RULES, {"anything": object(), "__name__": "__main__"})


@pytest.mark.parametrize(
    ("value", "error", "sentence"),
    [
        ("mnits", DataError, "unknown data set 'mnits'; did you mean 'mnist'?"),
        ("grammar", ParameterError, "dataset=grammar holds labelled texts, and images are wanted: give mnist, cifar10"),
        ("csv:/no/such/place", ParameterError, "dataset=csv:/no/such/place holds labelled texts, and images are"),
        ("folder:/no/such/place", DataError, "there is no /no/such/place"),
        (3, ParameterError, "dataset is 3; give text."),
    ],
)
def test_a_data_set_is_of_the_right_kind_and_there(value: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        spec.check({"dataset": spec.holding("images")}, {"dataset": value})
    assert str(caught.value).startswith(sentence)


def test_data_sets_that_fit_pass(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("text,label\na,x\nb,x\nc,y\nd,y\n")
    for name in ("x/1.png", "x/2.png", "y/1.png", "y/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for kind, names in {
        "images": ("auto", "digits", f"folder:{tmp_path}"),
        "texts": (f"csv:{tmp_path}/table.csv",),
    }.items():
        for name in names:
            spec.check({"dataset": spec.holding(kind)}, {"dataset": name})
    spec.check({}, {"dataset": "digits"})


def test_an_option_that_another_parameter_sets_is_sent_there() -> None:
    rule = spec.options_of(Oven, elsewhere={"hours": "bake_for"})
    rule("oven", {"heat": 200.0})
    with pytest.raises(ParameterError, match="oven sets 'hours', which bake_for does; give it there"):
        rule("oven", {"hours": 2})
