"""What a loaded data set is: images or token ids with labels, in three splits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from effi.data.stored import taken
from effi.data.transforms import normalise

if TYPE_CHECKING:
    from effi.data.tokens import Tokenizer

IGNORED = -100


@dataclass(frozen=True)
class Examples:
    """Images uint8 (n, channels, height, width) or token ids int32 (n, length), with labels (n,).

    Labels are classes int64 or numbers float32. Classes are (n, length) where every token has one; IGNORED among them
    counts nowhere. What outgrew memory is read from disk when it is indexed (see `stored`).
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Examples:
        """The same examples on a device."""
        return Examples(self.inputs.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> Examples:
        """The examples at `indices`, int64 (k,), in that order."""
        return Examples(taken(self.inputs, indices), taken(self.labels, indices))


@dataclass(frozen=True)
class Splits:
    """What every data set has: three splits, the names of its classes, and the `checksum` of the whole set."""

    name: str
    train: Examples
    validation: Examples
    test: Examples
    classes: tuple[str, ...]
    checksum: str
    variant: str

    @property
    def splits(self) -> dict[str, Examples]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def to(self, device: torch.device | str) -> Self:
        """The same data set with its three splits on a device."""
        train, validation, test = (part.to(device) for part in self.splits.values())
        return replace(self, train=train, validation=validation, test=test)


@dataclass(frozen=True)
class Dataset(Splits):
    """Images in three splits; `mean` and `std` per channel of train in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    notice: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train.inputs.shape[1:]
        return channels, height, width

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation on the device of the images, so that a batch waits for no copy."""
        device = self.train.inputs.device
        return torch.tensor(self.mean, device=device), torch.tensor(self.std, device=device)

    def prepare(self, inputs: Tensor) -> Tensor:
        """What a model reads: uint8 (..., channels, height, width) to normalised float32."""
        return normalise(inputs, *self._scale)


@dataclass(frozen=True)
class TextDataset(Splits):
    """Token ids in three splits, padded at the end with `pad`; `vocabulary` counts the ids.

    `corpus` holds token ids int32 (n, length) of unlabelled text of the same kind, full rows without padding;
    `tokenizer` made all ids. Labels that are ids or numbers have no `classes`.
    """

    vocabulary: int
    corpus: Tensor
    pad: int = 0
    notice: str | None = None
    tokenizer: Tokenizer | None = None

    def prepare(self, inputs: Tensor) -> Tensor:
        """What a model reads: ids int64 (..., T), cut at the longest text of the batch."""
        used = (inputs != self.pad).flatten(0, -2).any(0).nonzero()
        return inputs[..., : int(used.max()) + 1 if len(used) else 1].long()


def checksum(train: Examples, test: Examples) -> str:
    """`sha256:...` over every input and label, training set first."""
    content = hashlib.sha256()
    for part in (train, test):
        content.update(part.inputs.contiguous().numpy().data)
        content.update(part.labels.contiguous().numpy().data)
    return f"sha256:{content.hexdigest()}"
