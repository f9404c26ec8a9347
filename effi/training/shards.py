"""A checkpoint that several processes write together, and any number of them reads: torch's, as safetensors."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from effi.errors import TrainingError
from effi.training.checkpoint import Checkpoint, Kept, write
from effi.training.ranks import Ranks

FACTS = "facts.json"


class Shards(Checkpoint):
    """The folders `path`.NUMBER.shards, of which the newest with facts counts, and `path`.beat of the first process.

    All processes see these folders, and call every method together. `weights` say what of which size lies in parts.
    """

    def __init__(self, path: Path, ranks: Ranks, weights: Mapping[str, Tensor]) -> None:
        super().__init__(path)
        self.path, self.ranks, self.weights = path, ranks, weights
        self.file = ranks.told(lambda: max(self._whole(), default=self._folder(0)))
        self.written = ranks.told(lambda: bool(self._whole()))

    def load(self) -> Kept | None:
        """What was kept; None where nothing was."""
        if not self.written:
            return None
        reader = HuggingFaceStorageReader(str(self.file))
        known = cast(dict[str, TensorStorageMetadata], reader.read_metadata().state_dict_metadata)
        tensors = {name: self._room(name, each) for name, each in known.items()}
        with _silent():
            dcp.load(tensors, storage_reader=reader, no_dist=self.ranks.size == 1)
        return Kept(tensors, json.loads((self.file / FACTS).read_text()))

    def lost(self) -> float:
        """As of one process: the seconds that the first one lost."""
        return self.ranks.told(super().lost)

    def due(self) -> bool:
        """Whether the first process finds it time to save, or any was asked to end."""
        due, self.ending = self.ranks.any(self.ranks.first and super().due(), self.ending)
        return due or self.ending

    def save(self, kept: Kept) -> None:
        """Write a new folder, then delete the older ones; each process writes a part of what all have."""
        self.file = self.ranks.told(self._fresh)
        writer = HuggingFaceStorageWriter(str(self.file), save_distributed=True)
        tensors = {name: value.contiguous() for name, value in kept.tensors.items()}
        try:
            with _silent():
                dcp.save(tensors, storage_writer=writer, no_dist=self.ranks.size == 1)
        except (OSError, CheckpointException) as error:
            raise TrainingError(
                f"{self.file} could not be written ({error}); free space or make it writable"
            ) from error
        if self.ranks.first:
            # Last: without facts a folder is none.
            write(self.file / FACTS, json.dumps(kept.facts).encode())
            for folder in self._all():
                if folder != self.file:
                    shutil.rmtree(folder)
        self.saved()

    def mark(self, lost: float) -> None:
        """Of the first process alone."""
        if self.ranks.first:
            super().mark(lost)

    def _room(self, name: str, known: TensorStorageMetadata) -> Tensor:
        """A tensor to read into; of a weight that lies in parts and of its moments a part."""
        kind, _, rest = name.partition("/")
        weight = self.weights.get({"weights": rest, "moments": rest.rpartition("/")[0]}.get(kind, ""))
        if isinstance(weight, DTensor) and weight.shape == known.size:
            return torch.empty_like(weight, dtype=known.properties.dtype)
        return torch.empty(known.size, dtype=known.properties.dtype)

    def _fresh(self) -> Path:
        """A folder for the next checkpoint, without what a killed run may have left there."""
        number = int(self.file.suffixes[-2][1:]) + 1 if self.written else 0
        shutil.rmtree(self._folder(number), ignore_errors=True)
        return self._folder(number)

    def _folder(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number:06d}.shards")

    def _all(self) -> list[Path]:
        return list(self.path.parent.glob(f"{self.path.name}.{'[0-9]' * 6}.shards"))

    def _whole(self) -> list[Path]:
        return [folder for folder in self._all() if (folder / FACTS).exists()]


def _silent() -> warnings.catch_warnings[None]:
    """Without torch's notice that one process alone was meant."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)
