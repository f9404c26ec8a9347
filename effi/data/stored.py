"""Examples that lie on disk: read by index, and otherwise what a tensor is to a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from effi.errors import DataError

# Bytes of a part of a stored set that are read into memory, and onto the device, once and for all.
RESIDENT = 2**28
PIECE = 2**24
Read = Callable[[np.ndarray], Tensor]


class OnDisk(DataError, AttributeError):
    """What only a tensor in memory can do, asked of examples on disk."""


class Stored:
    """Rows (n, ...) behind `read`, which gives those at int64 (k,); what is read goes to `device`.

    Indexed by a number, a slice or a tensor of integers of any shape, split, sent to a device as a tensor is; what else
    a tensor can do raises a DataError that names the set.
    """

    def __init__(
        self, name: str, read: Read, count: int, chosen: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.name, self.device = name, torch.device(device)
        self._read, self._count, self._chosen = read, count, chosen
        none = read(np.empty(0, dtype=np.int64))
        self.dtype, self.shape = none.dtype, torch.Size((len(self), *none.shape[1:]))

    @property
    def is_cuda(self) -> bool:
        """Whether what is read goes to a GPU."""
        return self.device.type == "cuda"

    @property
    def nbytes(self) -> int:
        """What all rows would take in memory."""
        return self.shape.numel() * self.dtype.itemsize

    def __len__(self) -> int:
        return self._count if self._chosen is None else len(self._chosen)

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, slice):
            index = torch.arange(*index.indices(len(self)))
        elif isinstance(index, int):
            index = torch.tensor(index)
        if not isinstance(index, Tensor) or index.dtype == torch.bool:
            raise self._whole("indexing by anything but whole examples")
        rows = self._rows(index.reshape(-1).cpu())
        rows = rows.reshape(*index.shape, *self.shape[1:])
        return rows.pin_memory().to(self.device, non_blocking=True) if self.is_cuda else rows

    def _rows(self, index: Tensor) -> Tensor:
        counted = torch.where(index < 0, index + len(self), index)
        if len(counted) and not 0 <= int(counted.min()) <= int(counted.max()) < len(self):
            raise IndexError(f"index out of range for the {len(self)} rows of {self.name}")
        return self._read((counted if self._chosen is None else self._chosen[counted]).numpy())

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows in order, `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: torch.device | str) -> Stored:
        """The same rows, read to a device."""
        return Stored(self.name, self._read, self._count, self._chosen, device)

    def take(self, indices: Tensor) -> Stored:
        """The rows at int64 (k,), still on disk."""
        chosen = indices.cpu() if self._chosen is None else self._chosen[indices.cpu()]
        return Stored(self.name, self._read, self._count, chosen, self.device)

    def then(self, change: Callable[[Tensor, np.ndarray], Tensor]) -> Stored:
        """The rows as `change` leaves them when they are read: rows (k, ...) and their numbers (k,) -> rows."""
        read = self._read
        return Stored(self.name, lambda places: change(read(places), places), self._count, self._chosen, self.device)

    def __getattr__(self, name: str) -> Any:
        # A copy or a pickle asks for its own names, and wants to hear that there are none.
        raise AttributeError(name) if name.startswith("_") else self._whole(name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        stored = next((each for each in _flat(args) if isinstance(each, Stored)), None)
        raise stored._whole(function.__name__) if stored else TypeError(function.__name__)

    def _whole(self, what: str) -> OnDisk:
        return OnDisk(
            f"{self.name} is larger than memory and read from disk a batch at a time; {what} needs it whole: take a "
            "part of it (rows, corpus or train)"
        )


def _flat(args: Any) -> Iterator[Any]:
    for each in args:
        yield from _flat(each) if isinstance(each, list | tuple) else (each,)


def as_tensor(stored: Stored) -> Tensor:
    """The same object, for the type checker: examples hold tensors or what stands in for them."""
    return cast(Tensor, stored)


def on_disk(values: object) -> Stored | None:
    """What stands in for a tensor of examples, or None for a tensor."""
    return values if isinstance(values, Stored) else None


def taken(values: Tensor, indices: Tensor) -> Tensor:
    """The rows at int64 (k,); of what is on disk they stay there."""
    stored = on_disk(values)
    return values[indices] if stored is None else as_tensor(stored.take(indices))


def resident(values: Tensor) -> Tensor:
    """The rows in memory where they take no more than RESIDENT bytes; others stay on disk."""
    return values if on_disk(values) is None or values.nbytes > RESIDENT else values[:]


def portions(values: Tensor) -> Iterator[Tensor]:
    """All rows in order, some PIECE bytes at a time."""
    each = max(1, values.nbytes // max(1, len(values)))
    return iter(values.split(max(1, PIECE // each)))
