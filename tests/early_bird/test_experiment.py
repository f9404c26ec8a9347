"""What trains one arm, called without a notebook: who pays for what, exact counts, equal models, and going on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from effi import axes, masks
from effi.cost import PACE, Ledger
from effi.data import Examples, Opened, load_text
from effi.early_bird import (
    Experiment,
    Found,
    Model,
    Removal,
    Settings,
    Ticket,
    build,
    distance_ratios,
    draw,
    narrow,
    removal,
)
from effi.records.source import closure
from effi.training import Training, fit
from effi.training import checkpoint as checkpoints
from tests.training.conftest import data as data
from tests.training.conftest import one_thread as one_thread

SMALL = {"patch": 4, "width": 8, "depth": 2, "heads": 2, "hidden": 12, "dropout": 0.0}
TRAINING = Training(epochs=4, batch_size=16, lr=1e-2, schedule="cosine")
TEXT = {"width": 8, "depth": 1, "heads": 2, "hidden": 16, "dropout": 0.0}
GROUP = Settings("noise/vit", {}, Model("vit", SMALL), TRAINING, 1, 0.5, (0.1, 0.3))


@dataclass
class Files:
    """What arms share, kept in memory; counts how often it was made here."""

    make: Any
    kept: dict[str, Any] = field(default_factory=dict)
    made: int = 0

    def get(self, settings: Any, seed: int) -> Any:
        key = f"{settings} {seed}"
        if key not in self.kept:
            self.kept[key], self.made = self.make(settings, seed), self.made + 1
        return self.kept[key]

    def keep(self, settings: Any, seed: int, found: Any) -> None:
        self.kept[f"{settings} {seed}"] = found


@dataclass
class FakeArm:
    """Keeps what is recorded."""

    settings: Any
    variant: str = "other"
    seed: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    checkpoint: Path | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)
    marks: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.seed,)

    @property
    def dry_run(self) -> bool:
        return self.ledger.dry_run

    def record(
        self,
        metrics: dict[str, float],
        history: dict[str, list[float]] | None = None,
        marks: dict[str, torch.Tensor] | None = None,
    ) -> None:
        self.metrics, self.history, self.marks = metrics, history or {}, marks or {}

    @property
    def learnt(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """All that is the same bits twice."""
        timed = ("seconds", "tracking_share")
        return tuple({k: v for k, v in each.items() if k not in timed} for each in (self.metrics, self.history))


def shared(data: Any, name: str = "noise/vit", dry_run: bool = False) -> Experiment:
    """An experiment on one group whose files are in memory."""
    experiment = Experiment({name: Opened(name, data, {})})
    experiment.share(SimpleNamespace(dry_run=dry_run, artefacts=Files))
    return experiment


@pytest.fixture
def experiment(data) -> Experiment:
    """One whose dense baseline is trained."""
    made = shared(data)
    made.train_dense(FakeArm(GROUP, "dense"))
    return made


def ticket(experiment: Experiment, wanted: Ticket, group: Settings = GROUP, **options: Any) -> FakeArm:
    """A ticket's arm, trained."""
    arm = FakeArm(replace(group, ticket=wanted), **options)
    experiment.train_ticket(arm)
    return arm


# --- dense ---------------------------------------------------------------------------------------------------


