"""An early-bird ticket as a listener: drawn where masks settle, and held from then on or left to the reader."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effi import masks
from effi.errors import ParameterError, did_you_mean
from effi.masks import Mask, Rule, Scope, TicketDetector
from effi.training import Step

# Masks from which a detector can go on: its longest rule looks at five distances.
KEPT = 6


class EarlyBird:
    """A listener after each step: every so many steps (`every`) a mask of magnitude, until `rule` calls one settled.

    The first is that of the weights there are. `ticket` is the mask drawn, None before; with `hold` the training goes
    on under it, else nothing changes and the reader may stop, rewind or slim. `drawn_at` is the step after which it was
    drawn, `distances` are those of consecutive masks. `names` are the weights that count, by default all prunable.
    Errors as TicketDetector; ParameterError for an interval below 1 and names that the model lacks.
    """

    def __init__(
        self,
        model: nn.Module,
        sparsity: float,
        *,
        every: int,
        threshold: float = 0.1,
        rule: Rule = "consecutive",
        scope: Scope = "global",
        hold: bool = True,
        names: Sequence[str] | None = None,
    ) -> None:
        if every < 1:
            raise ParameterError(f"every={every} steps between the masks of an early bird: give 1 or more")
        self.weights = weights_of(model, names)
        self.sparsity, self.every, self.scope, self.holds = sparsity, every, scope, hold
        self.made_of: dict[str, Any] = {"threshold": threshold, "rule": rule}
        self.detector = TicketDetector(sparsity, threshold=threshold, rule=rule)
        self.ticket: Mask | None = None
        self.drawn_at: int | None = None
        self.seen: deque[Tensor] = deque(maxlen=KEPT)
        self.look()

    @property
    def distances(self) -> list[float]:
        """Distances of consecutive masks so far."""
        return self.detector.distances

    def look(self) -> Mask | None:
        """Look at the weights as they are; the ticket, if it is drawn."""
        drawn = self.detector.update(masks.magnitude(self.weights, self.sparsity, scope=self.scope))
        self.seen.append(self.detector.newest)
        if drawn:
            self.ticket = self.detector.ticket
        return self.ticket

    def __call__(self, step: Step) -> None:
        """Look, where it is due; the ledger has what it took as the phase "watch"."""
        if self.ticket is not None or step.index % self.every:
            return
        with step.ledger.phase("watch", aside=True):
            ticket = self.look()
        if ticket is not None:
            self.drawn_at = step.index
            if self.holds:
                step.hold(ticket)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the last masks as bits, and the ticket."""
        ticket = {} if self.ticket is None else {"ticket": masks.pack(self.ticket)}
        kept = {"seen": torch.stack(list(self.seen)), "distances": self.distances, "drawn_at": self.drawn_at}
        return kept | ticket

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: the detector looks at the last masks once more."""
        self.detector = TicketDetector(self.sparsity, **self.made_of)
        for bits in state["seen"]:
            self.detector.update(masks.unpack(bits, self.weights))
        self.seen = deque(state["seen"], maxlen=KEPT)
        self.detector.distances, self.drawn_at = list(state["distances"]), state["drawn_at"]
        self.ticket = masks.unpack(state["ticket"], self.weights) if "ticket" in state else None


def weights_of(model: nn.Module, names: Sequence[str] | None) -> dict[str, nn.Parameter]:
    """The weights to prune: those named, by default all prunable; ParameterError for a name that the model lacks."""
    if names is None:
        return masks.prunable(model)
    known = dict(model.named_parameters())
    for name in names:
        if name not in known:
            raise ParameterError(f"{type(model).__name__} has no weight {name!r} to prune{did_you_mean(name, known)}")
    return {name: known[name] for name in names}
