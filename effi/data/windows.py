"""Corpora as a notebook opens them: held-out windows evenly spaced, training windows drawn anew by each seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from effi.data.examples import Examples, TextDataset
from effi.data.opening import SMALL, TINY, Opened
from effi.data.order import Permutation, places
from effi.data.stored import on_disk, resident
from effi.data.text import load_corpus
from effi.errors import ParameterError
from effi.seeds import derive, generator

HELD = ("validation", "test")


def open_corpora(
    names: Iterable[str],
    parts: Mapping[str, Mapping[str, Any]],
    *,
    scale: str,
    device: str | torch.device,
    whole: Mapping[str, Any],
) -> dict[str, Opened]:
    """Name in records -> the corpus: of named ones the part that `parts` has at small scales, else `whole` options.

    Both hold options of `load_corpus`, and as `validation` and `test` the most windows of these; models read `length`
    - 1 tokens, and learn the one after each. Errors of `load_corpus`.
    """
    opened = {}
    for name in names:
        small = name in parts and (scale in SMALL or name in TINY)
        subset = {**(parts[name] if small else whole), "whole": int(not small)}
        options = {key: value for key, value in subset.items() if key not in ("whole", *HELD)}
        one = spaced(load_corpus(name, **options), subset).to(device)
        opened[one.name] = Opened(name, one, subset)
    return opened


def spaced(data: TextDataset, most: Mapping[str, Any]) -> TextDataset:
    """A corpus with at most so many windows of `validation` and of `test`, evenly spaced over each text."""
    parts: dict[str, Any] = {}
    for split in HELD:
        examples, count = data.splits[split], most.get(split)
        if count is not None and count < len(examples):
            parts[split] = examples.take(places(len(examples), count).to(examples.inputs.device))
    return replace(data, **parts)


def drawn(data: TextDataset, rows: int | None, seed: int) -> TextDataset:
    """A corpus with so many of its training windows, drawn anew by each seed; None: all. ParameterError for too many.

    Validation and test windows stay.
    """
    if rows is None:
        return data
    count = len(data.train)
    if not 0 < rows <= count:
        raise ParameterError(f"{rows:,} training windows of {data.name} are asked for, which has {count:,}; give fewer")
    if on_disk(data.train.inputs) is not None:
        few = data.train.take(Permutation(count, derive(seed, "corpus"))(torch.arange(rows)))
        return replace(data, train=Examples(resident(few.inputs), resident(few.labels)))
    chosen = torch.randperm(count, generator=generator(seed, "corpus"))[:rows]
    return replace(data, train=data.train.take(chosen.to(data.train.inputs.device)))
