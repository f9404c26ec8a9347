"""Which mask a ticket has and with which weights it starts: the method's choices and the controls beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from effi import masks
from effi.early_bird.search import Found
from effi.errors import ParameterError
from effi.masks import Mask, Rule, Scope
from effi.seeds import generator

Source = Literal["early_bird", "layerwise", "initial", "late", "drawn", "random", "snip", "gradient"]
Start = Literal["original", "inherit", "reinit", "continue"]


@dataclass(frozen=True)
class Ticket:
    """One pruning ratio, where its mask comes from, and which weights it starts with.

    `source`: "early_bird" where `rule` draws, "layerwise" the same weights ranked within each matrix, the snapshot
    "drawn", "initial" (epoch 0, control K1), "late" (the last snapshot, K3), "random" with the early bird's layer
    counts (K2), "snip" or "gradient" (K4). `start`: "original" is
    theta0 or the pretrained weights, "inherit" those of the draw, "reinit" fresh ones, "continue" inherits them and the
    schedule. Early Transformers, Sec. 3; the controls are ours.
    """

    ratio: float
    source: Source = "early_bird"
    rule: Rule = "consecutive"
    start: Start = "original"
    drawn: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise ParameterError(f"a ticket's ratio is {self.ratio:g}; give a share of weights between 0 and 1.")

    @property
    def needs_draw(self) -> bool:
        """Whether there is no ticket when the rule never draws."""
        return self.source in ("early_bird", "layerwise", "random") or self.start != "original"

    def snapshot(self, drawn_at: int, last: int) -> int:
        """The snapshot that its search ends at; `drawn_at` is where its rule draws."""
        if self.source == "late":
            return last
        if self.source == "drawn":
            return self.drawn
        return drawn_at if self.source in ("early_bird", "layerwise") or self.start != "original" else 0

    def mask(self, found: Found, drawn_at: int, *, seed: int) -> Mask:
        """The mask, from what a search found; gradient criteria have theirs from `scores`."""
        if self.source == "layerwise":
            state = found.state(self.ratio)
            weights = {name: state[name].to(like.device) for name, like in found.like.items()}
            return masks.magnitude(weights, self.ratio, scope="tensor")
        if self.source == "random":
            return masks.random_like(found.mask(self.ratio, drawn_at), generator(seed, f"random mask {self.ratio}"))
        place = {"initial": 0, "late": -1, "drawn": self.drawn}.get(self.source, drawn_at)
        return found.mask(self.ratio, place)


def exact(mask: Mask, ratio: float, scope: Scope = "global") -> bool:
    """Whether exactly floor(ratio N) weights are pruned, of all matrices together or ("tensor") of each."""
    groups = [mask] if scope == "global" else [{name: kept} for name, kept in mask.items()]
    return all(_pruned(group) == masks.pruned_count(ratio, _weights(group)) for group in groups)


def _weights(mask: Mask) -> int:
    return sum(kept.numel() for kept in mask.values())


def _pruned(mask: Mask) -> int:
    return _weights(mask) - sum(int(torch.count_nonzero(kept)) for kept in mask.values())
