"""What is recorded is what happened: losses of the last weights, FLOPs step by step, and how masks moved."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from effi.data import causal
from effi.masks import sparsity
from effi.mixed_sparsity.course import head_of
from effi.mixed_sparsity.flops import Accounting
from effi.mixed_sparsity.hybrid import HybridAttention
from effi.mixed_sparsity.outcome import curves, flops, losses, outcome, topology, zero_shot
from effi.mixed_sparsity.positions import Pattern
from effi.mixed_sparsity.recipes import OBJECTIVE, PHASES, Dense, Task, mst, static
from effi.mixed_sparsity.settings import Model
from effi.models.language import TextSize
from effi.training import evaluate
from tests.mixed_sparsity.toy import BATCH, MODEL, ROWS, SIZE, STEPS, TOKENS, TRAINING, task, text
from tests.training.conftest import one_thread as one_thread

WINDOW = Pattern("local", 4)
EVERY = 3
METHOD = mst(EVERY, WINDOW, replace(PHASES, warmup=0.3, restoration=0.3, settle=0.4))
UNTIED = Model(SIZE, tied=False, head="dense")
WORDS = {"sparse": "", "dense": "/dense_head", "left out": "/no_head"}


def watched(recipe, model=MODEL):
    """A trained task, what is found, and of every step mask, attention and whether it made way for an update."""
    one, seen, fit = task(model=model), [], Task.fit

    def before(step) -> None:
        seen.append([dict(step.mask), step.model.attention])

    def after(step) -> None:
        seen[-1].append(step.skipped)

    def fitted(self, **how):
        early, late = [before, *how["before_step"]], [after, *how["after_step"]]
        return fit(self, **how | {"before_step": early, "after_step": late})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "fit", fitted)
        return one, recipe(one), seen


@cache
def tied():
    return watched(METHOD)


@cache
def untied():
    """The head stays dense, apart from the embedding."""
    return watched(METHOD, UNTIED)


# --- losses --------------------------------------------------------------------------------------------------


def test_losses_are_those_of_the_last_weights_with_dense_attention():
    one = task()
    found = replace(METHOD, within=("warm-up", "ultra", "restoration"))(one)
    state = {name: value.clone() for name, value in one.model.state_dict().items()}
    found.history.best_state = {name: torch.zeros_like(value) for name, value in state.items()}
    metrics = outcome(one, found).metrics
    assert all(torch.equal(value, state[name]) for name, value in one.model.state_dict().items())
    assert one.model.attention == HybridAttention(WINDOW), "the model keeps what it has"
    for split in ("validation", "test"):
        scores = []
        for one.model.attention in (HybridAttention(WINDOW), None):
            scores.append(evaluate(one.model, one.data.splits[split], one.data, OBJECTIVE))
        sparse, dense = scores
        assert metrics[f"current_{split}_loss"] == sparse["loss"] != dense["loss"] == metrics[f"{split}_loss"]
        assert metrics[f"{split}_perplexity"] == pytest.approx(math.exp(dense["loss"]))
        assert metrics[f"{split}_accuracy"] == dense["accuracy"]
    assert metrics["current_validation_loss"] == pytest.approx(found.history.curves["validation_loss"][-1])
    assert metrics["train_loss"] == found.history.curves["train_loss"][-1]


def test_where_attention_ends_dense_there_is_one_loss():
    one, found, _ = tied()
    metrics = losses(one)
    assert not any(name.startswith("current") for name in metrics)
    assert metrics["validation_loss"] == pytest.approx(found.history.curves["validation_loss"][-1])


def test_bits_per_byte_are_the_bits_of_all_tokens_over_the_bytes_of_their_text():
    """Token k is k letters of two bytes each; those of 0, a special token, are none."""
    known, mute = (
        SimpleNamespace(text=each) for each in (lambda ids: "".join("é" * each for each in ids), lambda _: "")
    )
    one = task(data=text(known))
    metrics, labels = losses(one), one.data.test.labels
    bits = metrics["test_loss"] * labels.numel() / math.log(2)
    assert metrics["test_bits_per_byte"] == pytest.approx(bits / (2 * int(labels.sum())))
    for tokenizer in (None, mute):
        assert not any("bits" in name for name in losses(task(data=text(tokenizer))))


def test_other_corpora_are_predicted_with_dense_attention():
    """Against the mean of minus log probabilities, token by token; texts are of letters with two bytes."""
    tokenizer = SimpleNamespace(text=lambda ids: "é" * len(list(ids)))
    parts = {"reversed": text().test.inputs.flip(1), "noise": torch.randint(0, 32, (7, TOKENS + 1)).int()}
    others = {name: causal(rows) for name, rows in parts.items()}
    one = task(data=text(tokenizer), others=others)
    replace(METHOD, within=("warm-up", "ultra", "restoration"))(one)
    metrics = zero_shot(one)
    assert one.model.attention == HybridAttention(WINDOW), "the model keeps what it has"
    assert metrics.keys() == {
        f"{score}/{name}" for score in ("zero_shot_loss", "ppl", "bits_per_byte") for name in others
    }
    one.model.attention = None
    for name, examples in others.items():
        probabilities = one.model(examples.inputs.long()).softmax(-1)
        loss = -probabilities.gather(-1, examples.labels[..., None]).log().double().mean().item()
        assert metrics[f"zero_shot_loss/{name}"] == pytest.approx(loss, rel=1e-5)
        assert metrics[f"ppl/{name}"] == pytest.approx(math.exp(loss), rel=1e-5)
        assert metrics[f"bits_per_byte/{name}"] == pytest.approx(loss / math.log(2) / 2, rel=1e-5)
        assert loss > losses(one)["test_loss"], "what it was trained on it knows better"
    assert zero_shot(task()) == {}


# --- FLOPs ---------------------------------------------------------------------------------------------------


def by_step(one, seen, convention: str, head: str) -> list[float]:
    """FLOPs per token of each step: three products of kept weights and of pairs, and one of the rest at an update."""
    size, own, found = one.size, head_of(one.model), []
    for mask, attention, updated in seen:
        sizes = {name: each.numel() for name, each in mask.items()} | {own: size.head_weights}
        kept = sizes | {name: int(each.count_nonzero()) for name, each in mask.items()}
        if head != "sparse":
            kept[own] = sizes[own] = size.head_weights if head == "dense" else 0
        again = sum(sizes.values()) - sum(kept.values()) if updated else 0
        pairs = TOKENS**2 / (1 if convention == "square" else 2)
        pairs = pairs if attention is None else int(attention.pattern.dense(TOKENS).sum())
        mixing = 2 * 2 * size.width * pairs * size.depth / TOKENS
        found.append(3 * (2 * sum(kept.values()) + mixing) + 2 * again)
    return found


def dense_flops(one, convention="square", head="sparse") -> float:
    return STEPS * sum(Accounting(one.size, convention, head).flops().values())


@pytest.mark.parametrize("made", [tied, untied])
@pytest.mark.parametrize("convention", ["square", "causal"])
@pytest.mark.parametrize("head", WORDS)
def test_flop_ratios_are_those_of_the_masks_that_there_were(made, convention, head):
    one, found, seen = made()
    expected = sum(by_step(one, seen, convention, head)) / dense_flops(one, convention, head)
    assert flops(one, found)[f"flops_ratio/{convention}{WORDS[head]}"] == pytest.approx(expected, rel=1e-9)
    assert len(seen) == STEPS and sum(updated for *_, updated in seen) == len(found.told["step"]) - 1 > 5


def test_parts_of_phases_sum_to_the_ratio():
    one, found, seen = tied()
    metrics = flops(one, found)
    for convention in ("square", "causal"):
        parts = {name: value for name, value in metrics.items() if name.startswith(f"ledger/{convention}/")}
        assert len(parts) == 3 * 4 and sum(parts.values()) == pytest.approx(metrics[f"flops_ratio/{convention}"])
    ultra = sum(value for name, value in metrics.items() if name.startswith("ledger/square/ultra/"))
    # Of 40 steps the first and the last 12 are ramps.
    assert ultra == pytest.approx(sum(by_step(one, seen, "square", "sparse")[12:28]) / dense_flops(one))
    assert metrics["ledger/square/ultra/dense_gradients"] > 0


def test_ratios_are_of_the_whole_training_of_the_reference():
    quarter = task()
    metrics = flops(quarter, Dense(0.25)(quarter))
    assert metrics["flops_ratio/square"] == metrics["flops_ratio/causal/no_head"] == pytest.approx(0.25)
    assert metrics["tokens"] == STEPS / 4 * BATCH * TOKENS
    assert sum(value for name, value in metrics.items() if "ledger/causal/dense/" in name) == pytest.approx(0.25)
    small = task(replace(TRAINING, steps=8), Model(TextSize(8, 2, 2, 16)), reference=quarter.size)
    own, whole = (sum(Accounting(size).flops().values()) for size in (small.size, quarter.size))
    assert flops(small, Dense()(small))["flops_ratio/square"] == pytest.approx(own / whole)


# --- masks, curves and sizes ---------------------------------------------------------------------------------


def test_sparsities_and_churn_are_those_of_the_masks():
    one, found, seen = tied()
    metrics, held = topology(one, found), [mask for mask, *_ in seen]
    assert metrics["mean_sparsity"] == pytest.approx(np.mean([sparsity(mask) for mask in held]))
    assert metrics["final_sparsity"] == sparsity(found.mask) == 0 and metrics["ever_active"] == 1
    moved = []
    for (before, _, updated), (after, *_) in zip(seen, [*seen[1:], (found.mask,)], strict=True):
        if updated:
            new = sum(int((kept & ~before[name]).sum()) for name, kept in after.items())
            moved.append(new / sum(int(kept.sum()) for kept in after.values()))
    assert metrics["churn"] == pytest.approx(np.mean(moved)) and metrics["updates"] == len(moved)


def test_survival_is_of_connections_that_the_ultra_phase_made_and_left():
    one, found, _ = tied()
    told, ends = found.told, (0.3 * STEPS, 0.7 * STEPS)
    for origin in ("random", "gradient"):
        born = left = 0
        for row, (before, after) in enumerate(pairwise(told["step"])):
            if ends[0] <= before and after < ends[1]:
                born, left = born + told[f"activated/{origin}"][row], left + told[f"outlived/{origin}"][row + 1]
        assert topology(one, found)[f"survival/{origin}"] == left / born
        assert 0 < left < sum(told[f"outlived/{origin}"])
    assert topology(one, found)["survival/random"] < topology(one, found)["survival/gradient"]


def test_weights_kept_in_vain_are_told():
    one, found, _ = tied()
    settled = topology(one, found)["kept_zero"]
    hasty, every = task(), replace(METHOD.evolution, every=4)
    found = replace(METHOD, phases=replace(METHOD.phases, settle=0.0), evolution=every)(hasty)
    # The update after step 40 revives what the one after step 36 left.
    assert topology(hasty, found)["kept_zero"] == pytest.approx(0.8 * (1 - (2 / 3) ** 3), abs=0.01) and settled < 0.1


def test_a_mask_that_never_moves_has_no_churn_and_a_dense_training_no_mask():
    one = task(replace(TRAINING, steps=8))
    found = topology(one, static(0.7)(one))
    assert found.keys() == {"final_sparsity", "mean_sparsity", "updates", "ever_active", "kept_zero"}
    assert found["updates"] == 0 and found["mean_sparsity"] == found["final_sparsity"] == 1 - found["ever_active"]
    one = task(replace(TRAINING, steps=8))
    assert topology(one, Dense()(one)) == {"final_sparsity": 0.0, "mean_sparsity": 0.0, "updates": 0}


def test_curves_tell_tokens_and_flops_so_far():
    one, found, seen = tied()
    told, metrics = curves(one, found), flops(one, found)
    assert told["step"] == [10, 20, 30, 40] and told["tokens"] == [step * BATCH * TOKENS for step in told["step"]]
    for convention in ("square", "causal"):
        each = by_step(one, seen, convention, "sparse")
        expected = [sum(each[:step]) / dense_flops(one, convention) for step in told["step"]]
        assert told[f"flops_ratio/{convention}"] == pytest.approx(expected)
        assert expected[-1] == pytest.approx(metrics[f"flops_ratio/{convention}"])


def test_a_smaller_last_batch_of_an_epoch_has_fewer_tokens():
    """Of 160 rows in batches of 50 the fourth has 10."""
    one = task(replace(TRAINING, steps=6, batch_size=50, eval_every="1 step"))
    assert curves(one, Dense()(one))["tokens"] == [rows * TOKENS for rows in (50, 100, 150, ROWS, 210, 260)]


def test_sparsities_of_a_kind_of_layer_are_those_of_all_its_layers_together():
    one, found, seen = tied()
    told = curves(one, found)
    kinds = {"embedding", "attention.qkv", "attention.out", "mlp.0", "mlp.2"}
    assert {name.removeprefix("mask/sparsity/") for name in told if name.startswith("mask/sparsity/")} == kinds
    for row, step in enumerate(told["mask/step"][:-1]):
        mask = seen[int(step)][0]
        assert told["mask/sparsity"][row] == pytest.approx(sparsity(mask))
        for kind in kinds:
            own = {name: kept for name, kept in mask.items() if kind in name}
            assert told[f"mask/sparsity/{kind}"][row] == pytest.approx(sparsity(own)), (step, kind)
    assert {len(values) for name, values in told.items() if name.startswith("mask/")} == {len(told["mask/step"])}


def test_sizes_count_what_may_be_pruned():
    sizes = [outcome(one, found).metrics for one, found, _ in (tied(), untied())]
    blocks = 2 * (4 * 16**2 + 2 * 16 * 32)
    assert [each["prunable"] for each in sizes] == [blocks + 32 * 16, blocks]
    assert [each["alive"] for each in sizes] == [1, 1] and sizes[1]["parameters"] - sizes[0]["parameters"] == 32 * 16
