"""What is recorded of an arm: scores, sparsity, what the prunes told, and what each part of the work cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effi import masks
from effi.cost import Ledger
from effi.instant_soup.accounts import LOOK_AHEAD, SEARCH
from effi.instant_soup.pruned import Pruned, chosen
from effi.instant_soup.recipes import Task
from effi.training import Outcome, evaluation

# What a phase of the ledger is called in a record.
PARTS = {"fine_tune": "train", "look_ahead": LOOK_AHEAD, "search": SEARCH}


def outcome(task: Task, found: Pruned) -> Outcome:
    """Scores (effi.training.outcome) with the task's metric, sizes, facts of the prunes, and FLOPs by part."""
    more = () if task.metric in ("accuracy", "loss") else (task.metric,)
    scored = evaluation.outcome(task.model, found.history, task.data, task.objective, more)
    sizes = masks.sizes(task.model, found.mask) | {"training_bytes": found.history.held_bytes}
    # What an arm may prune, which a model's kind alone does not say: of BERT the pooler, too.
    sizes["prunable"] = sum(weight.numel() for weight in chosen(task.model, task.names).values())
    return scored._replace(metrics=scored.metrics | sizes | prunes(found.told) | parts(task.ledger))


def prunes(told: Mapping[str, list[float]]) -> dict[str, float]:
    """`rounds`, the share of the final mask that the last magnitude cut made, and the share that weak nets decided."""
    if "decided" not in told or not told["after"]:
        return {"rounds": len(told.get("after", ()))}
    # What the last magnitude cut took is nobody's vote.
    told_by = zip(told["before"], told["after"], told["final"], strict=True)
    steps = [after * (1 - final) - before for before, after, final in told_by]
    decided = sum(share * step for share, step in zip(told["decided"], steps, strict=True))
    return {"rounds": len(steps), "final_share": told["final"][-1], "decided": decided / told["after"][-1]}


def parts(ledger: Ledger) -> dict[str, float]:
    """FLOPs of fine-tune, look-ahead and search."""
    phases: Mapping[str, Any] = ledger.total()["phases"]
    return {f"{name}_flops": phases[phase]["flops"] if phase in phases else 0 for name, phase in PARTS.items()}


def curves(found: Pruned) -> dict[str, list[float]]:
    """Curves of the training, and a value of each prune."""
    return found.history.curves | {f"prune/{name}": values for name, values in found.told.items()}
