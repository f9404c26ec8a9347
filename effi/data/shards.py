"""Shards: a set that outgrew memory, on disk as a training reads it; made once, in parallel, found again by content.

They lie in a folder `shards/KEY` of a data folder; the key is a hash of what the set holds and how it is coded. Its
`manifest.json` has checksums of sources and shards, counts and the tokenizer, and is there once all shards are whole;
until then `progress.jsonl` has those that are, after which a run that was killed goes on. Beside these, `shards/known`
notes what was found in files, which holds until one of them has another size or time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from effi import paths
from effi.data import decoding, files, tokenising, writing
from effi.errors import DataError

# Part of every key: another one makes all shards anew.
FORMAT = 1
# Bytes of source or of pixels that become a shard: what a kill costs at most, times the workers.
SHARD = 2**26
MANIFEST, PROGRESS = "manifest.json", "progress.jsonl"
IDLE_S = 60


@dataclass(frozen=True)
class Plan:
    """What makes a set's shards: `work(path, *arguments)` for each file in `tasks` writes it and tells its facts.

    `facts` of the whole set stand in the manifest beside those of the shards.
    """

    name: str
    folder: Path
    facts: Mapping[str, Any]
    work: Callable[..., dict[str, Any]]
    tasks: Mapping[str, tuple[Any, ...]]


class Rows:
    """The rows of shards one after another, each of shape `each`; memory-mapped when they are first read."""

    def __init__(self, shards: Sequence[Path], counts: Sequence[int], kind: str, each: tuple[int, ...] = ()) -> None:
        self._shards, self._kind, self._each = shards, np.dtype(kind), each
        self._starts = [0, *np.cumsum(counts, dtype=np.int64).tolist()]
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def run(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, from as many shards as they lie in."""
        parts = []
        while start < stop:
            number = bisect_right(self._starts, start) - 1
            end = min(stop, self._starts[number + 1])
            first = self._starts[number]
            parts.append(self._mapped(number)[start - first : end - first])
            start = end
        return np.concatenate(parts) if parts else np.empty((0, *self._each), self._kind)

    def groups(self, places: np.ndarray, length: int = 1) -> np.ndarray:
        """Of groups of `length` rows those at int64 (k,), as (k * length, ...)."""
        if len(places) > 1 and (np.diff(places) == 1).all():
            return self.run(int(places[0]) * length, (int(places[-1]) + 1) * length)
        runs = [self.run(place * length, (place + 1) * length) for place in places.tolist()]
        return np.concatenate(runs) if runs else self.run(0, 0)

    def _mapped(self, number: int) -> np.ndarray:
        if number not in self._maps:
            shape = (self._starts[number + 1] - self._starts[number], *self._each)
            try:
                self._maps[number] = np.memmap(self._shards[number], self._kind, "r", shape=shape)
            except (OSError, ValueError) as error:
                raise DataError(f"shard {self._shards[number]} is gone or cut ({error}): load the set again") from error
        return self._maps[number]

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the shards itself; a map would travel as its content.
        return self.__dict__ | {"_maps": {}}


# --- where ---------------------------------------------------------------------------------------------------------


def home(out: Path | None = None) -> Path:
    """Where shards are made: in `out`, in $EFFI_DATA if that may be written to, or beside what is downloaded."""
    return (out or files.writable()) / "shards"


def place(identity: Mapping[str, Any], out: Path | None = None) -> Path:
    """Folder of the shards of this content in this code: the one in a data folder that is whole, or one to be made."""
    key = digest({"format": FORMAT, "shard": SHARD, **identity})[:16]
    roots = [home(out), *(root / "shards" for root in files.searched())]
    return next((root / key for root in roots if (root / key / MANIFEST).is_file()), roots[0] / key)


def signature(sources: Iterable[Path], *more: Any) -> str:
    """What changes whenever one of the files has another name, size or time, or `more` is something else."""
    stats = [(str(path), path.stat()) for path in sources]
    return digest([FORMAT, *more, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]])


def known(key: str, out: Path | None = None) -> Any:
    """What was noted of files by their signature, or None."""
    try:
        return json.loads((home(out) / "known" / f"{key}.json").read_text())
    except (OSError, ValueError):
        return None


def keep(path: Path, content: str) -> None:
    """Write a file that lies beside shards; DataError where the system refuses."""
    try:
        paths.replace(path, content)
    except OSError as error:
        raise _unwritten(path.parent, error) from error


def note(key: str, facts: Any, out: Path | None = None) -> None:
    """Keep what was found in files, so that they need not be read again; a disk that is full costs only that."""
    try:
        paths.replace(home(out) / "known" / f"{key}.json", json.dumps(facts))
    except OSError:
        return


