"""Records made by an older source count again where that source and the present one compute the same bits.

Shown by the paper's notebook at smoke scale, run on this machine from the commit that made the records and from here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from effi import paths
from effi.errors import RecordError
from effi.records import adoption, store
from effi.records.adoption import Bits
from effi.records.machine import device_class
from effi.records.source import Source
from effi.records.store import Record
from effi.workbook import scratch
from effi.workbook.notebook import SCALES, Notebook, find

SMOKE = "smoke"
TRIED = 3  # commits that hold the modules of a record, each with another notebook


@dataclass(frozen=True)
class Adoption:
    """What became of a paper's stale records: how many count again, and what keeps the others from it."""

    paper: str
    stale: int
    adopted: int
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.stale:
            return f"{self.paper}: no record is stale"
        few = "1 stale record" if self.stale == 1 else f"{self.stale} stale records"
        return "\n".join([f"{self.paper}: {self.adopted} of {few} adopted", *(f"  {each}" for each in self.reasons)])


def adopt(names: Sequence[str] = (), *, results_dir: str = "results") -> list[Adoption]:
    """Compare the source of stale records with the present one, paper by paper; write down what computes the same.

    Raises RecordError where there is no git checkout, and when a notebook does not run to its end.
    """
    scratch.clean()
    return [_adopt(notebook, results_dir) for notebook in find(names)]


def _adopt(notebook: Notebook, results_dir: str) -> Adoption:
    files = [paths.records_file(results_dir, scale, notebook.paper) for scale in SCALES]
    trained = [record for file in files if file.exists() for record in adoption.trained(file)]
    if not trained:
        return Adoption(notebook.paper, 0, 0)
    with scratch.folder() as folder:
        here = _smoke(notebook.path, paths.ROOT, folder)
        stale = _stale(trained, here, results_dir)
        makers = {Source.read(record["source"]).key: record for record in stale}
        reasons: list[str] = []
        while makers:
            _, record = makers.popitem()
            there, commit = _made_by(record, notebook, folder)
            if not there:
                reasons.append(f"{record['arm']}: no commit's smoke run has the source that made it")
                continue
            makers = {key: each for key, each in makers.items() if key not in _sources(there)}
            same, differences = _compared(there, here)
            reasons += differences
            if same:
                store.append(adoption.file(results_dir), [_line(notebook.paper, commit, same, there, here)])
    return Adoption(notebook.paper, len(stale), len(stale) - len(_stale(stale, here, results_dir)), tuple(reasons))


def _stale(records: Sequence[Record], here: Bits, results_dir: str) -> list[Record]:
    """Those of which no source that computes the same is a present one."""
    present = _sources(here)

    def counts(record: Record) -> bool:
        known = adoption.same_as(Source.read(record["source"]), results_dir, record["device"])
        return any(source.key in present for source in known)

    return [record for record in records if not counts(record)]


def _made_by(record: Record, notebook: Notebook, folder: Path) -> tuple[Bits, str]:
    """Smoke records that the source of a record makes, and its commit; none where no commit has that source."""
    relative = str(notebook.path.relative_to(paths.ROOT))
    key = Source.read(record["source"]).key
    for tree in islice(adoption.commits_of(record, relative, folder), TRIED):
        found = _smoke(tree / relative, tree, folder)
        if key in _sources(found):
            return found, tree.name
    return {}, ""


def _sources(records: Bits) -> dict[str, Source]:
    """Sources of records by their key."""
    found = [Source.read(record["source"]) for record in records.values()]
    return {source.key: source for source in found}


def _compared(there: Bits, here: Bits) -> tuple[list[tuple[Source, Source]], list[str]]:
    """Sources there and here of which all arms have the same bits; of each arm that has not, the first difference."""
    shared = [(there[key], here[key]) for key in there if key in here]
    differ = {old["arm"]: found for old, new in reversed(shared) if (found := next(adoption.differences(old, new), ""))}
    pairs = [(old["arm"], Source.read(old["source"]), Source.read(new["source"])) for old, new in shared]
    bad = {(old.key, new.key) for arm, old, new in pairs if arm in differ}
    same = {(old.key, new.key): (old, new) for _, old, new in pairs if old.key != new.key}
    return [pair for key, pair in same.items() if key not in bad], sorted(differ.values())


def _line(paper: str, commit: str, same: Sequence[tuple[Source, Source]], there: Bits, here: Bits) -> dict[str, object]:
    """What results/adopted.jsonl keeps of one comparison."""
    one = next(iter(here.values()))
    return {
        "paper": paper,
        "sources": [{"old": old.plain(), "new": new.plain()} for old, new in same],
        "commit": commit,
        "device": one["device"],
        "machine": device_class("cuda" if one["device"] == "cuda" else "cpu"),
        "versions": one["provenance"]["versions"],
        "arms": sorted({arm for arm, seed in there if (arm, seed) in here}),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _smoke(notebook: Path, root: Path, folder: Path) -> Bits:
    """(arm, seed) -> record of the notebook at smoke scale with the effi that lies in `root`.

    The process that executes it is none of effi's, so that the notebook may be of any version.
    """
    results = folder / f"results of {root.name}"
    output = folder / f"{root.name}.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), str(output), "--no-progress-bar"]
    command += ["-k", "python3", "-l", "python", "--cwd", str(notebook.parent)]
    command += ["-p", "scale", SMOKE, "-p", "results_dir", str(results)]
    downloads = paths.data_dir() / "downloads"
    places = {"PYTHONPATH": str(root), **({"EFFI_DATA": str(downloads)} if downloads.is_dir() else {})}
    done = subprocess.run(command, capture_output=True, env={**places, **os.environ, "PYTHONPATH": str(root)})
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise RecordError(f"{notebook.name} of {root.name} does not run to its end at smoke scale: {words[-1]}")
    (file,) = results.glob("*/*/records.jsonl")
    return adoption.by_arm(store.records(file))
