"""Records made by an older source count again where that source and the present one compute the same bits.

Shown by the paper's notebook at smoke scale, run on this machine from the commit that made the records and from here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import torch

from effi import paths
from effi.data.files import downloads
from effi.errors import RecordError
from effi.records import adoption, store
from effi.records.adoption import Bits
from effi.records.machine import device_class
from effi.records.source import Source
from effi.records.store import Record
from effi.workbook import scratch
from effi.workbook.batch import Job, start
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

    Raises RecordError where there is no git checkout, and when a notebook does not run to its end from here.
    """
    scratch.clean()
    return [_adopt(notebook, results_dir) for notebook in find(names)]


def _adopt(notebook: Notebook, results_dir: str) -> Adoption:
    files = [paths.records_file(results_dir, scale, notebook.paper) for scale in SCALES]
    trained = [record for file in files if file.exists() for record in adoption.trained(file)]
    parts = []
    for device in sorted({record["device"] for record in trained}):
        on_it = [record for record in trained if record["device"] == device]
        if device == "cuda" and not torch.cuda.is_available():
            parts.append(_postponed(notebook.paper, on_it, results_dir))
        else:
            parts.append(_adopt_on(device, on_it, notebook, results_dir))
    stale, adopted = (sum(part.stale for part in parts), sum(part.adopted for part in parts))
    return Adoption(notebook.paper, stale, adopted, tuple(reason for part in parts for reason in part.reasons))


def _postponed(paper: str, records: Sequence[Record], results_dir: str) -> Adoption:
    """Records of a GPU where there is none."""
    stale = len(adoption.outdated(records, results_dir))
    return Adoption(paper, stale, 0, (f"{stale} were made on a GPU, which this machine lacks; adopt them on one",))


def _adopt_on(device: str, trained: Sequence[Record], notebook: Notebook, results_dir: str) -> Adoption:
    with scratch.folder() as folder:
        here = _smoke(notebook, paths.ROOT, device, folder)
        present = _sources(here)
        stale = adoption.outdated(trained, results_dir, lambda source: source.key in present)
        makers = {Source.read(record["source"]).key: record for record in stale}
        reasons: list[str] = []
        while makers:
            _, record = makers.popitem()
            there, commit, why_not = _made_by(record, notebook, folder)
            if not there:
                reasons += [f"{record['arm']}: {why_not[0]}", *why_not[1:]]
                continue
            makers = {key: each for key, each in makers.items() if key not in _sources(there)}
            same, differences = _compared(there, here)
            reasons += differences
            if same:
                store.append(adoption.file(results_dir), [_line(notebook.paper, commit, same, there, here)])
                # Sources that earlier lines join to these need no run of their own.
                left = adoption.outdated([*makers.values()], results_dir, lambda source: source.key in present)
                makers = {key: record for key, record in makers.items() if record in left}
    left = adoption.outdated(stale, results_dir, lambda source: source.key in present)
    return Adoption(notebook.paper, len(stale), len(stale) - len(left), tuple(reasons))


def _made_by(record: Record, notebook: Notebook, folder: Path) -> tuple[Bits, str, list[str]]:
    """Smoke records that the source of a record makes, and its commit; without such a commit the reasons why not."""
    relative = notebook.path.relative_to(paths.ROOT)
    key = Source.read(record["source"]).key
    tried, broken = 0, []
    for tree in islice(adoption.commits_of(record, str(relative), folder), TRIED):
        tried += 1
        if paths.readme().exists():  # a text that a notebook reads at smoke scale: data, not what computes with them
            shutil.copy(paths.readme(), tree)
        try:
            found = _smoke(replace(notebook, path=tree / relative), tree, record["device"], folder)
        except RecordError as error:
            broken.append(str(error))
            continue
        if key in _sources(found):
            return found, tree.name, []
    commits = "no commit" if not tried else "1 commit" if tried == 1 else f"{tried} commits"
    return {}, "", [f"no smoke run has the source that made it ({commits} tried, of at most {TRIED})", *broken]


def _sources(records: Bits) -> dict[str, Source]:
    """Sources of records by their key."""
    found = [Source.read(record["source"]) for record in records.values()]
    return {source.key: source for source in found}


def _compared(there: Bits, here: Bits) -> tuple[list[tuple[Source, Source]], list[str]]:
    """Sources there and here of which all arms have the same bits; of each arm that has not, the first difference.

    An arm that is finished there and missing here, at every seed, refuses its source whatever else that made; one that
    is here alone is none of its business.
    """
    arms = {arm for arm, _ in here}
    gone = [old for (arm, _), old in there.items() if arm not in arms and old["status"] == "done"]
    refused = {Source.read(old["source"]).key for old in gone}
    differ = {old["arm"]: adoption.missing(old) for old in reversed(gone)}
    bad, same = set(), {}
    for old, new in reversed([(there[key], here[key]) for key in there if key in here]):
        was, now = Source.read(old["source"]), Source.read(new["source"])
        same[was.key, now.key] = was, now
        if found := next(adoption.differences(old, new), ""):
            differ[old["arm"]] = found
            bad.add((was.key, now.key))
    kept = [(was, now) for (was, now) in same.values() if was.key != now.key and was.key not in refused]
    return [(was, now) for was, now in kept if (was.key, now.key) not in bad], sorted(differ.values())


def _line(paper: str, commit: str, same: Sequence[tuple[Source, Source]], there: Bits, here: Bits) -> dict[str, object]:
    """What results/adopted.jsonl keeps of one comparison."""
    one = next(iter(here.values()))
    return {
        "paper": paper,
        "sources": [{"old": old.plain(), "new": new.plain()} for old, new in same],
        "commit": commit,
        "device": one["device"],
        "machine": device_class(one["device"]),
        "versions": one["provenance"]["versions"],
        "arms": sorted({arm for arm, seed in there if (arm, seed) in here}),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _smoke(notebook: Notebook, root: Path, device: str, folder: Path) -> Bits:
    """(arm, seed) -> record of the notebook at smoke scale with the effi that lies in `root`; RecordError without any.

    This effi executes the notebook, whose kernel imports the other one.
    """
    place = folder / f"{root.name} {device}"
    parameters = {"scale": SMOKE, "results_dir": str(place / "results"), "device": device}
    data = {"EFFI_DATA": str(downloads())} if downloads().is_dir() and "EFFI_DATA" not in os.environ else {}
    job = Job(notebook, parameters, notebook.path.parent, place)
    child = start(job, surroundings={**data, "PYTHONPATH": str(root)})
    try:
        child.process.wait()
    finally:
        child.stop()
    if error := child.outcome().error:
        raise RecordError(f"{notebook.path.name} of {root.name} does not run to its end at smoke scale: {error}")
    files = list((place / "results").glob("*/*/records.jsonl"))
    if len(files) != 1:
        raise RecordError(
            f"{notebook.path.name} of {root.name} left {len(files)} files of records at smoke scale, not 1"
        )
    return adoption.by_arm(store.records(files[0]))