def digest(facts: Any) -> str:
    """sha256 of what JSON can say."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# --- making --------------------------------------------------------------------------------------------------------


def make(plan: Plan, unchanged: Callable[[], bool]) -> dict[str, Any]:
    """The manifest of a set whose shards all are there; those that are missing are made, several at a time.

    `unchanged` says in the end whether the sources are still what was planned. Raises DataError when they are not, when
    the disk is full, a worker is killed, or a shard is damaged; shards that are whole stay.
    """
    try:
        if not _missing(plan, _manifest(plan)):
            return _checked(plan)
        plan.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{plan.folder}.lock"):
            # Whoever waited for the lock finds the work done.
            if _missing(plan, _manifest(plan)):
                _make(plan, unchanged)
    except OSError as error:
        raise _unwritten(plan.folder, error) from error
    except BrokenExecutor as error:
        raise DataError(
            f"a process that makes the shards of {plan.name} was ended, perhaps for its memory: load again, which goes "
            "on after those that are whole"
        ) from error
    return _checked(plan)


def _unwritten(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"shards could not be written to {folder} ({error.strerror or error}): free space or make it writable, and "
        "load again: those that are whole stay"
    )


def _make(plan: Plan, unchanged: Callable[[], bool]) -> None:
    whole = {**_progress(plan), **_by_file(_manifest(plan))}
    todo = [file for file in plan.tasks if file not in whole or not (plan.folder / file).is_file()]
    _say(plan, len(todo))
    for torn in plan.folder.glob("*.part"):
        torn.unlink(missing_ok=True)
    with (plan.folder / PROGRESS).open("a") as log, tqdm(total=len(todo), disable=None, unit="shard") as bar:
        for found in _worked(plan, todo):
            whole[found["file"]] = found
            log.write(json.dumps(found) + "\n")
            log.flush()
            bar.update()
    if not unchanged():
        # Some shards may be of what is there now, under the key of what was.
        shutil.rmtree(plan.folder)
        raise DataError(f"{plan.name} was changed while its shards were made: leave it alone and load it again")
    facts = {"format": FORMAT, "name": plan.name, **plan.facts, "shards": [whole[file] for file in plan.tasks]}
    paths.replace(plan.folder / MANIFEST, json.dumps(facts, indent=1))
    (plan.folder / PROGRESS).unlink()


def _worked(plan: Plan, todo: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Facts of each shard as it is done."""
    from joblib import Parallel, cpu_count, delayed, parallel_config

    options: dict[str, Any] = {"inner_max_num_threads": 1, "idle_worker_timeout": IDLE_S}
    with parallel_config("loky", n_jobs=max(1, min(len(todo), cpu_count())), **options):
        parallel = Parallel(return_as="generator_unordered", pre_dispatch="n_jobs")
    with _travelling(decoding, tokenising, writing):
        yield from parallel(delayed(plan.work)(plan.folder / file, *plan.tasks[file]) for file in todo)


@contextmanager
def _travelling(*modules: ModuleType) -> Iterator[None]:
    """What these modules define goes to workers whole: it spares each the import of this package, and so of torch."""
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _say(plan: Plan, todo: int) -> None:
    done = len(plan.tasks) - todo
    shards = f"{len(plan.tasks)} shards in {plan.folder}" + (f", of which {done} are there" if done else "")
    print(f"{plan.name} is larger than what is read into memory: once it is made into {shards}.", file=sys.stderr)


def _progress(plan: Plan) -> dict[str, dict[str, Any]]:
    """Shards that a run which was ended has finished; its last line may be torn."""
    log = plan.folder / PROGRESS
    found = {}
    for line in log.read_text().splitlines() if log.is_file() else ():
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        found[facts["file"]] = facts
    return found


# --- checking ------------------------------------------------------------------------------------------------------


def _manifest(plan: Plan) -> dict[str, Any]:
    path = plan.folder / MANIFEST
    if not path.is_file():
        return {"shards": []}
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): delete it and load {plan.name} again") from error


def _by_file(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {facts["file"]: facts for facts in manifest["shards"]}


def _missing(plan: Plan, manifest: Mapping[str, Any]) -> bool:
    there = _by_file(manifest)
    return any(file not in there or not (plan.folder / file).is_file() for file in plan.tasks)


def _checked(plan: Plan) -> dict[str, Any]:
    """The manifest; DataError that names the first shard whose content is not what it says."""
    manifest = _manifest(plan)
    for facts in manifest["shards"]:
        path = plan.folder / facts["file"]
        if path.stat().st_size != facts["bytes"] or _sha256(path) != facts["sha256"]:
            raise DataError(
                f"shard {path} of {plan.name} is damaged: its checksum is not that of the manifest; delete it and load "
                "again, which makes it anew"
            )
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
