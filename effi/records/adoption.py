"""Records whose source has changed since: which they are, and whose bits are known to be those of the present source.

A line of results/adopted.jsonl says that two sources compute the same, shown at smoke scale on one machine.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from effi import paths
from effi.errors import ParameterError, RecordError
from effi.records import store
from effi.records.source import Source, source_hash
from effi.records.store import Record

# Measured by a clock, so different in every run: seconds, joules, ratios of times, what tracking took of a training.
TIMED = re.compile(r"(^|_)(seconds|joules|time_ratio)($|/)|^tracking_share$")
Bits = Mapping[tuple[str, int], Record]


def file(results_dir: str | Path) -> Path:
    """Where adoptions are written down."""
    return paths.results(results_dir) / "adopted.jsonl"


def same_as(source: Source, results_dir: str | Path, device: str) -> list[Source]:
    """Sources shown to compute the same bits on that kind of device, directly or by others; the given one first."""
    pairs = [
        (Source.read(pair["old"]), Source.read(pair["new"]))
        for row in store.rows(file(results_dir))
        if row["device"] == device
        for pair in row["sources"]
    ]
    found = [source]
    for known in found:  # grows on the way
        for old, new in (*pairs, *((new, old) for old, new in pairs)):
            if old.key == known.key and all(new.key != other.key for other in found):
                found.append(new)
    return found


def stale(results_dir: str | Path, scale: str, paper: str) -> list[Record]:
    """Finished records that the newest run asked for and whose modules of effi have changed since, without adoption.

    Facts that are computed from records are none: they cost nothing. A changed function of a notebook is found by
    its run alone.
    """
    found = store.current(paths.records_file(results_dir, scale, paper))
    trained = [record for record in found if record["status"] == "done" and record["parents"] is None]
    fresh = {key: _is_present(key, trained, results_dir) for key in {_key(record) for record in trained}}
    return [record for record in trained if not fresh[_key(record)]]


def ways_out(paper: str, count: int) -> str:
    """What to tell a person who has that many stale records."""
    few = "1 record is" if count == 1 else f"{count} records are"
    return (
        f"{few} stale: the source has changed since. Either `effi adopt {paper}` shows that it computes the same bits, "
        "and they count as done; or a run trains anew."
    )


def _key(record: Record) -> tuple[str, str]:
    return Source.read(record["source"]).key, record["device"]


def _is_present(key: tuple[str, str], trained: Sequence[Record], results_dir: str | Path) -> bool:
    source = Source.read(next(record["source"] for record in trained if _key(record) == key))
    return any(_exists(each) for each in same_as(source, results_dir, key[1]))


def _exists(source: Source, root: Path = paths.ROOT) -> bool:
    try:
        return source_hash(source.uses, root) == source.effi
    except ParameterError:  # a module that is there no more
        return False


# --- the commit of a source ----------------------------------------------------------------------------------


def commits_of(record: Record, notebook: str, root: Path = paths.ROOT) -> Iterator[str]:
    """Commits whose source a record may have been made by, the likeliest first; no two with the same notebook.

    The one that the record names, if its tree was clean; then those whose modules have the hash, newest first.
    """
    source, facts = Source.read(record["source"]), record["provenance"]
    seen: set[bytes] = set()
    for commit in (facts["git_sha"], *_git(root, "log", "--format=%H", "--", "effi", "notebooks").decode().split()):
        with tempfile.TemporaryDirectory(prefix="effi-") as folder:
            there = lay_out(commit, Path(folder), root, "effi", notebook)
            clean = commit == facts["git_sha"] and facts["git_dirty"] is None
            if not there or not (clean or _exists(source, Path(folder))):
                continue
            text = (Path(folder) / notebook).read_bytes()
        if text not in seen:
            seen.add(text)
            yield commit


def lay_out(commit: str, folder: Path, root: Path = paths.ROOT, *places: str) -> bool:
    """Write the files of a commit, or those in some places of it, into a folder; False when there is no such commit."""
    try:
        packed = _git(root, "archive", "--format=tar", commit, *places)
    except RecordError:
        return False
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return True


def _git(root: Path, *words: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RecordError(f"git has no answer to `git {' '.join(words)}` in {root}; adopt in a git checkout") from error


# --- the same bits -------------------------------------------------------------------------------------------


def by_arm(records: Sequence[Record]) -> Bits:
    """(arm, seed) -> its finished record."""
    return {(record["arm"], record["seed"]): record for record in records if record["status"] == "done"}


def differences(old: Record, new: Record) -> Iterator[str]:
    """Where metrics and histories of two records differ in a bit; what a clock measured is passed over."""
    for kind in ("metrics", "history"):
        for name in sorted({*old[kind], *new[kind]}):
            if TIMED.search(name):
                continue
            one, other = (_values(record[kind].get(name)) for record in (old, new))
            for index, (was, now) in enumerate(zip_longest(one, other)):
                if was != now:
                    place = f"[{index}]" if kind == "history" else ""
                    yield f"{old['arm']} seed {old['seed']}: {kind} {name}{place} was {was!r}, now is {now!r}"


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
