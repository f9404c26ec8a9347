"""Steps replayed whole are the steps: bits, streams, masks and rates, with a stand-in for CUDA's graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from effi.cost import Ledger
from effi.data import Dataset
from effi.errors import ParameterError
from effi.ligo.inheritance import Inheritance
from effi.ligo.thrift import Thrifty
from effi.mixed_sparsity.attending import Attending
from effi.training import Classification, Group, LanguageModelling, Step, Training, fit
from effi.training.replay import MOST, USUAL, Replay
from tests.graphs import Captures, stand_in
from tests.training import tiny

EPOCHS = 6
TRAINING = Training(epochs=EPOCHS, batch_size=16, schedule="cosine", warmup=0.2)
SHAPES = 2  # of batches: 16 rows, and 8 at the end of an epoch


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Captures:
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
def test_a_replayed_training_is_the_same_to_the_bit(data: Dataset, captured: Captures, options: dict) -> None:
    found = {}
    for how in (False, "step"):
        model, ledger = tiny.vit(dropout=0.2), Ledger()
        settings = replace(TRAINING, compile=how, **options)
        (history,) = fit(model, data, settings, seeds=[0], ledger=ledger)
        found[how] = (history.curves["train_loss"], tiny.weights_of(model), ledger.total()["flops"], history.held_bytes)
    (plain, weights, *counted), (replayed, others, *again) = found[False], found["step"]
    assert replayed == plain and len(set(plain)) == EPOCHS
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert again == counted
    assert len(set(map(id, captured.pools))) == 1
    assert len(captured.graphs) == SHAPES
    usual = 2 * EPOCHS - USUAL, EPOCHS - USUAL
    assert sorted(graph.replays for graph in captured.graphs) == sorted(usual)


def test_seeds_side_by_side_are_replayed_as_one(data: Dataset, captured: Captures) -> None:
    curves = {}
    for how in (False, "step"):
        models = [tiny.vit(seed) for seed in (0, 1)]
        histories = fit(models, data, replace(TRAINING, compile=how, clip=0.5), seeds=[0, 1], ledger=Ledger())
        curves[how] = [history.curves["train_loss"] for history in histories]
    assert curves["step"] == curves[False] and curves[False][0] != curves[False][1]
    assert len(captured.graphs) == SHAPES


def test_text_whose_length_is_read_is_prepared_before_a_step(captured: Captures) -> None:
    text, curves = tiny.sentences(), {}
    for how in (False, "step"):
        settings = Training(epochs=5, batch_size=8, compile=how)
        options = {"objective": LanguageModelling(), "seeds": [0], "ledger": Ledger()}
        curves[how] = fit(tiny.Reader(), text, settings, **options)[0].curves["train_loss"]
    assert curves["step"] == curves[False] and len(captured.graphs) == SHAPES


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


def test_a_mask_that_moves_is_captured_anew(data: Dataset, captured: Captures) -> None:
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
    assert len(captured.graphs) == 2 * SHAPES


def test_a_training_that_was_cut_off_goes_on_to_the_same_bits(data, captured, tmp_path, monkeypatch) -> None:
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


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda x: x * x.sum().item(), "_local_scalar_dense"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: x.unique(), "_unique2"),
        (lambda x: x * torch.tensor([1.0, 2.0]), "lift_fresh"),
        (lambda x: x[torch.randperm(2)], "randperm"),
        (lambda x: x + torch.rand(2, generator=torch.Generator()), "rand"),
    ],
)
def test_what_waits_for_the_device_or_draws_on_the_host_is_found(captured: Captures, work, said: str) -> None:
    replay = Replay(lambda x: (work(x),))
    for _ in range(USUAL):
        replay(torch.ones(2))
    with pytest.raises(AssertionError, match=f"{said} in a step that is captured"):
        replay(torch.ones(2))


def test_usual_steps_run_aside_and_both_streams_wait_for_each_other(captured: Captures) -> None:
    replay = Replay(lambda x: (captured.asked.append("work"), x)[1:])
    replay(torch.ones(2))
    assert captured.asked == ["aside waits for here", "on aside", "work", "here waits for aside"]


def test_what_the_optimiser_reads_lies_where_a_graph_finds_it(data: Dataset, captured: Captures) -> None:
    groups = []

    def looking(step: Step) -> None:
        groups.extend(step.optimizer.param_groups if step.index == 2 else ())

    settings = replace(TRAINING, compile="step", groups=(Group("norm", weight_decay=0.1),))
    fit(tiny.vit(), data, settings, seeds=[0], ledger=Ledger(), after_step=[looking])
    assert len(groups) == 3 and all(group["capturable"] and group["fused"] for group in groups)
    assert len({group["lr"].data_ptr() for group in groups}) == 3


def test_shapes_beyond_what_memory_holds_are_made_as_usual(captured: Captures) -> None:
    replay = Replay(lambda x: (x * 2,))
    for size in range(1, MOST + 4):
        for step in range(USUAL + 2):
            assert replay(torch.full((size,), float(step)))[0].tolist() == [2.0 * step] * size
    assert len(captured.graphs) == MOST


def test_nothing_captured_outlives_a_training(data: Dataset, captured: Captures, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(Replay, "forget", lambda self, forget=Replay.forget: (forget(self), kept.append(self))[0])
    fit(tiny.vit(), data, replace(TRAINING, compile="step"), seeds=[0], ledger=Ledger())
    assert captured.graphs and not kept[-1]._captured and len(kept) == 2


def test_a_graph_computes_with_its_new_inputs_and_a_version_has_its_own(captured: Captures) -> None:
    factor = [2.0]
    replay = Replay(lambda x: (x * factor[0],))
    given = [replay(torch.full((2,), float(step)))[0].tolist() for step in range(6)]
    assert given == [[2.0 * step] * 2 for step in range(6)] and len(captured.graphs) == 1
    factor[0] = 3.0
    assert replay(torch.ones(2))[0].tolist() == [2.0, 2.0]  # what a graph reads from the host it does not read again
    assert replay(torch.ones(2), version=1)[0].tolist() == [3.0, 3.0]
    replay.forget()
    assert replay(torch.ones(2))[0].tolist() == [3.0, 3.0]


def test_a_listener_between_gradients_and_step_is_refused(data: Dataset, captured: Captures) -> None:
    settings = replace(TRAINING, compile="step")
    with pytest.raises(
        ParameterError, match=r"a whole step as it was captured, which Moving would change: take .graphs"
    ):
        fit(tiny.vit(), data, settings, seeds=[0], ledger=Ledger(), before_step=[Moving({}, at=1)])


@pytest.mark.parametrize("where", ["model", "objective", "listener"])
def test_numbers_of_the_host_that_change_are_refused(data: Dataset, monkeypatch, where: str) -> None:
    model, objective, listener = tiny.vit(), Classification(), Moving({}, at=0)
    kind = {"model": model.blocks[0], "objective": objective, "listener": listener}[where]
    monkeypatch.setattr(type(kind), "steady", False, raising=False)
    options = {"objective": objective, "after_step": [listener], "seeds": [0], "ledger": Ledger()}
    with pytest.raises(ParameterError, match=f"which {type(kind).__name__} would change"):
        fit(model, data, replace(TRAINING, compile="step"), **options)


@pytest.mark.parametrize("kind", [Attending, Inheritance, Thrifty])
def test_what_counts_its_steps_on_the_host_says_so(kind: type) -> None:
    assert kind.steady is False


def test_a_dry_run_measures_a_replay(data: Dataset, captured: Captures) -> None:
    ledger = Ledger(dry_run=True)
    fit(tiny.vit(), data, replace(TRAINING, compile="step"), seeds=[0], ledger=ledger)
    assert ledger.steps == 3 * EPOCHS and [graph.replays for graph in captured.graphs] == [2]
