"""What a language model must beat before it has learned anything: counts of words, alone and after one other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from effi.data import Examples, TextDataset
from effi.errors import ParameterError, did_you_mean

if TYPE_CHECKING:
    from effi.records import Arm

KINDS = ("unigram", "bigram")
SHARES = tuple(np.arange(0.1, 1.0, 0.1))  # of the bigram in its mixture with the unigram
WINDOWS = 2**16  # that are counted at once
Words = tuple[np.ndarray, np.ndarray]
Chance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def train(arm: Arm, data: TextDataset) -> None:
    """Count for the baseline that the arm's variant names, on the seconds of its ledger, and record what it is worth.

    Raises ParameterError as `fit`.
    """
    if arm.dry_run:
        return
    with arm.ledger.phase("train"):
        metrics = fit(arm.variant or arm.name, data)
    arm.record(metrics)


def fit(kind: str, data: TextDataset) -> dict[str, float]:
    """Loss in nats and accuracy on validation and test of next words by their counts in the training windows.

    A "unigram" says how often each word comes, with one more of each; a "bigram" how often it follows the last one,
    mixed with the unigram by the share that the validation split likes best. ParameterError for another kind.
    """
    if kind not in KINDS:
        raise ParameterError(f"unknown counted baseline {kind!r}{did_you_mean(kind, KINDS)}")
    pairs = {name: _pairs(data.splits[name]) for name in ("validation", "test")}
    counts = np.zeros(data.vocabulary, np.int64)
    for _, after in _portions(data.train):
        counts += np.bincount(after, minlength=data.vocabulary)
    single = (counts + 1) / (counts.sum() + data.vocabulary)
    if kind == "unigram":
        best = int(single.argmax())
        return _scores(pairs, lambda _, words: single[words], lambda words: np.full(len(words), best))
    return _bigram(pairs, single, _Follows(_portions(data.train), data.vocabulary))


class _Follows:
    """How often each word follows each other one: counts of those pairs alone that were read."""

    def __init__(self, pairs: Iterable[Words], vocabulary: int) -> None:
        self.vocabulary, self.keys, self.counts = vocabulary, np.empty(0, np.int64), np.empty(0, np.int64)
        for before, after in pairs:
            keys, counts = np.unique(before * vocabulary + after, return_counts=True)
            self.keys, places = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
            self.counts = np.bincount(places, np.concatenate([self.counts, counts])).astype(np.int64)
        self.read = np.bincount(self.keys // vocabulary, weights=self.counts, minlength=vocabulary)

    def share(self, last: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Of the times that a word was read, those in which another followed; 0 for one that never was."""
        wanted = last * self.vocabulary + words
        places = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        found = np.where(self.keys[places] == wanted, self.counts[places], 0)
        return np.asarray(found / np.maximum(self.read[last], 1))

    def most(self, otherwise: int) -> np.ndarray:
        """For each word the one that follows it most often."""
        said = np.full(self.vocabulary, otherwise)
        order = np.argsort(self.counts, kind="stable")
        said[self.keys[order] // self.vocabulary] = self.keys[order] % self.vocabulary  # the last one written stays
        return said


def _bigram(pairs: dict[str, Words], single: np.ndarray, follows: _Follows) -> dict[str, float]:
    said = follows.most(int(single.argmax()))

    def mixed(share: float) -> Chance:
        def chance(last: np.ndarray, words: np.ndarray) -> np.ndarray:
            known = np.where(follows.read[last] > 0, share, 0.0)
            return np.asarray(known * follows.share(last, words) + (1 - known) * single[words])

        return chance

    found = [_scores(pairs, mixed(share), lambda last: said[last]) for share in SHARES]
    return min(found, key=lambda each: each["validation_loss"])


def _pairs(examples: Examples, start: int = 0, end: int | None = None) -> Words:
    """Each word that is read, and the one to be said after it, in some of the windows."""
    inputs, labels = examples.inputs[start:end], examples.labels[start:end]
    return inputs.flatten().long().cpu().numpy(), labels.flatten().cpu().numpy()


def _portions(examples: Examples) -> Iterator[Words]:
    """As `_pairs`, of all windows, some at a time: a corpus may be larger than memory."""
    return (_pairs(examples, start, start + WINDOWS) for start in range(0, len(examples), WINDOWS))


def _scores(
    pairs: dict[str, Words],
    chance: Chance,
    said: Callable[[np.ndarray], np.ndarray],
) -> dict[str, float]:
    """Mean losses and hit rates on what a model is validated and tested on."""
    found = {}
    for split in ("validation", "test"):
        last, words = pairs[split]
        found[f"{split}_loss"] = float(-np.log(chance(last, words)).mean())
        found[f"{split}_accuracy"] = float((said(last) == words).mean())
    return found
