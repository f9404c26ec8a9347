"""The training loop: its steps are those of a loop written by hand, its records those of the model."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from effi.cost import PACE, Ledger, train_flops
from effi.data import Dataset, augment, normalise
from effi.errors import ParameterError, TrainingError
from effi.models.vit import ViT
from effi.seeds import generator
from effi.training import Classification, History, Step, Training, bf16_pays, evaluate, fit, loop
from tests.training.curves import learnt
from tests.training.tiny import SHAPE, vit

TRAINING = Training(epochs=3, batch_size=16, lr=1e-2)
STILL = 1e-12


def trained(
    data: Dataset, settings: Training = TRAINING, seed: int = 0, ledger: Ledger | None = None, **options: object
) -> tuple[ViT, History]:
    model = vit(seed)
    history = fit(model, data, settings, seeds=[seed], ledger=ledger or Ledger(), **options)[0]
    return model, history


def test_steps_equal_a_loop_written_by_hand(data):
    settings = replace(TRAINING, augment=("flip", "crop"), schedule="cosine", warmup=0.3, clip=0.5)
    model, history = trained(data, settings)
    by_hand = vit()
    optimizer, steps = torch.optim.Adam(by_hand.parameters()), 3 * 3
    order, crops = generator(0, "order"), generator(0, "augment")
    for epoch in range(3):
        total, hits = 0.0, 0
        for batch, index in enumerate(torch.randperm(40, generator=order).split(16)):
            images = normalise(augment(data.train.inputs[index], settings.augment, crops), data.mean, data.std)
            logits, labels = by_hand(images), data.train.labels[index]
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
            optimizer.param_groups[0]["lr"] = settings.rate(3 * epoch + batch, steps)
            optimizer.step()
            total += loss.item() * len(index)
            hits += (logits.argmax(1) == labels).sum().item()
        assert history.curves["train_loss"][epoch] == pytest.approx(total / 40, abs=1e-5)
        assert history.curves["train_accuracy"][epoch] == pytest.approx(hits / 40)
        expected = evaluate(by_hand, data.validation, data)
        assert history.curves["validation_loss"][epoch] == pytest.approx(expected["loss"], abs=1e-4)
        assert history.curves["validation_accuracy"][epoch] == expected["accuracy"]
    # Softmax ignores the key bias: its gradient is rounding noise, which Adam turns into steps of full length.
    key_bias = slice(8, 16)
    for (name, a), b in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        difference = (a - b).detach()
        if name.endswith("qkv.bias"):
            difference[key_bias] = 0
        assert difference.abs().max() <= 1e-4, name


@pytest.mark.parametrize(("compile", "mode"), [(True, None), ("graphs", "reduce-overhead"), ("step", None)])
def test_a_compiled_training_is_the_same_one(data, monkeypatch, compile, mode):
    """Backend "eager" traces as the default one does, and spares the C++ compiler; no CPU has CUDA graphs."""
    asked, whole = [], torch.compile

    def traced(model, mode=None):
        asked.append(mode)
        return whole(model, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    _, plain = trained(data)
    _, compiled = trained(data, replace(TRAINING, compile=compile))
    assert asked == [mode]
    assert compiled.curves["train_loss"] == pytest.approx(plain.curves["train_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compile": "graph"}, 'unknown compile .graph. of a training; use False, True, "graphs" or "step"'),
        ({"compile": "graphs", "accumulate": 2}, "gradients that stay in place: leave accumulate at 1"),
        ({"compile": "graphs", "parallel": "fsdp"}, 'and parallel at None or "ddp"'),
        ({"compile": "step", "accumulate": 2}, "a whole batch of one process: leave accumulate at 1"),
        ({"compile": "step", "parallel": "ddp"}, "a whole batch of one process: .* and parallel away"),
        ({"compile": "step", "optimizer": "muon"}, 'muon keeps numbers off the device; take "graphs"'),
        ({"compile": "step", "optimizer": "adamw", "kernels": ("adamw",)}, 'the kernel "adamw" keeps numbers'),
    ],
)
def test_what_cannot_be_compiled_is_refused(options, said):
    with pytest.raises(ParameterError, match=said):
        replace(TRAINING, **options)


def test_two_fits_give_the_same_bits(data):
    settings = replace(TRAINING, augment=("flip", "crop"), clip=1.0)
    torch.manual_seed(1)
    first, a = trained(data, settings, seed=4)
    torch.manual_seed(2)
    second, b = trained(data, settings, seed=4)
    assert learnt(a) == learnt(b)
    assert a.best_epoch == b.best_epoch
    assert all(torch.equal(x, y) for x, y in zip(first.parameters(), second.parameters(), strict=True))


def test_dropout_draws_from_a_stream_of_its_own(data):
    curves = []
    for global_seed in (1, 2):
        model = vit(dropout=0.3)
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        curves.append(learnt(fit(model, data, TRAINING, seeds=[0], ledger=Ledger())[0]))
        assert torch.equal(torch.get_rng_state(), before)
    assert curves[0] == curves[1]
    assert curves[0] != learnt(trained(data)[1])


def test_the_model_learns_what_can_be_learnt(data):
    _, history = trained(data, replace(TRAINING, epochs=25))
    assert history.curves["train_loss"][0] > 4 * history.curves["train_loss"][-1]
    assert history.curves["validation_accuracy"][-1] >= 0.9


class Watched(nn.Module):
    """A linear model that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.shown = nn.Linear(3, 4), []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.shown.append(x.detach().clone())
        return self.layer(x.mean((2, 3)))


