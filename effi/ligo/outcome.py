"""What is recorded of an arm: losses of its last weights, those right after growth, and what each part cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from effi.cost import Ledger
from effi.ligo.task import GROWTH, Task
from effi.ligo.trained import Trained
from effi.training import Outcome, evaluate
from effi.training.evaluation import predict, score

COSTS = ("flops", "paper_flops", "seconds")


def outcome(task: Task, found: Trained) -> Outcome:
    """Metrics of an arm, and of images which test examples are hits.

    `start_...` are validation scores before the first step; `growth_...` and `source_...` what growth and the small
    model's training took, of which the latter is in no total; `..._per_step` what a step of the large model takes.
    """
    curves = found.history.curves
    last = {name: values[-1] for name, values in curves.items() if name.startswith(("train_", "validation_"))}
    start = {name: curves[f"validation_{name}"][0] for name in ("loss", "accuracy")}
    tested = _tested(task)
    metrics = last | tested.metrics | {f"start_{name}": value for name, value in start.items()}
    metrics |= costs(task.ledger) | sizes(task) | found.facts
    metrics |= {f"source_{name}": value for name, value in task.source.items()}
    return Outcome(metrics | {"training_bytes": found.history.held_bytes}, tested.marks)


def costs(ledger: Ledger) -> dict[str, float]:
    """FLOPs, the paper's FLOPs and seconds of growth; 0 where there was none."""
    phase = ledger.phases.get(GROWTH)
    return {f"{GROWTH}_{cost}": getattr(phase, cost, 0) for cost in COSTS}


def sizes(task: Task) -> dict[str, float]:
    """Parameters and layers, the steps of the training and what each takes."""
    found: dict[str, float] = {
        "parameters": sum(each.numel() for each in task.model.parameters()),
        "layers_large": task.sizes(task.model).layers,
        "steps": task.steps,
        "flops_per_step": task.executed(task.model),
        "paper_flops_per_step": task.paper_step(task.model),
    }
    return found | ({} if task.small is None else {"layers_small": task.sizes(task.small).layers})


def _tested(task: Task) -> Outcome:
    """Scores on the test split."""
    marks: dict[str, Tensor] = {}
    if task.objective.per_token:
        scores = evaluate(task.model, task.data.test, task.data, task.objective)
    else:
        logits, labels = predict(task.model, task.data.test, task.data), task.data.test.labels
        scores, hits = score(logits, labels, task.objective), task.objective.hits(logits, labels)
        marks = {} if hits is None else {"test_accuracy": hits}
    return Outcome({f"test_{name}": value for name, value in scores.items()}, marks)


def curves(found: Trained) -> Mapping[str, Sequence[float]]:
    """Curves of the training from before its first step, and depth weights."""
    return found.history.curves | found.drawn
