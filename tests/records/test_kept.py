"""What is left of a model: computed with torch alone, to the outputs that it had, whatever was cut out of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from effi import axes
from effi.advice import predict
from effi.data import Dataset, Examples, TextDataset, tokens
from effi.models import vision
from effi.models.gpt import GPT
from effi.models.language import TextSize, classifier
from effi.records import kept

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "data", "given"),
    [
        (lambda: halved(small_vit()), images, None),
        (lambda: halved(small_roberta()), reviews, ["a good film"]),
        (small_bert, reviews, ["a good film " * 9, "bad"]),
        (small_gpt, corpus, ["a good"]),
    ],
    ids=["slim vit", "slim roberta", "bert of pairs", "gpt"],
)
def test_a_model_is_left_as_it_computes(
    make: Callable[[], nn.Module], data: Callable[[], Any], given: list[str] | None, tmp_path: Path
) -> None:
    whole, one, place = make().train(), data(), tmp_path / "left"
    kept.write(place, whole, one, {"arm": "mine/slim"})
    assert whole.training and not (place / kept.WHY_NOT).exists()
    model = predict.Model(place)
    x, net = one.prepare(one.test.inputs), whole.eval()
    for part in (x, x[:1], x[:, :3] if given and not getattr(net, "per_token", False) else x[1:]):
        with torch.no_grad():
            torch.testing.assert_close(model(part), net(part), atol=1e-6, rtol=0)
    assert predict.check(model).startswith(f"{min(len(x), kept.EXAMPLES)} test examples")
    if given:
        assert predict.predict(model, given)


def test_texts_are_read_as_in_the_run(tmp_path: Path) -> None:
    kept.write(tmp_path / "left", small_roberta(), reviews(), {})
    model = predict.Model(tmp_path / "left")
    for given in (["good"], ["a very good film " * 9], ["a good film", "bad"], ["a bad film " * 5, "good " * 9]):
        rows = WORDS.rows([given[0] if len(given) == 1 else (given[0], given[1])], LENGTH)
        assert torch.equal(predict.text(model, given), reviews().prepare(rows))


def test_a_language_model_goes_on_with_what_is_likeliest(tmp_path: Path) -> None:
    net = small_gpt()
    kept.write(tmp_path / "left", net, corpus(), {})
    told = predict.predict(predict.Model(tmp_path / "left"), ["a good"])
    ids = WORDS._inner.encode("a good", add_special_tokens=False).ids
    for _ in range(predict.MORE):
        ids.append(int(net.eval()(torch.tensor([ids[-LENGTH:]]))[0, -1].argmax()))
    assert told == WORDS._inner.decode(ids)


def test_outputs_of_other_weights_are_told(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = tmp_path / "left"
    kept.write(place, small_vit(), images(), {})
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


def test_the_script_needs_nothing_of_effi() -> None:
    asks = "import sys; sys.path[:] = [p for p in sys.path if p]; sys.modules['effi'] = None; "
    run = f"{asks}import runpy; runpy.run_path({predict.__file__!r})"
    subprocess.run([sys.executable, "-I", "-c", run], check=True)
