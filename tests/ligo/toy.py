"""Tiny pairs on a text and on images of their own, which train a step in a few milliseconds."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from effi.cost import Ledger
from effi.data import Dataset, Examples, TextDataset, causal
from effi.ligo.building import build, objective_of
from effi.ligo.settings import Model, Pair
from effi.ligo.task import Task, unwatched
from effi.models.language import TextSize
from effi.training import Training

VOCABULARY, TOKENS, ROWS, BATCH, STEPS = 32, 16, 160, 8, 24
SMALL, LARGE = TextSize(16, 2, 2, 32), TextSize(24, 4, 3, 48)
PAIRS = {kind: Pair(Model(kind, SMALL, std=0.1), Model(kind, LARGE, std=0.1)) for kind in ("gpt", "vit", "bert")}
TRAINING = Training(
    steps=STEPS,
    batch_size=BATCH,
    optimizer="adamw",
    lr=1e-2,
    weight_decay=0.1,
    clip=1.0,
    schedule="linear",
    warmup=0.1,
    eval_every="8 steps",
)


def text() -> TextDataset:
    """Each token is the one before plus one of three numbers."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(1, 4, (ROWS + 40, TOKENS + 1), generator=generator)
    rows = (steps.cumsum(1) % VOCABULARY).int()
    parts = [causal(part) for part in rows.split([ROWS, 20, 20])]
    named: dict[str, Any] = {"classes": (), "checksum": "sha256:toy", "variant": "made here"}
    return TextDataset("toy", *parts, **named, vocabulary=VOCABULARY, corpus=rows[:0], pad=-1)


def images() -> Dataset:
    """Two classes, bright above or below."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(ROWS + 40) % 2
    pixels = torch.randint(0, 128, (ROWS + 40, 1, 8, 8), generator=generator)
    pixels[labels == 1, :, :4] += 100
    pixels[labels == 0, :, 4:] += 100
    cut = [ROWS, 20, 20]
    parts = [Examples(*each) for each in zip(pixels.to(torch.uint8).split(cut), labels.split(cut), strict=True)]
    named: dict[str, Any] = {"classes": ("a", "b"), "checksum": "sha256:dots", "variant": "made here"}
    return Dataset("dots", *parts, **named, mean=(0.5,), std=(0.3,))


def data(kind: str) -> TextDataset | Dataset:
    return images() if kind == "vit" else text()


def task(kind: Any = "gpt", training: Training = TRAINING, *, grows: bool = True, seed: int = 0, **more: Any) -> Task:
    """A task whose small model is as it was drawn."""
    pair, one = PAIRS[kind], data(kind)
    make = partial(build, pair.large, one, seed)
    more.setdefault("small", build(pair.small, one, seed) if grows else None)
    ledger = unwatched(more.pop("ledger", None) or Ledger())
    return Task(make(), one, training, objective_of(one), seed, ledger, make, **more)
