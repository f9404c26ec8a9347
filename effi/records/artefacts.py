"""What is too large for a record and costs too much to make twice: tensors in files, found again by what made them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from effi import paths
from effi.errors import RecordError
from effi.records import store
from effi.records.identity import canonical, identity


class Artefact(NamedTuple):
    """Named tensors on the CPU, and numbers about them."""

    tensors: dict[str, Tensor]
    facts: dict[str, float]


@dataclass(frozen=True)
class Artefacts:
    """Files of what one function makes of settings and a seed; `same` is what else must not have changed."""

    folder: Path
    function: Callable[[Any, int], Artefact]
    same: Mapping[str, Any]

    def get(self, settings: Any, seed: int) -> Artefact:
        """What was kept for these settings and this seed, or else made now and kept; two processes make it once."""
        with store.locked(self._path(settings, seed), self._name(settings, seed)):
            found = self._read(settings, seed)
            if found is None:
                found = self.function(settings, seed)
                self._write(settings, seed, found)
            return found

    def keep(self, settings: Any, seed: int, found: Artefact) -> None:
        """Keep what was made elsewhere, such as by an arm whose training is timed."""
        with store.locked(self._path(settings, seed), self._name(settings, seed)):
            self._write(settings, seed, found)

    def _name(self, settings: Any, seed: int) -> str:
        return identity({**self.same, "settings": canonical(settings), "seed": seed})

    def _path(self, settings: Any, seed: int) -> Path:
        return self.folder / f"{self._name(settings, seed)}.safetensors"

    def _read(self, settings: Any, seed: int) -> Artefact | None:
        from safetensors import SafetensorError, safe_open

        path = self._path(settings, seed)
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
                return Artefact(tensors, json.loads(file.metadata()["facts"]))
        # A file torn by a full disk or another program is made anew, as one that is not there.
        except (OSError, SafetensorError):
            return None

    def _write(self, settings: Any, seed: int, found: Artefact) -> None:
        from safetensors.torch import save

        content = save({n: t.contiguous() for n, t in found.tensors.items()}, {"facts": json.dumps(found.facts)})
        try:
            paths.replace(self._path(settings, seed), content)
        except OSError as error:
            raise RecordError(f"{self.folder} cannot be written ({error.strerror}); free space there") from error