def shown(data: Dataset, seed: int, **changes: object) -> list[torch.Tensor]:
    model = Watched()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(model, data, replace(TRAINING, **changes), seeds=[seed], ledger=Ledger())
    return model.shown[: 3 * TRAINING.epochs]


def test_order_and_augmentation_do_not_disturb_each_other(data):
    plain, flipped, other = shown(data, 0), shown(data, 0, augment=("flip",)), shown(data, 1)
    assert [len(batch) for batch in plain] == [16, 16, 8] * 3
    for a, b in zip(plain, flipped, strict=True):
        assert all(torch.equal(x, y) or torch.equal(x, y.flip(-1)) for x, y in zip(a, b, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(plain, flipped, strict=True))
    assert not torch.equal(plain[0], other[0])


def test_an_epoch_shows_every_image_once_in_a_new_order(data):
    batches = shown(data, 0)
    first, second = torch.cat(batches[:3]), torch.cat(batches[3:6])
    everything = normalise(data.train.inputs, data.mean, data.std)
    for epoch in (first, second):
        assert torch.equal(epoch.sum((1, 2, 3)).sort().values, everything.sum((1, 2, 3)).sort().values)
    assert not torch.equal(first, second)


def test_the_order_does_not_depend_on_the_model(data):
    small, large = vit(), ViT(replace(SHAPE, width=16, depth=2), heads=2)
    seen: dict[str, list[torch.Tensor]] = {}
    for name, model in (("small", small), ("large", large)):
        seen[name] = []
        model.stem.register_forward_pre_hook(
            lambda module, args, kept=seen[name]: kept.append(args[0].clone()) if module.training else None
        )
        fit(model, data, TRAINING, seeds=[0], ledger=Ledger())
    assert all(torch.equal(a, b) for a, b in zip(seen["small"], seen["large"], strict=True))


def test_best_state_reproduces_the_recorded_loss(data):
    model = vit()

    def spoil_the_last_epoch(step: Step) -> None:
        if step.index == step.steps:
            model.head.weight.data.neg_()

    settings = replace(TRAINING, epochs=6)
    history = fit(model, data, settings, seeds=[0], ledger=Ledger(), after_step=[spoil_the_last_epoch])[0]
    curve = history.curves["validation_loss"]
    assert history.best_epoch == 1 + curve.index(min(curve)) < 6
    assert evaluate(model, data.validation, data)["loss"] == pytest.approx(curve[-1], abs=1e-6)
    model.load_state_dict(history.best_state)
    assert evaluate(model, data.validation, data)["loss"] == pytest.approx(min(curve), abs=1e-6)


def test_best_state_is_a_copy(data):
    model, history = trained(data)
    kept = {name: value.clone() for name, value in history.best_state.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(history.best_state[name], value) for name, value in kept.items())


@pytest.mark.parametrize("lr", [1e30, math.inf])
def test_a_loss_that_is_no_number_names_seed_epoch_and_rate(data, lr):
    settings = replace(TRAINING, optimizer="sgd", lr=lr)
    expected = rf"loss of seed 5 is not a number in epoch 1; lower the learning rate \(now {lr:g}\), warm up, or clip"
    ledger = Ledger()
    with pytest.raises(TrainingError, match=expected.replace("+", r"\+")):
        trained(data, settings, seed=5, ledger=ledger)
    assert ledger.total()["flops"] > 0, "what the failed training cost is kept"


def test_a_loss_that_fails_later_names_its_epoch(data):
    model = vit()

    def break_in_epoch_two(step: Step) -> None:
        if step.index == 4:
            model.head.bias.data.fill_(math.nan)

    with pytest.raises(TrainingError, match="seed 0 is not a number in epoch 2"):
        fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=[break_in_epoch_two])


