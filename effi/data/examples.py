"""What a loaded data set is: uint8 images with labels, in three splits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """Images uint8 (n, channels, height, width) with their labels int64 (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Examples:
        """The same examples on a device."""
        return Examples(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> Examples:
        """The examples at `indices`, int64 (k,), in that order."""
        return Examples(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Source:
    """A whole data set as its reader found it, before any subset."""

    train: Examples
    test: Examples
    classes: tuple[str, ...]
    variant: str
    checksum: str
    notice: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Three splits; `mean` and `std` per channel of train in [0, 1], `checksum` of the set before any subset."""

    name: str
    train: Examples
    validation: Examples
    test: Examples
    classes: tuple[str, ...]
    checksum: str
    variant: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notice: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set with its three splits on a device."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)


def checksum(train: Examples, test: Examples) -> str:
    """`sha256:...` over every pixel and label, training set first."""
    content = hashlib.sha256()
    for part in (train, test):
        content.update(part.images.contiguous().numpy())
        content.update(part.labels.contiguous().numpy())
    return f"sha256:{content.hexdigest()}"