def test_the_baseline_is_the_training_that_nobody_watches(data) -> None:
    experiment, arm = shared(data), FakeArm(GROUP, "dense")
    experiment.train_dense(arm)
    model = build(GROUP.model, data, 0)
    (history,) = fit(model, data, TRAINING, seeds=[0], ledger=Ledger())
    assert arm.history["train_loss"] == history.curves["train_loss"]
    assert arm.history["learning_rate"] == [TRAINING.rate(3 * epoch, 12) for epoch in range(4)]
    assert arm.metrics["snapshots"] == 4 and arm.metrics["alive"] == 1.0
    # One bit a weight, rounded up to bytes, for five snapshots at two ratios.
    assert arm.metrics["tracking_bytes"] == 10 * -(-arm.metrics["prunable"] // 8)


def test_the_baseline_does_not_pay_for_being_watched_and_tickets_do(data) -> None:
    experiment, arm = shared(data), FakeArm(GROUP, "dense")
    experiment.train_dense(arm)
    total, facts = arm.ledger.total(), experiment.searched.get(GROUP, 0).facts
    trained, watched = total["phases"]["train"], total["aside"]["watch"]
    assert watched["seconds"] > 0 and total["seconds"] < trained["seconds"] + watched["seconds"] + 1
    assert total["seconds"] == pytest.approx(sum(phase["seconds"] for phase in total["phases"].values()))
    assert facts["seconds"] == trained["seconds"] + watched["seconds"] and facts["flops"] == trained["flops"]
    assert arm.metrics["tracking_share"] == pytest.approx(watched["seconds"] / facts["seconds"])


def test_only_the_baselines_search_is_shared(data) -> None:
    experiment = shared(data)
    for variant, schedule in (("constant", "constant"), ("dense", "cosine")):
        experiment.train_dense(FakeArm(replace(GROUP, training=replace(TRAINING, schedule=schedule)), variant))
    assert list(experiment.searched.kept) == [f"{GROUP} 0"]


def test_a_search_that_is_missing_is_made_again(experiment, data) -> None:
    kept, again = experiment.searched.get(GROUP, 0), shared(data)
    ticket(again, Ticket(0.3))
    made = again.searched.get(GROUP, 0)
    assert again.searched.made == 1 and experiment.searched.made == 0
    assert all(made.tensors[name].equal(value) for name, value in kept.tensors.items())
    assert {**made.facts, "seconds": 0, "tracking_share": 0} == {**kept.facts, "seconds": 0, "tracking_share": 0}


# --- tickets -------------------------------------------------------------------------------------------------


def test_a_ticket_pays_the_share_of_the_training_until_its_draw(experiment) -> None:
    facts = experiment.searched.get(GROUP, 0).facts
    for wanted, share in (
        (Ticket(0.3), facts["found_consecutive_0.3"] / 4),
        (Ticket(0.3, "late"), 1.0),
        (Ticket(0.3, "drawn", drawn=3), 0.75),
    ):
        search = ticket(experiment, wanted).ledger.total()["phases"]["search"]
        assert search["flops"] == round(share * facts["flops"]) > 0
        assert search["seconds"] == pytest.approx(share * facts["seconds"])
    for source in ("initial", "random"):
        assert "search" not in ticket(experiment, Ticket(0.3, source)).ledger.total()["phases"]


def test_a_gradient_mask_pays_for_its_batches(experiment, data) -> None:
    for source in ("snip", "gradient"):
        search = ticket(experiment, Ticket(0.3, source)).ledger.total()["phases"]["search"]
        assert search["flops"] == build(GROUP.model, data, 0).train_flops(len(data.train)) and search["seconds"] > 0


@pytest.mark.parametrize("source", ["early_bird", "initial", "late", "random", "snip", "layerwise"])
def test_masks_have_exact_counts_and_hold(experiment, source) -> None:
    arm = ticket(experiment, Ticket(0.3, source))
    assert arm.metrics["exact"] == 1
    if source != "layerwise":
        assert round((1 - arm.metrics["alive"]) * arm.metrics["prunable"]) == int(0.3 * arm.metrics["prunable"] + 1e-9)
    assert arm.metrics["file_bitmap"] < arm.metrics["file_dense"] < arm.metrics["file_dense+mask"]
    assert arm.metrics["epochs"] == TRAINING.epochs


def test_a_rule_that_never_draws_leaves_no_ticket_and_no_accuracy(data) -> None:
    strict = replace(GROUP, threshold=1e-9)
    experiment = shared(data)
    experiment.train_dense(FakeArm(strict, "dense"))
    facts = experiment.searched.get(strict, 0).facts
    for wanted in (Ticket(0.3), Ticket(0.3, "random"), Ticket(0.3, start="inherit")):
        arm = ticket(experiment, wanted, strict)
        assert arm.metrics == {"found": -1, "closest": facts["closest_0.3"]} and not arm.history
        assert arm.ledger.total()["flops"] == facts["flops"]
    assert "test_accuracy" in ticket(experiment, Ticket(0.3, "late"), strict).metrics


def test_tickets_start_with_the_weights_that_they_name(experiment, data, monkeypatch) -> None:
    begun: dict[str, torch.nn.Module] = {}

    def watched(model, *args, **options):
        begun[start] = {name: value.clone() for name, value in model.state_dict().items()}
        begun[f"{start} epoch"] = options["first_epoch"]
        return fit(model, *args, **options)

    monkeypatch.setattr("effi.early_bird.experiment.fit", watched)
    arms = {}
    for start in ("original", "inherit", "reinit", "continue"):
        arms[start] = ticket(experiment, Ticket(0.3, start=start))
    fresh = {seed: build(GROUP.model, data, seed).state_dict() for seed in (0, 1000)}
    kept = experiment.searched.get(GROUP, 0)
    inherited = Found(kept.tensors, masks.prunable(build(GROUP.model, data, 0))).state(0.3)
    wanted = {"original": fresh[0], "reinit": fresh[1000], "inherit": inherited, "continue": inherited}
    for start, state in wanted.items():
        assert all(begun[start][name].equal(value) for name, value in state.items()), start
    drawn = int(kept.facts["found_consecutive_0.3"])
    assert [begun[f"{start} epoch"] for start in wanted] == [0, 0, 0, drawn]
    assert arms["continue"].metrics["epochs"] == TRAINING.epochs - drawn
    assert arms["inherit"].metrics["epochs"] == TRAINING.epochs


# --- controls and removal ------------------------------------------------------------------------------------


def test_the_long_control_gets_the_epochs_of_the_later_ticket(experiment, data) -> None:
    facts = experiment.searched.get(GROUP, 0).facts
    arm, plain = FakeArm(replace(GROUP, as_long_as=(0.1, 0.3))), FakeArm(GROUP)
    for each in (arm, plain):
        experiment.train_control(each)
    later = max(facts["found_consecutive_0.1"], facts["found_consecutive_0.3"])
    assert arm.metrics["epochs"] == 4 + later and plain.metrics["epochs"] == 4
    never = replace(GROUP, threshold=1e-9, as_long_as=(0.1,))
    undrawn = FakeArm(never)
    shared(data).train_control(undrawn)
    assert undrawn.metrics["epochs"] == 8


def removed(experiment: Experiment, random: bool, **options: Any) -> FakeArm:
    arm = FakeArm(replace(GROUP, removal=Removal(1.0, TRAINING, random)), **options)
    experiment.train_structured(arm)
    return arm


def test_structured_tickets_are_smaller_and_equal_the_masked_model(experiment, data) -> None:
    learnt, drawn = removed(experiment, False), removed(experiment, True)
    whole = build(GROUP.model, data, 0)
    for arm in (learnt, drawn):
        assert arm.metrics["exact"] == 1 and arm.metrics["layers"] == SMALL["depth"]
        assert arm.metrics["parameters"] < sum(p.numel() for p in whole.parameters())
        assert arm.metrics["alive"] < 1
        # A third of two heads is none by the strict quantile; one is left of each layer.
        assert sum(arm.history["heads_kept"]) == SMALL["depth"]
    assert learnt.metrics["parameters"] == drawn.metrics["parameters"]
    assert learnt.history["train_loss"] != drawn.history["train_loss"]
    assert learnt.ledger.total()["phases"]["search"]["flops"] > 0
    assert "search" not in drawn.ledger.total()["phases"]


def test_random_units_are_as_many_as_learnt_ones_and_each_seed_has_its_own(data) -> None:
    whole = build(Model("vit", {**SMALL, "width": 12, "heads": 6, "hidden": 20}), data, 0)
    counts = axes.units(whole)
    learnt = draw({axis: torch.linspace(0.5, 1.5, count) for axis, count in counts.items()})
    drawn, other = (removal.random_units(whole, seed) for seed in (0, 1))
    # Heads by layer, neurons of all layers together: 2/3 of 6, and 60 % of 40.
    assert all(len(drawn[axis]) == len(learnt[axis]) == 4 for axis in counts if axis.endswith("heads"))
    assert sum(len(kept) for axis, kept in drawn.items() if axis.endswith("neurons")) == 24
    assert all(set(kept) <= set(range(counts[axis])) for axis, kept in drawn.items())
    assert drawn == removal.random_units(whole, 0) != other


def test_units_that_are_not_removed_are_noticed(data) -> None:
    whole = build(GROUP.model, data, 0)
    keep = {axis: [0] for axis in axes.units(whole)}
    assert removal.slim_equals_masked(whole, keep, data)
    broken = build(GROUP.model, data, 0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("effi.early_bird.removal.axes.mask_units", lambda model, keep: {})
        assert not removal.slim_equals_masked(broken, keep, data)


def test_a_narrow_model_has_the_live_weights_of_a_ticket(data) -> None:
    options = {**SMALL, "width": 64, "heads": 4, "depth": 3, "hidden": 128}

    def prunable(options):
        return sum(w.numel() for w in masks.prunable(build(Model("vit", options), data, 0)).values())

    whole = prunable(options)
    for ratio in (0.1, 0.3, 0.5, 0.7, 0.9):
        small = narrow(options, ratio)
        alive = whole - masks.pruned_count(ratio, whole)
        assert prunable(small) == pytest.approx(alive, rel=1e-3), ratio
        assert small["width"] % 4 == 0 and small["patch"] == SMALL["patch"]
        assert 1 / 2 <= small["hidden"] / small["width"] / 2 <= 2


def test_a_dry_run_of_a_structured_ticket_takes_as_many_units_as_the_search_would(
    experiment, data, monkeypatch
) -> None:
    group, flops = replace(GROUP, removal=Removal(1.0, TRAINING)), []
    trained = FakeArm(group, "structured")
    experiment.train_structured(trained)
    for pace in ("", "1e9"):
        if pace:
            monkeypatch.setenv(PACE, pace)
        arm = FakeArm(group, "structured", ledger=Ledger(dry_run=True))
        shared(data, dry_run=True).train_structured(arm)
        flops.append(arm.ledger.forecast()["flops"])
    assert flops[0] == flops[1]
    phases = trained.ledger.total()["phases"]
    paid = sum(account["flops"] for name, account in phases.items() if name != "evaluate")
    # A plan has no smaller last batch, and other units are kept; coefficients of a first step would keep far fewer.
    assert flops[0] * 40 / (3 * 16) == pytest.approx(paid, rel=0.1)


def test_every_seed_is_trained_on_its_own_draw_and_tested_on_the_same(data) -> None:
    seen: list[int] = []

    class Drawn(Opened):
        def of(self, *seeds: int) -> Any:
            seen.extend(seeds)
            rolled = Examples(data.train.inputs.roll(seeds[0], 0), data.train.labels.roll(seeds[0], 0))
            return replace(data, train=rolled)

    experiment = Experiment({"noise/vit": Drawn("noise", data, {"anew": True})})
    experiment.share(SimpleNamespace(dry_run=False, artefacts=Files))
    for train, settings in (
        (experiment.train_dense, GROUP),
        (experiment.train_control, GROUP),
        (experiment.train_ticket, replace(GROUP, ticket=Ticket(0.3, "snip"))),
        (experiment.train_structured, replace(GROUP, removal=Removal(1.0, TRAINING))),
    ):
        seen.clear()
        train(FakeArm(settings, "dense", seed=5))
        assert set(seen) == {5}, train


def test_hits_of_every_test_example_are_recorded(experiment, data) -> None:
    arm = ticket(experiment, Ticket(0.3))
    assert arm.marks["test_accuracy"].float().mean().item() == pytest.approx(arm.metrics["test_accuracy"])
    assert len(arm.marks["best_test_accuracy"]) == len(data.test)


# --- language ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grammar():
    return load_text("grammar", train=60, validation=20, test=20, length=16, vocabulary=300, corpus=2000)


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_language_models_start_from_the_weights_that_were_pretrained(grammar, kind) -> None:
    first = Training(epochs=1, batch_size=32, optimizer="adamw", lr=5e-3)
    settings = replace(GROUP, group="grammar", model=Model(kind, TEXT, length=16, pretraining=first))
    experiment = shared(grammar, "grammar")
    arm = FakeArm(settings.pretraining)
    experiment.train_pretraining(arm)
    kept = experiment.pretrained.get(settings.pretraining, 0)
    assert arm.metrics["validation_loss"] == kept.facts["loss"] == arm.history["validation_loss"][-1]
    one, other = (experiment.build(settings, seed) for seed in (0, 1))
    backbone = {name: value for name, value in one.net.base_model.state_dict().items() if name in kept.tensors}
    assert backbone and all(kept.tensors[name].equal(value) for name, value in backbone.items())
    heads = [next(p for name, p in model.named_parameters() if name not in backbone) for model in (one, other)]
    assert experiment.pretrained.made == 0 and heads[0].shape == heads[1].shape


def test_masks_of_the_worst_language_model_are_compared_with_the_vits() -> None:
    def record(model, low, high):
        return {"model": model, "metrics": {"epoch_distance_0.1": low, "epoch_distance_0.3": high, "other": 1.0}}

    records = [record("vit", 0.5, 0.5), record("swin", 9, 9), record("gpt2", 0.1, 0.2), record("roberta", 0.2, 0.1)]
    records += [record("minilm-fast", 9, 9)]  # at another rate
    assert distance_ratios(records) == {"distance_ratio_0.1": 0.4, "distance_ratio_0.3": 0.4}


# --- sources, plans and interruptions ---------------------------------------------------------------------------------


def test_what_makes_an_arm_stale_holds_the_search_and_no_records() -> None:
    read = closure(["effi.early_bird.experiment"])
    assert {"effi.early_bird.search", "effi.masks.select", "effi.models.swin", "effi.training.loop"} <= set(read)
    others = ("effi.records", "effi.claims", "effi.report", "effi.spec", "effi.early_bird.parameters")
    assert not [name for name in read if name.startswith(others)]


def test_a_dry_run_measures_every_kind_of_arm_and_records_nothing(data) -> None:
    experiment = shared(data, dry_run=True)
    kinds = {
        "train_dense": GROUP,
        "train_control": replace(GROUP, as_long_as=(0.3,)),
        "train_ticket": replace(GROUP, ticket=Ticket(0.3)),
        "train_structured": replace(GROUP, removal=Removal(1.0, TRAINING)),
    }
    for name, settings in kinds.items():
        arm = FakeArm(settings, "dense", ledger=Ledger(dry_run=True))
        getattr(experiment, name)(arm)
        assert not arm.metrics and not experiment.searched.kept, name
        assert arm.ledger.forecast()["steps"] == 12, name


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", [1, 5, 9])
@pytest.mark.parametrize(
    ("train", "settings"),
    [
        ("train_dense", GROUP),
        ("train_ticket", replace(GROUP, ticket=Ticket(0.3, "random"))),
        ("train_structured", replace(GROUP, removal=Removal(1.0, TRAINING))),
    ],
)
def test_an_arm_that_is_cut_off_goes_on_to_the_same_record(
    experiment, tmp_path, monkeypatch, train, settings, after
) -> None:
    undisturbed = FakeArm(settings)
    getattr(experiment, train)(undisturbed)
    monkeypatch.setattr(checkpoints.Checkpoint, "due", lambda self: True)
    saves, save = [], checkpoints.Checkpoint.save

    def saved_until(self, kept):
        save(self, kept)
        saves.append(self.file)
        if len(saves) == after:
            raise Stopped

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(checkpoints.Checkpoint, "save", saved_until)
        getattr(experiment, train)(FakeArm(settings, checkpoint=tmp_path / "arm"))
    resumed = FakeArm(settings, checkpoint=tmp_path / "arm")
    getattr(experiment, train)(resumed)
    assert resumed.learnt == undisturbed.learnt
    assert resumed.ledger.total()["flops"] == undisturbed.ledger.total()["flops"]
