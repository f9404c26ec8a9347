"""Steps replayed whole are the steps: bits, streams, masks and rates, with a stand-in for CUDA's graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from effi.cost import Ledger
from effi.data import Dataset
from effi.errors import ParameterError
from effi.training import Group, LanguageModelling, Step, Training, fit
from effi.training.replay import USUAL, Replay
from tests.graphs import Graph, stand_in
from tests.training import tiny

EPOCHS = 6
TRAINING = Training(epochs=EPOCHS, batch_size=16, schedule="cosine", warmup=0.2)
SHAPES = 2  # of batches: 16 rows, and 8 at the end of an epoch


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Those captured; not compiled, and with rates that float32 can hold, as a graph has them, else bits differ."""
    monkeypatch.setattr(torch, "compile", lambda model, mode=None: model)
    exact = Training.rate
    monkeypatch.setattr(Training, "rate", lambda *args: torch.tensor(exact(*args)).item())
    return stand_in(monkeypatch)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adamw", "weight_decay": 0.1, "clip": 0.5},
        {"optimizer": "sgd", "clip": 0.5, "augment": ("flip", "crop")},
        {"groups": (Group("head.*", lr=2e-3), Group("norm", weight_decay=0.1))},
        {"precision": "bf16"},
    ],
    ids=["adam", "adamw", "sgd", "groups", "bf16"],
)
def test_a_replayed_training_is_the_same_to_the_bit(data: Dataset, graphs: list[Graph], options: dict) -> None:
    found = {}
    for how in (False, "step"):
        model, ledger = tiny.vit(dropout=0.2), Ledger()
        settings = replace(TRAINING, compile=how, **options)
        (history,) = fit(model, data, settings, seeds=[0], ledger=ledger)
        found[how] = (history.curves["train_loss"], tiny.weights_of(model), ledger.total()["flops"], history.held_bytes)
    (plain, weights, *counted), (replayed, others, *again) = found[False], found["step"]
    assert replayed == plain and len(set(plain)) == EPOCHS
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert again[0] == counted[0]
    assert len(graphs) == SHAPES
    usual = 2 * EPOCHS - USUAL, EPOCHS - USUAL
    assert sorted(graph.replays for graph in graphs) == sorted(usual)


def test_seeds_side_by_side_are_replayed_as_one(data: Dataset, graphs: list[Graph]) -> None:
    curves = {}
    for how in (False, "step"):
        models = [tiny.vit(seed) for seed in (0, 1)]
        histories = fit(models, data, replace(TRAINING, compile=how, clip=0.5), seeds=[0, 1], ledger=Ledger())
        curves[how] = [history.curves["train_loss"] for history in histories]
    assert curves["step"] == curves[False] and curves[False][0] != curves[False][1]
    assert len(graphs) == SHAPES


def test_text_whose_length_is_read_is_prepared_before_a_step(graphs: list[Graph]) -> None:
    text, curves = tiny.sentences(), {}
    for how in (False, "step"):
        settings = Training(epochs=5, batch_size=8, compile=how)
        options = {"objective": LanguageModelling(), "seeds": [0], "ledger": Ledger()}
        curves[how] = fit(tiny.Reader(), text, settings, **options)[0].curves["train_loss"]
    assert curves["step"] == curves[False] and len(graphs) == SHAPES


def masks(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One that holds from the start, and one that takes its place."""
    weight = model.get_parameter("head.weight")
    draw = torch.rand(weight.shape, generator=torch.Generator().manual_seed(3))
    return {"head.weight": draw > 0.5}, {"head.weight": draw < 0.5}


class Moving:
    """Another mask after a step."""

    def __init__(self, mask: dict[str, Tensor], at: int) -> None:
        self.mask, self.at = mask, at

    def __call__(self, step: Step) -> None:
        if step.index == self.at:
            step.hold(self.mask)


def test_a_mask_that_moves_is_captured_anew(data: Dataset, graphs: list[Graph]) -> None:
    settings, weights = replace(TRAINING, epochs=8), {}
    for how in (False, "step"):
        model = tiny.vit()
        first, second = masks(model)
        moving = [Moving(second, at=3 * 4)]
        options = {"seeds": [0], "ledger": Ledger(), "mask": first, "after_step": moving}
        fit(model, data, replace(settings, compile=how), **options)
        weights[how] = tiny.weights_of(model)
        assert not model.head.weight[~second["head.weight"]].any()
    assert all(torch.equal(weights[False][name], weights["step"][name]) for name in weights[False])
    assert len(graphs) == 2 * SHAPES


def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(data, graphs, tmp_path, monkeypatch) -> None:
    from effi.training.checkpoint import Checkpoint

    monkeypatch.setattr(Checkpoint, "due", lambda self: True)
    settings = replace(TRAINING, compile="step", augment=("flip",))
    whole, cut = tiny.vit(dropout=0.2), tiny.vit(dropout=0.2)
    fit(whole, data, settings, seeds=[0], ledger=Ledger())

    def stopping(step: Step) -> None:
        if step.index == 11:
            raise KeyboardInterrupt

    options = {"seeds": [0], "checkpoint": tmp_path / "cut"}
    with pytest.raises(KeyboardInterrupt):
        fit(cut, data, settings, ledger=Ledger(), after_step=[stopping], **options)
    again = tiny.vit(seed=5, dropout=0.2)
    fit(again, data, settings, ledger=Ledger(), **options)
    assert all(map(torch.equal, whole.parameters(), again.parameters()))


def test_what_waits_for_the_device_is_found(graphs: list[Graph]) -> None:
    replay = Replay(lambda x: (x * x.sum().item(),))
    for _ in range(USUAL):
        replay(torch.ones(2))
    with pytest.raises(AssertionError, match="_local_scalar_dense in a step that is captured"):
        replay(torch.ones(2))


def test_a_graph_computes_with_its_new_inputs_and_a_version_has_its_own(graphs: list[Graph]) -> None:
    factor = [2.0]
    replay = Replay(lambda x: (x * factor[0],))
    given = [replay(torch.full((2,), float(step)))[0].tolist() for step in range(6)]
    assert given == [[2.0 * step] * 2 for step in range(6)] and len(graphs) == 1
    factor[0] = 3.0
    assert replay(torch.ones(2))[0].tolist() == [2.0, 2.0]  # what a graph reads from the host it does not read again
    assert replay(torch.ones(2), version=1)[0].tolist() == [3.0, 3.0]
    replay.forget()
    assert replay(torch.ones(2))[0].tolist() == [3.0, 3.0]


def test_a_listener_between_gradients_and_step_is_refused(data: Dataset, graphs: list[Graph]) -> None:
    with pytest.raises(ParameterError, match=r"no moment between gradients and step, which Moving wants: take .graphs"):
        settings = replace(TRAINING, compile="step")
        fit(tiny.vit(), data, settings, seeds=[0], ledger=Ledger(), before_step=[Moving({}, at=1)])


def test_a_dry_run_measures_a_replay(data: Dataset, graphs: list[Graph]) -> None:
    ledger = Ledger(dry_run=True)
    fit(tiny.vit(), data, replace(TRAINING, compile="step"), seeds=[0], ledger=ledger)
    assert ledger.steps == 1 and [graph.replays for graph in graphs] == [2]
