"""Everything that can change the result of an arm: data, model, pretraining, training and what is the arm's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from effi.instant_soup.recipes import Recipe
from effi.training import Training

Kind = Literal["clip", "minilm", "bert"]
# Prompts; the braces take the name of a class, and "digit 7" for a class called 7.
TEMPLATES = (
    "a photo of a {}.",
    "a small photo of a {}.",
    "a blurry photo of a {}.",
    "a good picture of a {}.",
    "an image of the {}.",
    "a {} in the middle.",
    "one {}.",
    "this is a {}.",
)


@dataclass(frozen=True)
class Pretraining:
    """What a small CLIP is pretrained on and with: images of all these sets, each with one of its class's prompts."""

    data: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    training: Training
    templates: tuple[str, ...] = TEMPLATES


@dataclass(frozen=True)
class Model:
    """A kind of model; of a text `length` tokens are read, two sentences as `pairs`. `full`: of the published size.

    It starts from a checkpoint on this machine, or from what was pretrained here.
    """

    kind: Kind
    full: bool = False
    length: int = 0
    pairs: bool = False
    pretraining: Pretraining | None = None
    templates: tuple[str, ...] = TEMPLATES


@dataclass(frozen=True)
class Settings:
    """One arm of a group, which is a data set and a model ("cifar10/clip").

    `metric` is what validation chooses by: accuracy, or a usual metric by name. `include` names weights that may be
    pruned beside those of attention and feed-forward blocks.
    """

    group: str
    data: Mapping[str, Any]
    model: Model
    training: Training
    recipe: Recipe
    metric: str = "accuracy"
    include: tuple[str, ...] = field(default=())
