"""The early-bird ticket as a peer: train until masks have settled, go back to the start, and train the ticket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from effi import masks
from effi.cost import Ledger
from effi.instant_soup.accounts import before
from effi.instant_soup.pruned import Pruned, chosen, copied
from effi.instant_soup.weak_nets import Data
from effi.masks import Rule, Scope, TicketDetector
from effi.training import Objective, Step, Training, fit
from effi.training.evaluation import CLASSES


class _Drawn(Exception):
    """Ends a search, whose remaining steps nobody needs."""


@dataclass(frozen=True)
class Watch:
    """When a mask counts as settled: `rule` at `threshold`, of `per_epoch` masks an epoch (You et al. 2020)."""

    threshold: float = 0.1
    rule: Rule = "queue"
    per_epoch: int = 1
    scope: Scope = "global"


class Watcher:
    """A listener after each step that looks at the masks of one sparsity and ends the training where one is drawn."""

    def __init__(self, weights: Mapping[str, Tensor], sparsity: float, watch: Watch, steps_of_epoch: int) -> None:
        self.weights, self.sparsity, self.watch = weights, sparsity, watch
        self.every = max(1, steps_of_epoch // watch.per_epoch)
        self.detector = TicketDetector(sparsity, threshold=watch.threshold, rule=watch.rule)
        self.look()

    def look(self) -> bool:
        """Show the detector the mask of now; True where it draws."""
        return self.detector.update(masks.magnitude(self.weights, self.sparsity, scope=self.watch.scope))

    def __call__(self, step: Step) -> None:
        """Look, where it is time."""
        if step.index % self.every == 0 and not step.ledger.dry_run and self.look():
            raise _Drawn


def early_bird(
    model: nn.Module,
    data: Data,
    training: Training,
    sparsity: float,
    watch: Watch,
    *,
    seed: int,
    ledger: Ledger,
    objective: Objective = CLASSES,
    names: Sequence[str] | None = None,
    **options: Any,
) -> Pruned:
    """Search by a training that ends at the draw and is charged as "search", then train the ticket from the start.

    Where no mask settles, the search is a whole training and its last mask the ticket; `told` says when it was drawn
    ("step", the last one where never) and whether it was ("drawn"). A search has no checkpoint. `options` as in `fit`.
    """
    weights, start = chosen(model, names), copied(model)
    watcher = Watcher(weights, sparsity, watch, training.steps_of_epoch(len(data.train)))
    drawn = _search(model, data, training, watcher, seed, ledger, objective)
    mask = watcher.detector.ticket or masks.magnitude(weights, sparsity, scope=watch.scope)
    model.load_state_dict(start)
    (history,) = fit(model, data, training, seeds=[seed], ledger=ledger, objective=objective, mask=mask, **options)
    found = watcher.detector.found_at
    at = training.all_steps(len(data.train)) if found is None else found * watcher.every
    return Pruned(history, mask, {"after": [sparsity], "step": [float(at)], "drawn": [float(drawn)]})


def _search(
    model: nn.Module,
    data: Data,
    training: Training,
    watcher: Watcher,
    seed: int,
    ledger: Ledger,
    objective: Objective,
) -> bool:
    """Train until the watcher draws; whether it did."""
    with before(ledger) as account:
        try:
            fit(model, data, training, seeds=[seed], ledger=account, objective=objective, after_step=[watcher])
        except _Drawn:
            return True
    return False
