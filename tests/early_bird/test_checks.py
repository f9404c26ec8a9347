"""Bytes, seconds and shares of work that need no training: closed forms against what a training measures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from effi import masks
from effi.cost import Ledger
from effi.data import Opened
from effi.early_bird import Model, Removal, Settings, Ticket, build, narrow
from effi.early_bird import timing as clock
from effi.early_bird.memory import bytes_of_tickets, training_bytes
from effi.early_bird.speedup import prunable_share, prunable_shares
from effi.early_bird.timing import bill, of_groups, time_ratios
from effi.models.vision import cifar_vit
from effi.training import Training, fit
from tests.training.conftest import data as data
from tests.training.conftest import one_thread as one_thread

SMALL = {"patch": 4, "width": 8, "depth": 2, "heads": 2, "hidden": 12, "dropout": 0.0}
TRAINING = Training(epochs=4, batch_size=16, lr=1e-2, schedule="cosine")
GROUP = Settings("noise/vit", {}, Model("vit", SMALL), TRAINING, 1, 0.5, (0.1, 0.3))
FACTS = {"found_consecutive_0.3": 2.0, "found_consecutive_0.1": 1.0, "snapshots": 4.0, "per_epoch": 1.0}
THIN = replace(GROUP, model=replace(GROUP.model, options=narrow(SMALL, 0.3)))


# --- bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_bytes_by_arithmetic_are_those_that_a_training_holds(data, masked: bool) -> None:
    model = build(GROUP.model, data, 0)
    mask = masks.magnitude(masks.prunable(model), 0.3) if masked else None
    (history,) = fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), mask=mask)
    assert training_bytes(model, masked=masked) == history.held_bytes


def test_the_vit_of_the_paper_holds_more_under_a_mask_and_less_after_removal() -> None:
    held = bytes_of_tickets((0.1, 0.3))
    tensors = len(list(cifar_vit().parameters()))
    assert held["training_bytes/dense"] == 16 * 9_523_722 + 4 * tensors
    for ratio in ("0.1", "0.3"):
        assert held[f"training_bytes/eb-{ratio}"] - held["training_bytes/dense"] == 2 * 9_437_184
    # Of 8 heads of width 64 three go in each of 6 layers: rows of query, key and value, columns of the output. Of 3072
    # neurons everywhere the 1229 at or below the quantile 0.4, each with two weights of 512 and a bias.
    gone = 6 * 3 * 64 * 4 * 512 + 1229 * (2 * 512 + 1)
    assert held["training_bytes/structured"] == held["training_bytes/dense"] - 16 * gone


# --- seconds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        ("dense", GROUP, {"dense": 40}),
        ("double", replace(GROUP, training=replace(TRAINING, epochs=8)), {"dense": 80}),
        ("long", replace(GROUP, as_long_as=(0.1, 0.3)), {"dense": 60}),
        ("small-0.3", THIN, {"small-0.3": 40}),
        ("eb-0.3", replace(GROUP, ticket=Ticket(0.3)), {"dense": 20, "look": 2, "masked": 40}),
        ("initial-0.3", replace(GROUP, ticket=Ticket(0.3, "initial")), {"masked": 40}),
        ("late-0.3", replace(GROUP, ticket=Ticket(0.3, "late")), {"dense": 40, "look": 4, "masked": 40}),
        ("snip-0.3", replace(GROUP, ticket=Ticket(0.3, "snip")), {"scores": 1, "masked": 40}),
        ("continue-0.3", replace(GROUP, ticket=Ticket(0.3, start="continue")), {"dense": 20, "look": 2, "masked": 20}),
        ("structured", replace(GROUP, removal=Removal(1.0, TRAINING)), {"gates": 10, "removed": 40}),
        ("short", replace(GROUP, removal=Removal(0.2, replace(TRAINING, epochs=2))), {"gates": 2, "removed": 20}),
        ("structured-random", replace(GROUP, removal=Removal(1.0, TRAINING, random=True)), {"removed": 40}),
    ],
)
def test_an_arm_is_billed_for_the_steps_that_it_takes(name: str, settings: Settings, wanted: dict[str, float]) -> None:
    assert bill(GROUP, name, settings, 10, FACTS) == wanted


def test_a_ticket_that_is_never_drawn_has_no_bill_but_its_controls_have() -> None:
    never = {**FACTS, "found_consecutive_0.3": -1.0}
    assert bill(GROUP, "eb-0.3", replace(GROUP, ticket=Ticket(0.3)), 10, never) is None
    assert bill(GROUP, "late-0.3", replace(GROUP, ticket=Ticket(0.3, "late")), 10, never) is not None
    assert bill(GROUP, "long", replace(GROUP, as_long_as=(0.1,)), 10, {**FACTS, "found_consecutive_0.1": -1.0}) == {
        "dense": 80
    }


def arms() -> dict[str, Settings]:
    return {
        "noise/vit/dense": GROUP,
        "noise/vit/eb-0.3": replace(GROUP, ticket=Ticket(0.3)),
        "noise/vit/snip-0.3": replace(GROUP, ticket=Ticket(0.3, "snip")),
        "noise/vit/small-0.3": THIN,
        "noise/vit/structured": replace(GROUP, removal=Removal(1.0, TRAINING)),
    }


def test_ratios_are_medians_over_rounds_times_steps(data, monkeypatch) -> None:
    seconds = {"dense": [1.0, 2.0, 1.0], "masked": [1.5, 3.0, 9.0], "look": [3.0, 6.0, 3.0], "removed": [0.5, 1.0, 0.5]}
    seconds |= {"gates": [2.0, 4.0, 2.0], "scores": [6.0, 12.0, 6.0], "small-0.3": [0.8, 1.6, 0.8]}
    asked: list[set[str]] = []

    def measured(steps: dict[str, Any], **options: Any) -> dict[str, list[float]]:
        asked.append(set(steps))
        return {kind: seconds[kind] for kind in steps}

    monkeypatch.setattr(clock, "measure", measured)
    found = time_ratios(GROUP, arms(), data, FACTS, seed=0, budget_s=1)
    assert asked == [set(seconds)]
    # 48 examples in batches of 16 are 3 steps an epoch, 12 in all; the ticket is drawn after 2 epochs.
    wanted = {"dense": 1.0, "eb-0.3": (6 + 2 * 3 + 12 * 1.5) / 12, "snip-0.3": (6 + 12 * 1.5) / 12}
    wanted |= {"small-0.3": 0.8, "structured": (3 * 2 + 12 * 0.5) / 12}
    assert found == {
        **{f"time_ratio/noise/vit/{name}": pytest.approx(ratio) for name, ratio in wanted.items()},
        **{f"step_seconds/noise/vit/{kind}": sorted(own)[1] for kind, own in seconds.items()},
    }


def test_every_kind_of_step_runs_and_a_masked_one_keeps_the_mask(data, monkeypatch) -> None:
    held: list[torch.nn.Module] = []

    def watched(model: torch.nn.Module, *rest: Any) -> Any:
        held.extend([model] if len(rest) == 3 else [])
        return step(model, *rest)

    step = clock._step
    monkeypatch.setattr(clock, "_step", watched)
    found = time_ratios(GROUP, arms(), data, FACTS, seed=0, budget_s=0)
    assert found["time_ratio/noise/vit/dense"] == 1 and min(found.values()) > 0
    zeros = sum(int((weight == 0).sum()) for weight in masks.prunable(held[0]).values())
    assert zeros == int(0.3 * sum(weight.numel() for weight in masks.prunable(held[0]).values()))


def test_groups_without_a_dense_record_of_the_seed_are_passed_over(data) -> None:
    other = replace(GROUP, group="noise/swin")
    records = [
        {"variant": "dense", "seed": seed, "dataset": "noise", "model": "vit", "metrics": FACTS} for seed in (1, 2)
    ]
    opened = {name: Opened("noise", data, {}) for name in ("noise/vit", "noise/swin")}
    groups, members = {"noise/swin": other, "noise/vit": GROUP}, {"noise/vit/dense": GROUP, "noise/swin/dense": other}
    found = of_groups(groups, members, opened, records, seed=1, budget_s=0)
    assert set(found) == {"time_ratio/noise/vit/dense", "step_seconds/noise/vit/dense"}
    assert of_groups(groups, members, opened, records, seed=0, budget_s=0) == {}


# --- shares of work ------------------------------------------------------------------------------------------


def test_the_prunable_share_of_the_work_is_that_of_the_closed_form() -> None:
    # 65 tokens of width 512 in 6 layers: matrices, scores and mixing, then 64 patches of 48 numbers and 10 classes.
    matrices, attention = 2 * 65 * 9_437_184, 6 * 2 * 2 * 65**2 * 512
    rest = 2 * 64 * 48 * 512 + 2 * 512 * 10
    share = prunable_share(cifar_vit(), torch.zeros(1, 3, 32, 32))
    assert share == pytest.approx(matrices / (matrices + attention + rest))


def test_each_group_has_its_share(data) -> None:
    shares = prunable_shares({"noise/vit": GROUP}, {"noise/vit": Opened("noise", data, {})})
    x = data.prepare(data.train.inputs[:1])
    assert shares == {"noise/vit": prunable_share(build(GROUP.model, data, 0), x)}
