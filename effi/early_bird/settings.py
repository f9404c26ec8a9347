"""Everything that can change the result of an arm: data, model, training, search, and what is the arm's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from effi.early_bird.ticket import Ticket
from effi.masks import Rule, Scope
from effi.training import Training


@dataclass(frozen=True)
class Model:
    """A kind of model and its options; a language model reads `length` tokens.

    It starts from a `checkpoint` on this machine, or is pretrained here as `pretraining` says, or neither. `full`:
    whether it has the published size.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    full: bool = False
    length: int = 0
    checkpoint: bool = False
    pretraining: Training | None = None


@dataclass(frozen=True)
class Removal:
    """EarlyBERT's recipe: coefficients learnt for a share `search` of an epoch, then what is left is trained.

    `random` keeps as many units, drawn at random without a search. A layer keeps a `multiple` of so many neurons.
    """

    search: float
    retrain: Training
    random: bool = False
    multiple: int = 1


@dataclass(frozen=True)
class Pretraining:
    """What a language model is pretrained on and with, for all arms and seeds of its group."""

    group: str
    data: Mapping[str, Any]
    model: Model


@dataclass(frozen=True)
class Settings:
    """One arm of a group, which is a data set and a model ("cifar10/vit").

    Masks of all `ratios` are taken `per_epoch` times an epoch, ranked within `scope`; `rule` draws below `threshold`.
    An arm's own: its `ticket`, its `removal`, or the ratios whose tickets' epochs it is trained for on top.
    """

    group: str
    data: Mapping[str, Any]
    model: Model
    training: Training
    per_epoch: int
    threshold: float
    ratios: tuple[float, ...]
    rule: Rule = "consecutive"
    scope: Scope = "global"
    ticket: Ticket | None = None
    removal: Removal | None = None
    as_long_as: tuple[float, ...] = ()

    @property
    def dense(self) -> Settings:
        """Those of the group's baseline, whose search its arms share."""
        return replace(self, ticket=None, removal=None, as_long_as=())

    @property
    def looking(self) -> dict[str, Any]:
        """How its search looks: options of `Search` beside model, weights, ratios and steps."""
        return {name: getattr(self, name) for name in ("per_epoch", "threshold", "rule", "scope")}

    @property
    def pretraining(self) -> Pretraining:
        """What its model is pretrained on and with."""
        return Pretraining(self.group, self.data, self.model)

    @property
    def epochs(self) -> int:
        """Epochs of its training, in which searches count."""
        assert self.training.epochs is not None
        return self.training.epochs
