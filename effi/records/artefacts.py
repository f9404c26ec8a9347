"""What is too large for a record and costs too much to make twice: tensors in files, found again by what made them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from effi import paths
from effi.errors import RecordError
from effi.records import store
from effi.records.identity import canonical, essential, identity
from effi.records.reading import Reads
from effi.training.ranks import world


class Artefact(NamedTuple):
    """Named tensors on the CPU, and numbers about them."""

    tensors: dict[str, Tensor]
    facts: dict[str, float]


# What makes artefacts may lie in rooms that know nothing of records, and gives tensors and facts as any pair.
Make = Callable[[Any, int], tuple[dict[str, Tensor], dict[str, Any]]]


@dataclass(frozen=True)
class Artefacts:
    """Files of what one function makes of settings and a seed; `same` is what else must not have changed.

    `sources` are those whose files count, the present one first; `reads` is what the function takes from outside.
    """

    folder: Path
    function: Make
    same: Mapping[str, Any]
    sources: tuple[str, ...] = ("",)
    reads: Reads = field(default_factory=Reads)

    @property
    def counted(self) -> Make:
        """What of this counts for a function that uses it: how the files are made."""
        return self.function

    def get(self, settings: Any, seed: int) -> Artefact:
        """What was kept for these settings and this seed, or else made now and kept; two processes make it once.

        Processes that torchrun started make it together, and all have what the first one then has.
        """
        path, ranks = self._path(settings, seed), world()
        what = f"{self.function.__name__} of seed {seed}"
        with store.locked(path, path.stem, what=what) if ranks.first else nullcontext():
            found = ranks.told(lambda: next(filter(None, map(_read, self._paths(settings, seed))), None))
            if found is None:
                made = Artefact(*self.function(settings, seed))
                found = ranks.told(lambda: self._write(path, made))
            return found

    def keep(self, settings: Any, seed: int, found: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
        """Keep what was made elsewhere, such as by an arm whose training is timed."""
        path = self._path(settings, seed)
        if world().first:
            with store.locked(path, path.stem):
                self._write(path, Artefact(*found))

    def _path(self, settings: Any, seed: int) -> Path:
        return next(self._paths(settings, seed))

    def _paths(self, settings: Any, seed: int) -> Iterator[Path]:
        self.reads.check_named(f"{self.function.__name__} of seed {seed}", canonical(settings), self.same)
        same = {**self.same, "settings": essential(settings), "seed": seed}
        for source in self.sources:
            yield self.folder / f"{identity({**same, 'source': source})}.safetensors"

    def _write(self, path: Path, found: Artefact) -> Artefact:
        from safetensors.torch import save

        put(path, save({n: t.contiguous() for n, t in found.tensors.items()}, {"facts": json.dumps(found.facts)}))
        return found


def put(path: Path, content: bytes) -> None:
    """Replace the file of an artefact; RecordError when the disk refuses."""
    try:
        paths.replace(path, content)
    except OSError as error:
        raise RecordError(f"{path.parent} cannot be written ({error.strerror}); free space there") from error


def _read(path: Path) -> Artefact | None:
    """What a file holds; None for one that is not there, or was torn by a full disk or another program."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
            return Artefact(tensors, json.loads(file.metadata()["facts"]))
    except (OSError, SafetensorError):
        return None
