"""What is left of a model: computed with torch alone, to the outputs that it had, whatever was cut out of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from effi import axes, paths
from effi.advice import predict
from effi.data import Dataset, Examples, TextDataset, tokens
from effi.models import vision
from effi.models.gpt import GPT
from effi.models.language import TextSize, classifier
from effi.records import Arm, Name, Run, kept, records
from effi.seeds import seeded
from effi.training import Training, fit

SIZE, LENGTH = TextSize(16, 1, 2, 16), 12
WORDS = tokens.train(["a good film", "a bad film"] * 3, tokens.SMALLEST)


def images() -> Dataset:
    draw = torch.Generator().manual_seed(0)
    part = Examples(torch.randint(256, (9, 3, 8, 8), generator=draw, dtype=torch.uint8), torch.arange(9) % 2)
    return Dataset("mine", part, part, part, ("dark", "light"), "sha256:0", "own", (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))


def text(inputs: Tensor, labels: Tensor, classes: tuple[str, ...]) -> TextDataset:
    part = Examples(inputs, labels)
    return TextDataset(
        "mine", part, part, part, classes, "sha256:0", "own", WORDS.vocabulary, inputs[:0], tokenizer=WORDS
    )


def reviews() -> TextDataset:
    rows = WORDS.rows(["a good film", "bad", "a bad good film"], LENGTH)
    return text(rows, torch.tensor([1, 0, 1]), ("bad", "good"))


def corpus() -> TextDataset:
    rows = WORDS.rows(["a good film is a good film"] * 3, LENGTH + 1)
    return text(rows[:, :-1], rows[:, 1:].long(), ())


def halved(model: nn.Module) -> nn.Module:
    keep = {axis: list(range(0, count, 2)) for axis, count in axes.units(model).items()}
    return axes.slim(model, keep)


def small_vit() -> nn.Module:
    return vision.cifar_vit(2, image_size=8, patch=4, width=8, depth=2, heads=2, hidden=8)


def small_roberta(**options: Any) -> nn.Module:
    return classifier("roberta", 2, vocabulary=WORDS.vocabulary, length=LENGTH, size=SIZE, **options)


def small_bert() -> nn.Module:
    return classifier("bert", 2, vocabulary=WORDS.vocabulary, length=LENGTH, size=SIZE, separator=3)


def small_gpt() -> nn.Module:
    return GPT(WORDS.vocabulary, LENGTH, SIZE)


MADE: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "slim vit": (lambda: halved(small_vit()), images),
    "slim roberta": (lambda: halved(small_roberta()), reviews),
    "bert of pairs": (small_bert, reviews),
    "gpt": (small_gpt, corpus),
}


@dataclass(frozen=True)
class Left:
    """A model, its data, and the folder that it was left in."""

    model: nn.Module
    data: Any
    place: Path


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Left]:
    """Each model is written out once."""

    @cache
    def made(name: str) -> Left:
        model, data = (make() for make in MADE[name])
        place = tmp_path_factory.mktemp("models") / "left"
        kept.write(place, model.train(), data, {"arm": name})
        assert model.training and not (place / kept.WHY_NOT).exists()
        return Left(model.eval(), data, place)

    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_a_model_is_left_as_it_computes(name: str, left: Callable[[str], Left]) -> None:
    own = left(name)
    model, x = predict.Model(own.place), own.data.prepare(own.data.test.inputs)
    for part in (x, x[:1], x[:, :3] if name in ("slim roberta", "bert of pairs") else x[1:]):
        with torch.no_grad():
            torch.testing.assert_close(model(part), own.model(part), atol=1e-6, rtol=0)
    assert predict.check(model).startswith(f"Test examples, {1 if name == 'gpt' else min(len(x), kept.EXAMPLES)}: ")
    assert model.config["arm"] == name


@pytest.mark.slow
def test_texts_are_read_as_in_the_run(left: Callable[[str], Left]) -> None:
    model = predict.Model(left("bert of pairs").place)
    for given in (["good"], ["a very good film " * 9], ["a good film", "bad"], ["a bad film " * 5, "good " * 9]):
        rows = WORDS.rows([given[0] if len(given) == 1 else (given[0], given[1])], LENGTH)
        assert torch.equal(predict.text(model, given), reviews().prepare(rows))
        shares = model(predict.text(model, given)).softmax(-1)[0]
        assert predict.predict(model, given).startswith(f"{shares.max():.4f} {('bad', 'good')[int(shares.argmax())]}")


@pytest.mark.slow
def test_a_language_model_goes_on_with_what_is_likeliest(left: Callable[[str], Left]) -> None:
    own = left("gpt")
    told = predict.predict(predict.Model(own.place), ["a good"])
    ids = WORDS._inner.encode("a good", add_special_tokens=False).ids
    for _ in range(predict.MORE):
        ids.append(int(own.model(torch.tensor([ids[-LENGTH:]]))[0, -1].argmax()))
    assert told == WORDS._inner.decode(ids)


@pytest.mark.slow
def test_outputs_of_other_weights_are_told(left: Callable[[str], Left], tmp_path: Path) -> None:
    place = Path(shutil.copytree(left("gpt").place, tmp_path / "other"))
    weights = load_file(place / "model.safetensors")
    save_file({name: value + 0.1 for name, value in weights.items()}, place / "model.safetensors")
    with pytest.raises(SystemExit, match="which is too much"):
        predict.check(predict.Model(place))


class Strange(nn.Module):
    """What a value decides cannot be written out."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2)) if float(x.sum()) > 0 else x.sum((1, 2))


