"""Corpora as a notebook opens them, a seed's own part of one, and the sizes of models that are compared on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from effi.data import Opened, TextDataset, load_corpus
from effi.data.opening import SMALL, TINY
from effi.errors import ParameterError
from effi.mixed_sparsity.flops import Accounting, GPTSize
from effi.models.language import TextSize
from effi.seeds import generator


def open_corpora(
    names: Iterable[str],
    parts: Mapping[str, Mapping[str, Any]],
    *,
    scale: str,
    device: str | torch.device,
    whole: Mapping[str, Any],
) -> dict[str, Opened]:
    """Name in records -> the corpus: of named ones the part that `parts` has at small scales, else `whole` options.

    Both hold options of `load_corpus`; models read `length` - 1 tokens, and learn the one after each. Errors of
    `load_corpus`.
    """
    opened = {}
    for name in names:
        small = name in parts and (scale in SMALL or name in TINY)
        subset = {**(parts[name] if small else whole), "whole": int(not small)}
        options = {key: value for key, value in subset.items() if key != "whole"}
        one = load_corpus(name, **options).to(device)
        opened[one.name] = Opened(name, one, subset)
    return opened


def drawn(data: TextDataset, rows: int | None, seed: int) -> TextDataset:
    """A corpus with so many of its training windows, drawn anew by each seed; None: all. ParameterError for too many.

    Validation and test windows stay.
    """
    if rows is None:
        return data
    count = len(data.train)
    if not 0 < rows <= count:
        raise ParameterError(f"{rows:,} training windows of {data.name} are asked for, which has {count:,}; give fewer")
    chosen = torch.randperm(count, generator=generator(seed, "corpus"))[:rows]
    return replace(data, train=data.train.take(chosen.to(data.train.inputs.device)))


def gpt_size(size: TextSize, tokens: int, vocabulary: int) -> GPTSize:
    """A size as the FLOP ledger takes it."""
    return GPTSize(size.depth, size.width, size.hidden, tokens, vocabulary)


def smaller(size: TextSize, share: float, tokens: int, vocabulary: int) -> TextSize:
    """The size with as many layers and heads, but narrower, whose FLOPs per token are nearest to a share of its own."""
    widths = range(size.heads, size.width + 1, size.heads)
    sizes = [replace(size, width=width, hidden=max(1, round(size.hidden * width / size.width))) for width in widths]
    flops = [sum(Accounting(gpt_size(each, tokens, vocabulary)).flops().values()) for each in sizes]
    return min(zip(sizes, flops, strict=True), key=lambda pair: abs(pair[1] - share * flops[-1]))[0]
