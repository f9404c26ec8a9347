"""Records whose source has changed since: which they are, and whose bits are known to be those of the present source.

A line of results/adopted.jsonl says that two sources compute the same, shown at smoke scale on one machine.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from effi import paths
from effi.errors import ParameterError, RecordError
from effi.records import store
from effi.records.source import Source, source_hash
from effi.records.store import Record

# Measured by a clock, so different in every run: seconds, joules, ratios of times and the slope that these have, and
# the share of a training that tracking took.
TIMED = re.compile(r"(^|_)(seconds|joules|time_ratio|slope)($|/)|^tracking_share$")
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


def _exists(source: Source, root: Path = paths.PACKAGE.parent) -> bool:
    """Whether the modules of effi in `root` are those of a source."""
    try:
        return source_hash(source.uses, root) == source.effi
    except ParameterError:  # a module that is there no more
        return False


def outdated(
    found: Sequence[Record], results_dir: str | Path, present: Callable[[Source], bool] = _exists
) -> list[Record]:
    """Those of the records of which no source that computes the same is `present`.

    Without it those whose modules of effi have changed since; a changed function of a notebook is found by a run alone.
    """
    makers = {_key(record): Source.read(record["source"]) for record in found}
    known = {key: same_as(source, results_dir, key[1]) for key, source in makers.items()}
    fresh = {key for key, sources in known.items() if any(map(present, sources))}
    return [record for record in found if _key(record) not in fresh]


def trained(path: Path) -> list[Record]:
    """Finished records of what the newest run asked for that were measured by some source, not computed from others."""
    measured = [record for record in store.current(path) if "source" in record and record["parents"] is None]
    return [record for record in measured if record["status"] == "done"]


def _key(record: Record) -> tuple[str, str]:
    return Source.read(record["source"]).key, record["device"]


# --- the commit of a source ----------------------------------------------------------------------------------


def commits_of(record: Record, notebook: str, scratch: Path, root: Path = paths.ROOT) -> Iterator[Path]:
    """Commits whose source a record may have been made by, each laid out in a folder of its own, named by it.

    First the one that the record names, if its tree was clean; then those whose modules have the hash, newest first.
    No two hold the same notebook, whose functions count, too.
    """
    source, facts = Source.read(record["source"]), record["provenance"]
    seen: set[bytes] = set()
    for commit in (facts["git_sha"], *_git(root, "log", "--format=%H", "--", "effi", "notebooks").decode().split()):
        folder = scratch / commit
        if folder.exists() or not lay_out(commit, folder, root):
            continue
        clean = commit == facts["git_sha"] and facts["git_dirty"] is None
        file = folder / notebook
        text = file.read_bytes() if file.exists() else b""
        if text and text not in seen and (clean or _exists(source, folder)):
            seen.add(text)
            yield folder
        shutil.rmtree(folder)


def lay_out(commit: str, folder: Path, root: Path = paths.ROOT) -> bool:
    """Write the files of a commit, results aside, into a folder; False when there is no such commit."""
    try:
        packed = _git(root, "archive", "--format=tar", commit, "--", ".", ":(exclude)results")
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
    """(arm, seed) -> its record, finished where one is, else failed; but for facts that are computed from records."""
    found = [record for record in store.latest(records).values() if record["parents"] is None]
    return {(record["arm"], record["seed"]): record for record in found}


def differences(old: Record, new: Record) -> Iterator[str]:
    """Where metrics and histories of two records differ in a bit, or whether one failed; clocks are passed over."""
    if old["status"] != new["status"]:
        yield f"{_who(old)}: was {_ended(old)}, now is {_ended(new)}"
        return
    for kind in ("metrics", "history"):
        for name in sorted({*old[kind], *new[kind]}):
            if TIMED.search(name):
                continue
            one, other = (_values(record[kind].get(name)) for record in (old, new))
            for index, (was, now) in enumerate(zip_longest(one, other)):
                if was != now:
                    place = f"[{index}]" if kind == "history" else ""
                    yield f"{_who(old)}: {kind} {name}{place} was {was!r}, now is {now!r}"


def missing(old: Record) -> str:
    """What is said of a record that has no partner now."""
    return f"{_who(old)}: was {_ended(old)}, now is missing"


def _who(record: Record) -> str:
    return f"{record['arm']} seed {record['seed']}"


def _ended(record: Record) -> str:
    return "done" if record["status"] == "done" else f"failed ({record['error']})"


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