def test_hooks_see_every_step_after_the_optimiser(data):
    model, seen = vit(), []
    start = model.head.weight.detach().clone()

    def watch(step: Step) -> None:
        seen.append((step.index, step.steps, torch.equal(model.head.weight, start), model.head.weight.grad is None))

    fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), after_step=[watch, watch])
    assert seen == [(step, 9, False, True) for step in range(1, 10) for _ in range(2)]


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"weight_decay": -1}, {"warmup": -0.1}]
)
def test_settings_that_cannot_train_are_refused(change):
    ((name, value),) = change.items()
    with pytest.raises(ParameterError, match=f"training {name}={value} is too small; give at least"):
        replace(TRAINING, **change)


def test_rate_in_closed_form():
    warm = Training(epochs=1, lr=0.8, schedule="cosine", warmup=0.2)
    assert [warm.rate(step, 10) for step in (0, 1)] == [0.4, 0.8]
    for step in range(2, 10):
        assert warm.rate(step, 10) == pytest.approx(0.4 * (1 + math.cos(math.pi * (step - 2) / 8)))
    assert warm.rate(6, 10) == pytest.approx(0.4)
    assert [Training(epochs=1, lr=0.3, warmup=0.5).rate(step, 4) for step in range(4)] == pytest.approx(
        [0.15, 0.3, 0.3, 0.3]
    )
    assert [Training(epochs=1, lr=0.3).rate(step, 3) for step in range(3)] == [0.3] * 3
    assert Training(epochs=1, lr=0.3, schedule="cosine").rate(0, 1) == 0.3
    assert Training(epochs=1, lr=0.3, schedule="cosine", warmup=1.0).rate(4, 5) == pytest.approx(0.3)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_schedule_reaches_the_optimiser(data, optimizer):
    """A vanishing rate moves nothing, an ordinary one does."""
    model, _ = trained(data, replace(TRAINING, epochs=1, optimizer=optimizer, lr=STILL))
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(model.parameters(), vit().parameters(), strict=True))
    model, _ = trained(data, replace(TRAINING, epochs=1, optimizer=optimizer))
    assert not torch.equal(model.head.weight, vit().head.weight)


def test_weight_decay_touches_matrices_only(data):
    """Logits times zero have no gradient: only decay is left of a step."""
    model = vit()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    still = replace(TRAINING, epochs=1, batch_size=40, optimizer="adamw", lr=0.1, weight_decay=0.5)
    hook = model.register_forward_hook(lambda module, args, output: output * 0)
    fit(model, data, still, seeds=[0], ledger=Ledger())
    hook.remove()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, torch.tensor(0.95 if parameter.ndim > 1 else 1.0)), name


def test_frozen_parameters_stay(data):
    model = vit()
    model.stem.requires_grad_(False)
    before = model.stem.weight.clone()
    fit(model, data, TRAINING, seeds=[0], ledger=Ledger())
    assert torch.equal(model.stem.weight, before)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_the_chosen_loss_is_the_one_recorded(data, loss):
    objective = Classification(loss)
    model, history = trained(data, replace(TRAINING, epochs=1, lr=STILL), objective=objective)
    for split, examples in (("train", data.train), ("validation", data.validation)):
        assert history.curves[f"{split}_loss"][0] == pytest.approx(evaluate(model, examples, data, objective)["loss"])


