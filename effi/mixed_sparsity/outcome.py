"""What is recorded of an arm: losses of its last weights, FLOPs by phase and part, and how its connections moved."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch

from effi import masks
from effi.data import Examples
from effi.data.tokens import Tokenizer
from effi.mixed_sparsity import cold_start
from effi.mixed_sparsity.course import Told
from effi.mixed_sparsity.evolution import ORIGINS
from effi.mixed_sparsity.flops import CONVENTIONS, Accounting, Convention, Head
from effi.mixed_sparsity.recipes import OBJECTIVE, Task, Trained
from effi.models.gpt import GPT, Attention
from effi.training import Outcome, evaluate

# How a FLOP ratio that counts the head in a way is called: as its own mask says, dense whatever it is, or not at all.
HEADS: Mapping[Head, str] = {"sparse": "", "dense": "/dense_head", "left out": "/no_head"}
LAYER = re.compile(r"^blocks\.\d+\.|\.weight$")
SPARSITY = "sparsity/"


def outcome(task: Task, found: Trained) -> Outcome:
    """Metrics of an arm; no labels are marked as hit, as all tokens have one.

    `SPLIT_loss` and what follows of it are with dense attention, `current_SPLIT_loss` with that of the last step where
    it was sparse. `flops_ratio/...` and `ledger/CONVENTION/PHASE/PART` are shares of a dense training of the reference.
    """
    sizes = masks.sizes(task.model, found.mask) | {"training_bytes": found.history.held_bytes}
    parameters = dict(task.model.named_parameters())
    sizes["prunable"] = sum(parameters[name].numel() for name in task.names)
    trained = {"train_loss": found.history.curves["train_loss"][-1]}
    moved = topology(task, found) | cold_start.means(found.watched)
    return Outcome(trained | losses(task) | zero_shot(task) | flops(task, found) | moved | sizes, {})


# --- losses --------------------------------------------------------------------------------------------------


def losses(task: Task) -> dict[str, float]:
    """Loss, perplexity, accuracy and, where the tokenizer is known, bits per byte on validation and test windows."""
    found, current = dict[str, float](), task.model.attention
    for split in ("validation", "test"):
        examples = task.data.splits[split]
        with attending(task.model, None):
            scores = evaluate(task.model, examples, task.data, OBJECTIVE)
        scores |= _bits_per_byte(scores["loss"], examples, task.data.tokenizer)
        found |= {f"{split}_{name}": value for name, value in scores.items()}
        if current is not None:
            found[f"current_{split}_loss"] = evaluate(task.model, examples, task.data, OBJECTIVE)["loss"]
    return found


def zero_shot(task: Task) -> dict[str, float]:
    """Loss, perplexity per token of the own vocabulary, and bits per byte on each corpus that was not trained on.

    With dense attention. Vocabularies of two corpora cut a text differently: compare bits per byte between them.
    """
    found: dict[str, float] = {}
    with attending(task.model, None):
        for name, examples in task.others.items():
            scores = evaluate(task.model, examples, task.data, OBJECTIVE)
            own = {"zero_shot_loss": scores["loss"], "ppl": scores["perplexity"]}
            own |= _bits_per_byte(scores["loss"], examples, task.data.tokenizer)
            found |= {f"{score}/{name}": value for score, value in own.items()}
    return found


@contextmanager
def attending(model: GPT, attention: Attention | None) -> Iterator[None]:
    """A model with another attention, and afterwards with its own."""
    own, model.attention = model.attention, attention
    try:
        yield
    finally:
        model.attention = own


def _bits_per_byte(loss: float, examples: Examples, tokenizer: Tokenizer | None) -> dict[str, float]:
    """A loss in nats per token as bits per byte of the text that the tokens are; special tokens have no bytes."""
    size = 0 if tokenizer is None else len(tokenizer.text(examples.labels.flatten().tolist()).encode())
    return {"bits_per_byte": loss * examples.labels.numel() / (size * math.log(2))} if size else {}


# --- FLOPs ---------------------------------------------------------------------------------------------------


def flops(task: Task, found: Trained) -> dict[str, float]:
    """FLOP ratios of what really ran, by convention and what counts of the head, and their parts; tokens."""
    course, metrics = found.course, {"tokens": float(_tokens(task, found.course.steps))}
    for convention in CONVENTIONS:
        for head, word in HEADS.items():
            whole = _whole(task, convention, head)
            ledger = course.ledger(found.told, Accounting(course.size, convention, head))
            parts = {(stage, part): value / whole for stage, own in ledger.items() for part, value in own.items()}
            metrics[f"flops_ratio/{convention}{word}"] = sum(parts.values())
            if head == "sparse":
                named = {f"{stage}/{part.replace(' ', '_')}": value for (stage, part), value in parts.items()}
                metrics |= {f"ledger/{convention}/{name}": value for name, value in named.items()}
    return metrics


def _whole(task: Task, convention: Convention, head: Head = "sparse") -> float:
    """FLOPs of the dense training that a ratio is of, per token of a step."""
    return task.steps * sum(Accounting(task.reference, convention, head).flops().values())


def _tokens(task: Task, steps: float) -> int:
    """Tokens read in so many steps; the last batch of an epoch may be smaller."""
    count, training = len(task.data.train), task.training
    epochs, rest = divmod(int(steps), training.steps_of_epoch(count))
    return (epochs * count + min(count, rest * training.batch_size)) * task.size.tokens


# --- connections ---------------------------------------------------------------------------------------------


def topology(task: Task, found: Trained) -> dict[str, float]:
    """Sparsity at the end and on the way, and of a mask that moves its churn, ever-active share and survivals.

    `survival/ORIGIN` is of what updates of the ultra phase made active, and left by the next update there: a ramp drops
    many or next to none.

    `kept_zero` is the share of the weights under masks that the last one keeps and that are exactly zero: revived by
    an update after which nothing was trained, or of units that have no other weight left on either side.
    """
    told = found.told
    if not told:
        return {"final_sparsity": 0.0, "mean_sparsity": 0.0, "updates": 0}
    lengths = np.diff([*told["step"], found.course.steps])
    metrics = {
        "final_sparsity": masks.sparsity(found.mask),
        "mean_sparsity": float(np.dot(told["sparsity"], lengths)) / found.course.steps,
        "updates": len(lengths) - 1,
        "ever_active": told["ever"][-1],
        "kept_zero": _kept_zero(task, found),
    }
    metrics |= {"churn": float(np.mean(told["churn"][1:]))} if len(lengths) > 1 else {}
    return metrics | _survivals(found)


def _survivals(found: Trained) -> dict[str, float]:
    told, metrics = found.told, dict[str, float]()
    ultra = [found.course.stage(int(step) + 1) == "ultra" for step in told["step"]]
    pairs = [row for row, both in enumerate(pairwise(ultra), 1) if all(both)]
    for origin in ORIGINS:
        born = sum(told[f"activated/{origin}"][row - 1] for row in pairs)
        left = sum(told[f"outlived/{origin}"][row] for row in pairs)
        metrics |= {f"survival/{origin}": left / born} if born else {}
    return metrics


def _kept_zero(task: Task, found: Trained) -> float:
    zeros = [(kept & (task.model.get_parameter(name) == 0)).count_nonzero() for name, kept in found.mask.items()]
    return int(torch.stack(zeros).sum()) / sum(found.course.weights.values())


# --- curves --------------------------------------------------------------------------------------------------


def curves(task: Task, found: Trained) -> dict[str, Sequence[float]]:
    """Curves of the training with tokens and FLOP ratios so far, and as `mask/...` what is told of each mask.

    Losses on the way are with the attention of their phase. `mask/sparsity/LAYER` are of layers of one kind together.
    """
    steps = found.history.curves["step"]
    spent: dict[str, Sequence[float]] = {"tokens": [_tokens(task, step) for step in steps]}
    for convention in CONVENTIONS:
        after, flops = zip(*_spent(task, found, convention), strict=True)
        spent[f"flops_ratio/{convention}"] = np.interp(steps, (0, *after), (0.0, *flops)).tolist()
    own = {name: values for name, values in found.told.items() if not name.startswith(SPARSITY)}
    told = {f"mask/{name}": each for name, each in (own | by_layer(found)).items()}
    return found.history.curves | spent | told | found.watched


def _spent(task: Task, found: Trained, convention: Convention) -> Iterator[tuple[int, float]]:
    whole = _whole(task, convention)
    for steps, flops in found.course.cumulative(found.told, Accounting(found.course.size, convention)):
        yield steps, flops / whole


def by_layer(found: Trained) -> dict[str, list[float]]:
    """Sparsity of each mask by the kind of layer, such as "sparsity/attention.qkv"."""
    sizes, kinds = found.course.weights, dict[str, list[str]]()
    for name in sizes:
        kinds.setdefault(LAYER.sub("", name), []).append(name)
    return {f"{SPARSITY}{kind}": _mean(found.told, sizes, names) for kind, names in kinds.items()}


def _mean(told: Told, sizes: Mapping[str, int], names: Sequence[str]) -> list[float]:
    rows = zip(*(told[f"{SPARSITY}{name}"] for name in names), strict=True)
    weights = [sizes[name] for name in names]
    return [float(np.average(row, weights=weights)) for row in rows]
