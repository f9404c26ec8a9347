"""Windows of a corpus for a model that guesses hidden tokens, other ones hidden each time that a window is read."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from effi.data import Examples, TextDataset, masked
from effi.data.tokens import SPECIAL_IDS
from effi.errors import ParameterError
from effi.seeds import derive

# Of the windows that are held out, whatever the seed: losses of all seeds are then of the same guesses.
HELD = 0
MOST_BYTES = 2**31  # of a training split in memory, its copies counted


def most_passes(data: TextDataset) -> int:
    """Copies of the training windows of a causal corpus that memory is to hold, at least one.

    A training that reads the windows more often meets the same masks again, as BERT's does, with ten copies for forty
    epochs (Liu et al. 2019, Sec. 4.1).
    """
    train = data.train
    return max(1, MOST_BYTES // (train.inputs.nbytes + train.labels.nbytes))


def masked_corpus(data: TextDataset, passes: int = 1, *, seed: int = 0, share: float = 0.15) -> TextDataset:
    """A causal corpus as one of hidden tokens: its windows, whole, with the labels of what is not hidden IGNORED.

    Every training window comes in `passes` copies with masks of their own, drawn by the `seed`: as many as a training
    makes epochs are RoBERTa's dynamic masks (Liu et al. 2019, Sec. 4.1), one is a static mask. So an epoch of this
    corpus is `passes` of the other. Validation and test windows are hidden once, alike at every seed. Rules of hiding,
    and the error for a `share`, are those of `effi.data.masked`; ParameterError for less than one pass, and for a
    corpus whose labels are not the next tokens.
    """
    if passes < 1:
        raise ParameterError(f"passes={passes} over a masked corpus: give 1 or more, the epochs of the training")
    rows = windows(data.train, data.name)
    copies = [_hidden(data, rows, derive(seed, f"mask {k}"), share) for k in range(passes)]
    train = Examples(torch.cat([one.inputs for one in copies]), torch.cat([one.labels for one in copies]))
    validation, test = (
        _hidden(data, windows(part, data.name), derive(HELD, f"mask {split}"), share)
        for split, part in data.splits.items()
        if split != "train"
    )
    return replace(data, train=train, validation=validation, test=test)


def windows(examples: Examples, name: str = "the corpus") -> Tensor:
    """Windows int32 (n, T + 1) of examples (n, T) labelled with the next tokens.

    ParameterError, which names the corpus, for other labels.
    """
    inputs, labels = examples.inputs, examples.labels
    if inputs.shape != labels.shape or not inputs[:, 1:].equal(labels[:, :-1].to(inputs.dtype)):
        raise ParameterError(f'{name} is not labelled with next tokens; load it with objective="causal" to hide tokens')
    return torch.cat([inputs, labels[:, -1:].to(inputs.dtype)], 1)


def _hidden(data: TextDataset, rows: Tensor, seed: int, share: float) -> Examples:
    special = data.tokenizer.special if data.tokenizer else SPECIAL_IDS
    # Drawn on the CPU, so that every device hides the same tokens.
    drawn = masked(rows.cpu(), data.vocabulary, special[4], seed, share=share, special=special)
    return drawn.to(rows.device)
