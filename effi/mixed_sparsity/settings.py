"""Everything that can change the result of an arm: data, model, training and what is the arm's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from effi.mixed_sparsity.recipes import Recipe
from effi.models.language import TextSize
from effi.training import Training


@dataclass(frozen=True)
class Model:
    """A GPT; its output matrix may be pruned, and with it the input embedding where they are `tied`, or stays dense.

    `std` is the deviation of new weights, 0.02 for GPT-2's width of 768. `full`: of the published size and context.
    """

    size: TextSize
    tied: bool = True
    head: Literal["sparse", "dense"] = "sparse"
    std: float = 0.02
    full: bool = False


@dataclass(frozen=True)
class Settings:
    """One arm on a corpus, of which `data` says which. Each seed trains on `rows` windows of its own, None: on all.

    FLOP ratios are of a dense model of the `reference` size, None: of the arm's own.
    """

    data: Mapping[str, Any]
    model: Model
    training: Training
    recipe: Recipe
    rows: int | None = None
    reference: TextSize | None = None