def test_flops_are_counted_by_phase(data):
    model, ledger = vit(), Ledger()
    fit(model, data, TRAINING, seeds=[0], ledger=ledger)
    phases = ledger.total()["phases"]
    assert phases["train"]["flops"] == 3 * model.train_flops(40)
    assert phases["evaluate"]["flops"] == 3 * sum(model.forward_flops(12).values())
    assert phases["train"]["seconds"] > 0


def test_flops_of_a_model_without_a_closed_form_are_counted_by_torch(data):
    ledger = Ledger()
    fit(Watched(), data, replace(TRAINING, epochs=2), seeds=[0], ledger=ledger)
    assert ledger.total()["phases"]["train"]["flops"] == 2 * 2 * (2 * 40 * 3 * 4)


def test_a_dry_run_measures_one_step_and_plans_the_rest(data):
    ledger = Ledger(dry_run=True)
    model, history = trained(data, replace(TRAINING, epochs=500), ledger=ledger)
    assert (ledger.steps, ledger.planned_steps) == (1500, 1500)
    assert ledger.phases["train"].flops == 1500 * train_flops(model, torch.zeros(16, 3, 8, 8))
    assert list(ledger.phases) == ["train"]
    assert (history.curves, history.best_epoch) == ({}, 0)
    plan = ledger.forecast()
    assert plan["steps"] == 1500
    assert plan["flops"] == ledger.phases["train"].flops
    assert plan["hours"] == pytest.approx(1500 * plan["seconds_per_step"] / 3600)


def test_a_dry_run_at_a_pace_makes_no_step(data, monkeypatch):
    monkeypatch.setattr(loop.Loop, "update", lambda self, index_RB: pytest.fail("a step was made"))
    monkeypatch.setenv(PACE, "1e9")
    ledger, settings = Ledger(dry_run=True), replace(TRAINING, epochs=500, accumulate=2)
    options = {"paper_flops": lambda step, executed: 6 + step.index}
    model, _ = trained(data, settings, ledger=ledger, **options)
    flops = train_flops(model, torch.zeros(16, 3, 8, 8))
    assert ledger.phases["train"].flops == 1500 * flops and ledger.phases["train"].paper_flops == 1500 * 7
    assert ledger.forecast()["hours"] == pytest.approx(1500 * flops / 1e9 / 3600)


def test_a_dry_run_of_several_trainings_adds_up(data):
    """An arm may train more than once: a ticket is searched, then trained."""
    ledger = Ledger(dry_run=True)
    for epochs, batch in ((10, 16), (20, 40)):
        trained(data, replace(TRAINING, epochs=epochs, batch_size=batch), ledger=ledger)
    assert (ledger.steps, ledger.planned_steps) == (50, 50)
    assert ledger.forecast()["flops"] == vit().train_flops(16) * 30 + vit().train_flops(40) * 20


def test_bf16_follows_fp32(data):
    settings = replace(TRAINING, epochs=2)
    _, exact = trained(data, settings)
    _, rounded = trained(data, replace(settings, precision="bf16"))
    assert exact.curves["train_loss"] != rounded.curves["train_loss"]
    assert rounded.curves["train_loss"] == pytest.approx(exact.curves["train_loss"], rel=0.05)


@pytest.mark.parametrize("pays", [True, False])
def test_auto_precision_does_what_pays(data, monkeypatch, pays):
    monkeypatch.setattr("effi.training.loop.bf16_pays", lambda device: pays)
    settings = replace(TRAINING, epochs=1)
    _, automatic = trained(data, replace(settings, precision="auto"))
    _, chosen = trained(data, replace(settings, precision="bf16" if pays else "fp32"))
    assert learnt(automatic) == learnt(chosen)


def test_bf16_always_pays_on_a_gpu_and_is_probed_once_on_a_cpu():
    assert bf16_pays("cuda") is True
    assert bf16_pays("cpu") is bf16_pays("cpu")


def test_training_leaves_the_model_that_was_given(data):
    model = vit()
    before = model.head.weight
    fit(model, data, TRAINING, seeds=[0], ledger=Ledger())
    assert model.head.weight is before
