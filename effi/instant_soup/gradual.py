"""Magnitude pruning by a plan during one training: progressive, cubic, or at the pace that another method had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup.accounts import PRUNE
from effi.instant_soup.pruned import Pruned, chosen, obey
from effi.instant_soup.rounds import Rounds
from effi.instant_soup.weak_nets import Data
from effi.masks import Scope
from effi.training import Objective, Step, Training, fit
from effi.training.evaluation import CLASSES
from effi.training.loop import PaperFlops

Plan = Mapping[int, float]


def progressive(rounds: Rounds, every: int) -> dict[int, float]:
    """Step -> sparsity: a round after each `every` steps (released code: two epochs and ten points)."""
    return {every * (place + 1): sparsity for place, sparsity in enumerate(rounds.ladder())}


def cubic(target: float, end: int, every: int = 1) -> dict[int, float]:
    """Step -> sparsity S (1 - (1 - t / end)^3) after each `every` steps, S from step `end` on (Zhu and Gupta 2017)."""
    steps = [*range(every, end, every), end]
    return {step: target * (1 - (1 - step / end) ** 3) for step in steps}


class Gradually:
    """A listener after each step that cuts by magnitude within the mask so far, where the plan says so."""

    def __init__(self, weights: Mapping[str, Tensor], plan: Plan, scope: Scope = "global") -> None:
        self.weights, self.plan, self.scope = weights, plan, scope
        self.mask = masks.everything(weights)

    def __call__(self, step: Step) -> None:
        """Prune, at a step of the plan."""
        if step.index in self.plan and not step.ledger.dry_run:
            with step.ledger.phase(PRUNE):
                sparsity = self.plan[step.index]
                self.mask = masks.magnitude(self.weights, sparsity, scope=self.scope, within=self.mask)
            step.hold(self.mask)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"mask": masks.pack(self.mask)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.mask = masks.unpack(state["mask"], self.weights)


def prune_gradually(
    model: nn.Module,
    data: Data,
    training: Training,
    plan: Plan,
    *,
    seed: int,
    ledger: Ledger,
    objective: Objective = CLASSES,
    names: Sequence[str] | None = None,
    scope: Scope = "global",
    paper_flops: PaperFlops | None = None,
    checkpoint: Path | None = None,
) -> Pruned:
    """Train once and prune by a plan. ParameterError for one that does not grow, or ends after the training."""
    per_epoch, steps = training.steps_of_epoch(len(data.train)), training.all_steps(len(data.train))
    ordered = [plan[step] for step in sorted(plan)]
    if not ordered or sorted(ordered) != ordered:
        raise ParameterError(f"a plan of pruning must grow from step to step, unlike {dict(plan)}")
    if max(plan) > steps:
        raise ParameterError(f"the plan prunes until step {max(plan):,} of {steps:,}; train longer or plan less")
    listener = Gradually(chosen(model, names), plan, scope)
    options: dict[str, Any] = {"objective": objective, "paper_flops": paper_flops, "checkpoint": checkpoint}
    (history,) = fit(model, data, training, seeds=[seed], ledger=ledger, after_step=[listener], **options)
    if not ledger.dry_run:
        obey(history, model, listener.mask, per_epoch)
    return Pruned(history, listener.mask, {"step": sorted(map(float, plan)), "after": ordered})
