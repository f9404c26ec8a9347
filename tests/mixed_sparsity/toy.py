"""A tiny GPT on a text of its own, which trains a step in a few milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from effi.cost import Ledger
from effi.data import TextDataset, causal
from effi.mixed_sparsity.course import size_of
from effi.mixed_sparsity.experiment import build, prunable
from effi.mixed_sparsity.flops import Accounting
from effi.mixed_sparsity.recipes import Task
from effi.mixed_sparsity.settings import Model
from effi.models.language import TextSize
from effi.training import Training, checkpoint
from tests.training.test_checkpoints import Cut, cut_at

VOCABULARY, TOKENS, ROWS, BATCH, STEPS = 32, 16, 160, 8, 40
SIZE = TextSize(width=16, depth=2, heads=2, hidden=32)
MODEL = Model(SIZE)
TRAINING = Training(
    steps=STEPS,
    batch_size=BATCH,
    optimizer="adamw",
    lr=3e-2,
    weight_decay=0.1,
    betas=(0.9, 0.95),
    clip=1.0,
    schedule="cosine",
    warmup=0.05,
    floor=0.1,
    eval_every="10 steps",
)


def text(tokenizer: Any = None) -> TextDataset:
    """Each token is the one before plus one of three numbers, so that a model soon learns which three may follow."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(1, 4, (ROWS + 40, TOKENS + 1), generator=generator)
    rows = (steps.cumsum(1) % VOCABULARY).int()
    parts = [causal(part) for part in rows.split([ROWS, 20, 20])]
    named: dict[str, Any] = {"classes": (), "checksum": "sha256:toy", "variant": "made here"}
    # No id is padding.
    more: dict[str, Any] = {"vocabulary": VOCABULARY, "corpus": rows[:0], "pad": -1, "tokenizer": tokenizer}
    return TextDataset("toy", *parts, **named, **more)


def task(
    training: Training = TRAINING, model: Model = MODEL, *, data: TextDataset | None = None, **options: Any
) -> Task:
    data, ledger, seed = data or text(), options.pop("ledger", None) or Ledger(), options.pop("seed", 0)
    made = build(model, data, seed)
    options.setdefault("reference", size_of(made, TOKENS))
    return Task(made, data, training, seed, ledger, prunable(made, model), **options)


def accounting(convention: Any = "square", head: Any = "sparse") -> Accounting:
    return Accounting(size_of(build(MODEL, text(), 0), TOKENS), convention, head)


@contextmanager
def cut_off(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """A training in here has checkpoints at every step, and is cut off at this call of a last listener."""
    fit = Task.fit
    with monkeypatch.context() as cut, pytest.raises(Cut):
        cut.setattr(checkpoint, "EVERY_S", 0.0)
        late = cut_at(after)
        cut.setattr(Task, "fit", lambda self, **how: fit(self, **how | {"after_step": [*how["after_step"], late]}))
        yield
