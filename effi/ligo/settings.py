"""Everything that can change the result of an arm: data, models, trainings and what is the arm's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from effi.ligo.trained import Recipe
from effi.ligo.transfer import Transfer
from effi.models.gpt import Gelu
from effi.models.language import TextSize
from effi.training import Training

Kind = Literal["gpt", "vit", "bert"]


@dataclass(frozen=True)
class Model:
    """A Transformer of a kind: `gpt` predicts the next token, `bert` hidden ones, `vit` the class of an image.

    Of a GPT `std` is the deviation of new weights, 0.02 for GPT-2's width of 768; `bias`, `gelu`, and as least ones
    `context` and `vocabulary`, are those of a checkpoint. `patch` is the side of a ViT's patches, `dropout` that of a
    BERT. `full`: of a published size.
    """

    kind: Kind
    size: TextSize
    std: float = 0.02
    bias: bool = False
    gelu: Gelu = "none"
    context: int = 0
    vocabulary: int = 0
    patch: int = 4
    dropout: float = 0.0
    full: bool = False


@dataclass(frozen=True)
class Pair:
    """A small model, and the large one that it is grown to."""

    small: Model
    large: Model

    def deeper(self) -> Pair:
        """The pair whose small model is as wide as the large one, so that it grows in depth alone."""
        size = replace(self.large.size, depth=self.small.size.depth)
        return replace(self, small=replace(self.large, size=size, full=False))

    def wider(self) -> Pair:
        """The pair whose small model is as deep as the large one, so that it grows in width alone."""
        size = replace(self.small.size, depth=self.large.size.depth)
        return replace(self, small=replace(self.small, size=size, full=False))


@dataclass(frozen=True)
class Source:
    """A small model as it is found: trained by a schedule of its own, on the data of what is grown from it.

    Without a training it is a `checkpoint`, a folder whose weights have a `checksum`; what that one cost is not known.
    `transfer` are other tasks that it is tried on.
    """

    model: Model
    training: Training | None
    checkpoint: str = ""
    checksum: str = ""
    transfer: Transfer | None = None


@dataclass(frozen=True)
class Settings:
    """One arm on the data that `data` describes: a large model, how it begins, and how it is trained.

    Each seed trains on `rows` windows of its own, None: on all. `source` is what a recipe grows or learns from,
    `transfer` other tasks that the large model is tried on.
    """

    data: Mapping[str, Any]
    model: Model
    training: Training
    recipe: Recipe
    source: Source | None = None
    rows: int | None = None
    transfer: Transfer | None = None
