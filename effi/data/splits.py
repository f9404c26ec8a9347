"""Seeded, stratified subsets: the same seed gives the same examples whatever else is asked for."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from torch import Tensor

from effi.data.examples import Examples
from effi.errors import DataError

# Numbers are stratified by tenths of their order, or by fewer parts, so that each has five of them.
TENTHS, FEWEST = 10, 5


def strata(labels: Tensor) -> Tensor:
    """What labels (n,) are stratified by, int64 (n,): classes as they are, numbers by their place in order."""
    if not labels.is_floating_point():
        return labels
    count = max(1, min(TENTHS, len(labels) // FEWEST))
    return labels.argsort(stable=True).argsort() * count // max(1, len(labels))


def ranks(labels: Tensor, seed: int) -> Tensor:
    """Place of each example within its own class in a seeded random order, int64 (n,), from 0."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    classes = labels.numpy()[shuffled]
    by_class = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(labels), dtype=np.int64)
    rank[shuffled[by_class]] = np.arange(len(labels)) - starts[classes[by_class]]
    return torch.from_numpy(rank)


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """Permutation int64 (n,) of which every prefix and suffix holds each stratum in its share, give or take one."""
    labels = strata(labels)
    counts = torch.bincount(labels)
    # One offset per class decides which classes get the odd example of a short prefix; below a half, so that
    # even a class with one example comes early and is trained on.
    offsets = torch.from_numpy(np.random.default_rng(seed).random(len(counts)) / 2)
    share = (ranks(labels, seed) + offsets[labels]) / counts[labels]
    return torch.argsort(share, stable=True)


def subset(examples: Examples, order: Tensor) -> Examples:
    """The examples named by `order`, kept in the order of the data set."""
    if len(order) == len(examples):
        return examples
    return examples.take(order.sort().values)


def hold_out(examples: Examples, train: int | None, validation: int | float, seed: int) -> tuple[Examples, Examples]:
    """(train, validation), disjoint; a float `validation` is a share of the training examples asked for.

    Raises DataError when there are too few examples or nothing is left to train on.
    """
    available = len(examples)
    base = available if train is None else train
    # Any share but 0 holds an example; rounding first keeps 0.07 of 100 at 7.
    held = validation if isinstance(validation, int) else ceil(round(validation * base, 6))
    kept = available - held if train is None else train
    if held < 0 or kept < 1 or kept + held > available:
        raise DataError(
            f"train={train} and validation={validation} cannot be taken from the {available} examples of the "
            "training set: ask for fewer, or for a validation share between 0 and 1"
        )
    order = stratified_order(examples.labels, seed)
    return subset(examples, order[:kept]), subset(examples, order[available - held :])


def shorten(examples: Examples, count: int | None, seed: int, part: str = "test") -> Examples:
    """A stratified part of the `part` set, or all of it; DataError when it has fewer than `count` examples."""
    if count is None:
        return examples
    if not 1 <= count <= len(examples):
        raise DataError(
            f"{part}={count} cannot be taken from the {len(examples)} {part} examples: ask for 1 to {len(examples)}"
        )
    return subset(examples, stratified_order(examples.labels, seed)[:count])


def fifth(labels: Tensor, seed: int) -> Tensor:
    """True for a seeded fifth of every stratum, one example at least: the test part of a reader's own data."""
    labels = strata(labels)
    share = (torch.bincount(labels) / 5).round().clamp(min=1)
    return ranks(labels, seed) < share[labels]