def test_a_model_that_cannot_be_written_out_leaves_a_sentence(tmp_path: Path) -> None:
    kept.write(tmp_path / "left", Strange(), images(), {})
    assert [each.name for each in tmp_path.iterdir()] == ["left"]
    assert [each.name for each in (tmp_path / "left").iterdir()] == [kept.WHY_NOT]


# --- arms ------------------------------------------------------------------------------------------------------


def network(seed: int) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))


def train(arm: Arm) -> None:
    """A training of another model first, then the arm's own, whose weights are moved once more before the record."""
    one, kind = images(), Training(epochs=2, batch_size=4, eval_every="2 epochs")
    fit(network(9), one, kind, seeds=[9], ledger=arm.ledger)
    model = network(arm.seed)
    (history,) = fit(model, one, kind, seeds=arm.seeds, ledger=arm.ledger)
    with torch.no_grad():
        model[1].weight.mul_(0.5)
    loss = F.cross_entropy(model(one.prepare(one.test.inputs)), one.test.labels)
    arm.record({"test_loss": loss.item(), "train_loss": history.curves["train_loss"][-1]})


def trained(where: Path, jobs: int = 1) -> Run:
    run = Run("minimal", "smoke", results_dir=where, uses=["effi.seeds"])
    run.each(train, {Name("d", None, name): None for name in ("wanted", "other")}, [0, 1], jobs=jobs)
    return run


@pytest.mark.slow
def test_an_arm_leaves_the_model_that_it_records_and_no_bit_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trained(tmp_path / "plain")
    assert not (plain.path.parent / "models").exists()
    monkeypatch.setenv(kept.ASKED, "wanted,dense")
    keeping = trained(tmp_path / "keeping", jobs=2)
    told = [[(each["arm"], each["seed"], each["metrics"]) for each in run.records()] for run in (plain, keeping)]
    assert told[0] == told[1]
    own = next(record for record in keeping.records() if (record["arm"], record["seed"]) == ("d/wanted", 0))
    (place,) = (keeping.path.parent / "models").iterdir()
    assert place == kept.folder(keeping.path, own["identity"])
    model, one = predict.Model(place), images()
    loss = F.cross_entropy(model(one.prepare(one.test.inputs)), one.test.labels)
    assert loss.item() == pytest.approx(own["metrics"]["test_loss"], abs=1e-6)
    assert model.config["arm"] == "d/wanted" and model.config["outputs"]["classes"] == ["dark", "light"]


def test_an_arm_killed_while_it_leaves_its_model_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv(kept.ASKED, "wanted")
    monkeypatch.setattr(kept, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path)
    (record,) = records(paths.records_file(tmp_path, "smoke", "minimal"))
    assert (record["arm"], record["seed"], record["status"]) == ("d/wanted", 0, "failed")


def test_the_script_needs_nothing_of_effi() -> None:
    asks = "import sys; sys.path[:] = [p for p in sys.path if p]; sys.modules['effi'] = None; "
    run = f"{asks}import runpy; runpy.run_path({predict.__file__!r})"
    subprocess.run([sys.executable, "-I", "-c", run], check=True)
