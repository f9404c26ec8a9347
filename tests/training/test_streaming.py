"""Evaluation of token objectives: no more logits alive at once than allowed, and the values of the whole."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from effi.cost import Ledger
from effi.data import Examples
from effi.models.language import TextSize, language_model
from effi.training import LanguageModelling, Training, evaluate, evaluation, fit
from tests.training.tiny import WORDS, Reader, sentences

TEXT = sentences(rows=20, tokens=6)
ROW = 6 * WORDS


class Whole(nn.Module):
    """A model that makes its logits in one piece only."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = Reader()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.reader(ids)


class Alive:
    """Counts the logits that are alive whenever new ones are made."""

    def __init__(self, head: nn.Module) -> None:
        self.made: list[weakref.ref[torch.Tensor]] = []
        self.most, self.calls = 0, 0
        head.register_forward_hook(self.count)

    def count(self, module: nn.Module, arguments: object, logits: torch.Tensor) -> None:
        self.calls += 1
        self.made.append(weakref.ref(logits))
        self.most = max(self.most, sum(kept.numel() for made in self.made if (kept := made()) is not None))


def allow(monkeypatch: pytest.MonkeyPatch, logits: int) -> None:
    monkeypatch.setattr(evaluation, "MOST_LOGITS", logits)


@pytest.mark.parametrize(
    ("most", "calls"),
    [
        (100 * ROW, 1),  # nine rows at once
        (9 * ROW, 1),
        (4 * ROW, 3),  # 4, 4 and 1 rows
        (ROW, 9),
        (ROW - 1, 9 * 2),  # five tokens, then one
        (2 * WORDS, 9 * 3),
        (WORDS, 9 * 6),
        (1, 9 * 6),  # a token is the smallest piece
    ],
)
def test_a_model_with_hidden_and_head_makes_pieces_of_rows(monkeypatch, most, calls):
    expected = evaluate(Reader(), TEXT.test, TEXT, LanguageModelling())
    model = Reader()
    alive = Alive(model.head)
    allow(monkeypatch, most)
    found = evaluate(model, TEXT.test, TEXT, LanguageModelling())
    assert found == pytest.approx(expected, rel=1e-6)
    assert found["accuracy"] == expected["accuracy"]
    assert alive.calls == calls
    assert alive.most == min(max(most, WORDS) // WORDS * WORDS if most < ROW else most // ROW * ROW, 9 * ROW)


@pytest.mark.parametrize(("most", "calls", "rows"), [(100 * ROW, 1, 9), (4 * ROW, 3, 4), (ROW, 9, 1), (1, 9, 1)])
def test_any_other_model_makes_whole_rows(monkeypatch, most, calls, rows):
    expected = evaluate(Whole(), TEXT.test, TEXT, LanguageModelling())
    model = Whole()
    alive = Alive(model.reader.head)
    allow(monkeypatch, most)
    assert evaluate(model, TEXT.test, TEXT, LanguageModelling()) == pytest.approx(expected, rel=1e-6)
    assert (alive.calls, alive.most) == (calls, rows * ROW)


def test_a_single_row_is_cut_too(monkeypatch):
    one = Examples(TEXT.test.inputs[:1], TEXT.test.labels[:1])
    expected = evaluate(Reader(), one, TEXT, LanguageModelling())
    model = Reader()
    alive = Alive(model.head)
    allow(monkeypatch, 2 * WORDS)
    assert evaluate(model, one, TEXT, LanguageModelling()) == pytest.approx(expected, rel=1e-6)
    assert (alive.calls, alive.most) == (3, 2 * WORDS)


def test_texts_that_end_early_are_cut_in_pieces_too(monkeypatch):
    """Padding at the end of all rows of a batch is not read, and its labels count nowhere."""
    text = sentences()
    text.test.inputs[:, 4:], text.test.labels[:, 4:] = 0, -100
    expected = evaluate(Reader(), Examples(text.test.inputs[:, :4], text.test.labels[:, :4]), text, LanguageModelling())
    for most in (100 * ROW, 3 * WORDS, WORDS):
        allow(monkeypatch, most)
        assert evaluate(Reader(), text.test, text, LanguageModelling()) == pytest.approx(expected, rel=1e-6)


def test_more_rows_than_a_batch_are_never_held_together(monkeypatch):
    """600 rows are read 250 at a time, and their logits 100 rows at a time."""
    many = Examples(TEXT.train.inputs.repeat(30, 1), TEXT.train.labels.repeat(30, 1))
    expected = evaluate(Reader(), TEXT.train, TEXT, LanguageModelling())
    model = Reader()
    alive = Alive(model.head)
    allow(monkeypatch, 100 * ROW)
    assert evaluate(model, many, TEXT, LanguageModelling()) == pytest.approx(expected, rel=1e-5)
    assert (alive.calls, alive.most) == (3 + 3 + 1, 100 * ROW)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_training_validates_in_pieces(monkeypatch, seeds):
    """Of seeds that train together, one row of each is the smallest piece."""
    settings = Training(epochs=1, batch_size=20, lr=1e-2)

    def curves() -> list[float]:
        models = [Reader(seed) for seed in seeds]
        histories = fit(models, TEXT, settings, objective=LanguageModelling(), seeds=seeds, ledger=Ledger())
        return [history.curves["validation_loss"][0] for history in histories]

    whole = curves()
    allow(monkeypatch, 2 * ROW)
    assert curves() == pytest.approx(whole, rel=1e-6)


def test_the_mode_of_the_model_is_given_back():
    model = Reader().train()
    evaluate(model, TEXT.test, TEXT, LanguageModelling())
    assert model.training


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "head"), [("gpt2", "lm_head"), ("roberta", "lm_head.decoder")])
def test_language_models_of_the_library_make_pieces_too(monkeypatch, kind, head):
    """Two tokens at once of a row of six, some of whose tokens are padding."""
    text = sentences()
    text.test.inputs[::2, 3:], text.test.labels[::2, 3:] = 0, -100
    size = TextSize(width=8, depth=1, heads=2, hidden=16)
    model = language_model(kind, size=size, vocabulary=WORDS, length=6, dropout=0.0)
    expected = evaluate(model, text.test, text, LanguageModelling())
    alive = Alive(model.net.get_submodule(head))
    allow(monkeypatch, 2 * WORDS)
    assert evaluate(model, text.test, text, LanguageModelling()) == pytest.approx(expected, rel=1e-5)
    assert (alive.calls, alive.most) == (9 * 3, 2 * WORDS)
