"""The files of a checkpoint: when they are written, what they refuse, and that nothing but what belongs goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError, TrainingError
from effi.training import MovingAverage, Step, Training, checkpoint, fit
from tests.training.curves import learnt
from tests.training.tiny import vit, weights_of

TRAINING = Training(epochs=4, batch_size=16, lr=1e-2, augment=("flip",))


class Cut(Exception):
    """What ends a training in the middle."""


def cut_at(index: int) -> Any:
    def listener(step: Step) -> None:
        if step.index == index:
            raise Cut

    return listener


def trained(data, file: Path | None = None, *, cut: int = 0, training: Training = TRAINING, **options: Any):
    """Model, curves and ledger; of a training cut off none of the last two."""
    model, ledger = vit(), Ledger()
    options["after_step"] = [*options.get("after_step", ()), cut_at(cut)]
    try:
        (history,) = fit(model, data, training, seeds=[0], ledger=ledger, checkpoint=file, **options)
    except Cut:
        return model, None, ledger
    return model, history, ledger


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every step."""
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def same(model, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_short_training_leaves_a_beat_and_no_checkpoint(data, tmp_path):
    _, _, ledger = trained(data, tmp_path / "deep" / "arm")
    assert files(tmp_path / "deep") == {"arm.beat"}
    assert "checkpoint" not in ledger.total()["aside"] and "lost" not in ledger.total()["phases"]


def test_without_a_path_nothing_is_written(data, tmp_path, often, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(data)
    assert files(tmp_path) == set()


def test_a_checkpoint_costs_nothing_that_is_paid(data, tmp_path, often):
    model, history, ledger = trained(data, tmp_path / "arm")
    undisturbed, expected, other = trained(data)
    assert learnt(history) == learnt(expected) and same(model, undisturbed)
    assert ledger.total()["aside"]["checkpoint"]["seconds"] > 0
    assert ledger.total()["flops"] == other.total()["flops"]


def spoil(step: Step) -> None:
    """The last epoch but one is the best."""
    if step.index == 10:
        step.model.head.weight.data.neg_()


@pytest.mark.parametrize("cut", range(1, 13))
def test_cut_off_at_any_step_it_goes_on_to_the_same_bits(data, tmp_path, often, cut):
    trained(data, tmp_path / "arm", cut=cut, before_step=[spoil])
    model, history, ledger = trained(data, tmp_path / "arm", before_step=[spoil])
    undisturbed, expected, other = trained(data, before_step=[spoil])
    assert learnt(history) == learnt(expected)
    assert (history.best_epoch, history.held_bytes) == (expected.best_epoch, expected.held_bytes)
    assert history.best_epoch == 3
    assert same(model, undisturbed)
    assert history.best_state.keys() == expected.best_state.keys()
    assert all(torch.equal(history.best_state[name], value) for name, value in expected.best_state.items())
    assert ledger.total()["flops"] == other.total()["flops"]


def test_seconds_since_the_checkpoint_are_paid_as_lost(data, tmp_path, often):
    """The run that was cut off had worked on for half a minute when it was killed."""
    trained(data, tmp_path / "arm", cut=5)
    beat = tmp_path / "arm.beat"
    os.utime(beat, (json.loads(beat.read_text())["since"] + 30,) * 2)
    _, history, ledger = trained(data, tmp_path / "arm")
    assert ledger.total()["phases"]["lost"]["seconds"] == pytest.approx(30, abs=0.1)
    assert ledger.total()["seconds"] > 30
    assert history.curves["seconds"][0] < 30 < history.curves["seconds"][1]


def test_a_training_that_was_done_is_not_made_again(data, tmp_path, often):
    first, expected, paid = trained(data, tmp_path / "arm")
    seen: list[int] = []
    model, history, ledger = trained(data, tmp_path / "arm", before_step=[lambda step: seen.append(step.index)])
    assert seen == []
    assert history.curves == expected.curves and same(model, first)
    assert model.training is first.training is False, "dropout sleeps in both"
    assert ledger.total()["phases"]["train"] == paid.total()["phases"]["train"]


@pytest.mark.parametrize("left", [0, 1, 7, 8, 100, 0.5, 0.99])
def test_a_torn_file_starts_anew(data, tmp_path, often, left):
    trained(data, tmp_path / "arm", cut=5)
    file = tmp_path / "arm.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    model, history, _ = trained(data, tmp_path / "arm")
    undisturbed, expected, _ = trained(data)
    assert learnt(history) == learnt(expected) and same(model, undisturbed)


@pytest.mark.parametrize("content", [bytes(4096), b"\xff" * 64, b"{}", (2).to_bytes(8, "little") + b"{}"])
def test_a_file_of_something_else_starts_anew(data, tmp_path, content):
    (tmp_path / "arm.safetensors").write_bytes(content)
    (tmp_path / "arm.beat").write_bytes(content)
    _, history, ledger = trained(data, tmp_path / "arm")
    assert learnt(history) == learnt(trained(data)[1])
    assert "lost" not in ledger.total()["phases"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"training": replace(TRAINING, lr=2e-2)}, "training"),
        ({"training": replace(TRAINING, epochs=5)}, "training, steps"),
        ({"first_epoch": 1}, "steps"),
        ({"before_step": [MovingAverage(0.5)]}, "listeners"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(data, tmp_path, often, change, word):
    trained(data, tmp_path / "arm", cut=5)
    with pytest.raises(TrainingError) as refused:
        trained(data, tmp_path / "arm", **change)
    assert (
        str(refused.value) == f"{tmp_path / 'arm.safetensors'} is of another training (differing in {word}); delete it"
    )


def test_a_checkpoint_of_other_data_is_refused(data, tmp_path, often):
    trained(data, tmp_path / "arm", cut=5)
    with pytest.raises(TrainingError, match="differing in data"):
        trained(replace(data, checksum="sha256:1"), tmp_path / "arm")


def test_a_disk_that_refuses_is_one_sentence(data, tmp_path, often, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("effi.paths.replace", full)
    with pytest.raises(
        TrainingError, match=r"arm\.beat could not take .* bytes \(No space left on device\); free space"
    ):
        trained(data, tmp_path / "arm")


def test_a_mask_that_was_given_up_does_not_come_back(data, tmp_path, often):
    """The training starts with a mask, frees everything at step 3, and is cut off at step 6."""

    def free(step: Step) -> None:
        if step.index == 3:
            step.hold({})

    mask = masks.magnitude(masks.prunable(vit()), 0.5)
    options: dict[str, Any] = {"mask": mask, "before_step": [free]}
    trained(data, tmp_path / "arm", cut=6, **options)
    model, history, _ = trained(data, tmp_path / "arm", **options)
    undisturbed, expected, _ = trained(data, **options)
    assert learnt(history) == learnt(expected) and same(model, undisturbed)
    revived = torch.cat([weights_of(model)[name][~kept] for name, kept in mask.items()])
    assert revived.count_nonzero() > 0.9 * len(revived)


class Keeper:
    """Holds a mask from step 2 on, which is its own state too."""

    def __init__(self) -> None:
        self.mask: dict[str, torch.Tensor] = {}

    def __call__(self, step: Step) -> None:
        if step.index == 2:
            self.mask = masks.magnitude(masks.prunable(step.model), 0.5)
            step.hold(self.mask)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.mask

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.mask = dict(state)


def test_a_listener_may_keep_the_mask_that_is_held(data, tmp_path, often):
    keeper = Keeper()
    trained(data, tmp_path / "arm", cut=7, before_step=[Keeper()])
    model, history, _ = trained(data, tmp_path / "arm", before_step=[keeper])
    undisturbed, expected, _ = trained(data, before_step=[Keeper()])
    assert learnt(history) == learnt(expected) and same(model, undisturbed)
    assert keeper.mask and not any(model.get_parameter(name)[~kept].any() for name, kept in keeper.mask.items())


def test_a_listener_before_and_after_keeps_its_state_once(data, tmp_path, often):
    """A moving average that looks twice a step, from a checkpoint too."""
    averages = [MovingAverage(0.7) for _ in range(3)]
    for average, cut, file in zip(averages, (6, 0, 0), (tmp_path / "arm", tmp_path / "arm", None), strict=True):
        trained(data, file, cut=cut, before_step=[average], after_step=[average])
    with safe_open(tmp_path / "arm.safetensors", "pt") as file:
        kept = [name for name in file.keys() if name.startswith("listener/")]  # noqa: SIM118 it is no mapping
    assert len(kept) == len(averages[0].average)
    assert all(torch.equal(averages[1].average[name], value) for name, value in averages[2].average.items())


def test_a_ledger_goes_on_with_what_came_before_the_training(data, tmp_path, often):
    """A search of its own and a charge come before; made again, they are paid as lost, not twice."""

    def arm(cut: int) -> Ledger:
        ledger = Ledger()
        ledger.charge("pretraining", 1000, 5.0)
        with ledger.phase("search"):
            ledger.add_flops(7)
            time.sleep(0.05)
        with suppress(Cut):
            fit(vit(), data, TRAINING, seeds=[0], ledger=ledger, after_step=[cut_at(cut)], checkpoint=tmp_path / "arm")
        return ledger

    arm(6)
    phases = arm(0).total()["phases"]
    assert (phases["pretraining"]["seconds"], phases["pretraining"]["flops"]) == (5.0, 1000)
    assert phases["search"]["flops"] == 7
    assert 0.05 <= phases["search"]["seconds"] < 0.09
    assert 0.05 <= phases["lost"]["seconds"] < 0.2, "the search that was made again"


def test_a_phase_that_is_open_now_and_was_not_then_goes_on():
    ledger, before = Ledger(), Ledger()
    before.charge("train", 5, 2.0)
    with ledger.phase("watch", aside=True):
        ledger.restore(before.state())
        time.sleep(0.01)
        ledger.add_flops(3)
    total = ledger.total()
    assert total["phases"]["train"] == before.total()["phases"]["train"]
    assert total["aside"]["watch"]["flops"] == 3
    assert 0.01 <= total["aside"]["watch"]["seconds"] < 0.1
    assert total["seconds"] == 2.0


def test_the_beat_counts_what_no_checkpoint_holds(tmp_path):
    """Two runs of 30 and 12 seconds before any checkpoint, then one whose checkpoint is 7 seconds old."""
    file = tmp_path / "arm"
    since = time.time() - 100

    def worked(seconds: float, kept: float) -> None:
        told = json.loads(file.with_name("arm.beat").read_text())
        assert told["lost"] == pytest.approx(kept, abs=0.01)
        os.utime(file.with_name("arm.beat"), (told["since"] + seconds,) * 2)

    assert checkpoint.Checkpoint(file).lost() == 0.0
    worked(30, 0)
    assert checkpoint.Checkpoint(file).lost() == pytest.approx(30, abs=0.01)
    worked(12, 30)
    third = checkpoint.Checkpoint(file)
    assert third.lost() == pytest.approx(42, abs=0.01)
    third.save(checkpoint.Kept({"x": torch.ones(1)}, {}))
    worked(7, 0)
    assert checkpoint.Checkpoint(file).lost() == pytest.approx(7, abs=0.01)
    assert since < time.time()


def test_sigterm_in_the_last_evaluation_still_ends_the_run(data, tmp_path):
    """Nothing follows the last evaluation that could hear it, but the whole training is kept."""
    handled: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: handled.append(number))
    try:
        model, calls = vit(), []

        def end(module: torch.nn.Module, *_: object) -> None:
            if not module.training:
                calls.append(1)
                if len(calls) == TRAINING.epochs:
                    os.kill(os.getpid(), signal.SIGTERM)

        model.register_forward_hook(end)
        with pytest.raises(KeyboardInterrupt, match="run again to go on"):
            fit(model, data, TRAINING, seeds=[0], ledger=Ledger(), checkpoint=tmp_path / "arm")
        assert handled == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert handled == [signal.SIGTERM], "the handler from before is back"
    finally:
        signal.signal(signal.SIGTERM, before)
    _, history, _ = trained(data, tmp_path / "arm", training=TRAINING, after_step=[])
    assert learnt(history) == learnt(trained(data)[1])


def test_ctrl_c_keeps_what_a_short_training_did(data, tmp_path):
    """With one job the training runs where the interrupt arrives: it ends after its step, with a checkpoint."""

    def interrupt(step: Step) -> None:
        if step.index == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="run again to go on"):
        trained(data, tmp_path / "arm", training=TRAINING, after_step=[interrupt])
    seen: list[int] = []
    watch = [lambda step: seen.append(step.index)]
    _, history, _ = trained(data, tmp_path / "arm", training=TRAINING, after_step=watch)
    assert seen[0] == 5
    assert learnt(history) == learnt(trained(data, training=TRAINING, after_step=[])[1])


def test_two_trainings_of_an_arm_have_checkpoints_of_their_own(data, tmp_path):
    """The second would be taken for done by the first one's end, with its weights and without its mask."""
    ledger = Ledger()
    fit(vit(), data, TRAINING, seeds=[0], ledger=ledger, checkpoint=tmp_path / "arm")
    with pytest.raises(ParameterError, match="an earlier training of this arm goes on from arm; give"):
        fit(vit(1), data, TRAINING, seeds=[0], ledger=ledger, checkpoint=tmp_path / "arm")
    fit(vit(1), data, TRAINING, seeds=[0], ledger=ledger, checkpoint=tmp_path / "arm.second")
