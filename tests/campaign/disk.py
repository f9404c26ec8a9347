"""A real full disk: a file system of a few kilobytes, filled, at each kind of write and under whole runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from effi import report
from effi.errors import EffiError
from effi.records import store
from effi.records.artefacts import Artefacts
from effi.training.checkpoint import Checkpoint, Kept
from tests.campaign.bed import Bed, same_bits, whole
from tests.campaign.rows import Broken, Fault, NotDone, expect

NOTE = (
    "A file system of its own is mounted and filled to the last byte. Each write must end in one sentence that names "
    "the file and the mend, leave what was there as it was, and succeed once there is room."
)
KIB, PAGE = 512, 4096
ROW = {"identity": "a", "arm": "d/vit/dense", "seed": 0, "status": "done", "metrics": {}, "words": "x" * 9000}
OTHER = {**ROW, "identity": "b", "seed": 1}


def faults(bed: Bed) -> Iterator[Fault]:
    """One row for each kind of write, then whole runs."""
    yield Fault("a lock on a full disk", lambda: kind(bed, "the first record", 0))
    for name in KINDS:
        yield Fault(f"{name} on a full disk", lambda name=name: kind(bed, name))
    yield Fault("a download onto a full disk", lambda: _download(bed))
    yield Fault("a run whose disk is full from the start", lambda: _run(bed, "from the start", 0))
    yield Fault("a run whose disk fills after four trainings", lambda: _run(bed, "after four", 4))


@contextmanager
def mounted(place: Path, kib: int = KIB) -> Iterator[Path]:
    """A file system of that size at a new folder; NotDone where this user may mount none."""
    place.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(place)], capture_output=True)
    if done.returncode:
        raise NotDone(f"no file system can be mounted here ({done.stderr.decode().strip()}); run it as root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def full(place: Path, left: int) -> Iterator[None]:
    """Fill a small file system but for `left` bytes; room again afterwards."""
    fill(place)
    os.truncate(place / "filling", (place / "filling").stat().st_size - left)
    try:
        yield
    finally:
        (place / "filling").unlink()


def fill(place: Path) -> None:
    """Take every byte that is left."""
    with (place / "filling").open("ab", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue


def kind(bed: Bed, name: str, left: int = PAGE) -> str:
    """One kind of write with so many bytes left, which is where a write stops in its middle."""
    before, write = KINDS[name]
    with mounted(bed.root / f"small-{time.monotonic_ns()}") as place:
        before(place)
        (place / "locks").mkdir(exist_ok=True)
        held = _content(place)
        with full(place, left):
            try:
                write(place)
                said = ""
            except EffiError as error:
                said = str(error)
            except OSError as error:
                raise Broken(f"a bare error of the system: {type(error).__name__}: {error}") from error
            kept = {name: content for name, content in _content(place).items() if name != "filling"}
        expect(said, "nothing was said")
        expect("\n" not in said and str(place) in said and "free space" in said, f"no path or no mend: {said}")
        expect(kept == held, f"what was there changed: {sorted(kept)} were {sorted(held)}; {said}")
        write(place)
        expect(_content(place) != held, "nothing was written when there was room")
    return said.replace(f"{place}/", "").replace(str(place), "the folder")


def _content(place: Path) -> dict[str, bytes]:
    files = [file for file in place.rglob("*") if file.is_file() and "locks" not in file.parts]
    return {str(file.relative_to(place)): file.read_bytes() for file in files if file.name != "filling"}


def _nothing(_: Path) -> None:
    """An empty disk."""


def _one_row(place: Path) -> None:
    store.append(place / "records.jsonl", [ROW])


def _two_rows(place: Path) -> None:
    store.append(place / "records.jsonl", [ROW, OTHER])
    store.point(place / "records.jsonl", ["a"])


def _checkpoint(value: float) -> Callable[[Path], object]:
    def write(place: Path) -> None:
        Checkpoint(place / "arm").save(Kept({"weights": torch.full((5000,), value)}, {"done": 1}))

    return write


def _artefact(place: Path) -> None:
    def make(settings: object, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        return {"weights": torch.zeros(5000)}, {"loss": 1.0}

    Artefacts(place / "artefacts", make, {}).get({}, 0)


def _table(word: str) -> Callable[[Path], object]:
    table = report.Table("A table", ("a",), ((word * 3000,),))
    return lambda place: report.save_tables({"table": table}, place)


def _figure(place: Path) -> None:
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    report.save_figure(figure, place, "figure")


Write = Callable[[Path], object]
# What is there before, and what is written.
KINDS: dict[str, tuple[Write, Write]] = {
    "the first record": (_nothing, lambda at: store.append(at / "records.jsonl", [ROW])),
    "a further record": (_one_row, lambda at: store.append(at / "records.jsonl", [OTHER])),
    "the list of what counts": (_one_row, lambda at: store.point(at / "records.jsonl", ["a" * 9000])),
    "rows put aside": (_two_rows, lambda at: store.tidy(at / "records.jsonl")),
    "a checkpoint": (_checkpoint(1.0), _checkpoint(2.0)),
    "an artefact": (_nothing, _artefact),
    "a table": (_table("old"), _table("new")),
    "a figure": (_nothing, _figure),
}


def _download(bed: Bed) -> str:
    from tests.campaign.downloads import CONTENT, FILE, Server, fetch, listing

    with mounted(bed.root / "data" / "downloads", 256) as place, Server() as server, listing(bed, server.address):
        fill(place)
        ended = fetch(bed)
        said = " / ".join(ended.sentences)
        expect(ended.status == 2 and len(ended.sentences) == 1, f"status {ended.status}: {said}")
        expect("No space left" in said and "Traceback" not in said, f"it does not say that the disk is full: {said}")
        (place / "filling").unlink()
        again = fetch(bed)
        expect(again.status == 0, f"with room it ended with {again.status}: {again.err}")
        expect((place / FILE).read_bytes() == CONTENT, "with room another content arrived")
    return said


def _run(bed: Bed, name: str, trainings: int) -> str:
    """A run on a small disk that is filled when so many trainings are recorded; then room, and the run again."""
    undisturbed = bed.undisturbed()
    with mounted(bed.root / f"disk {name}", 2048) as place:
        words, file = bed.small(place.name), bed.records(place.name)
        if not trainings:
            fill(place)
        with bed.start(*words) as command:
            while trainings and command.process.poll() is None and len(store.every(file)) < trainings:
                time.sleep(0.2)
            fill(place)
            ended = command.wait(600)
        said = " / ".join(ended.sentences)
        kept = {row["checksum"] for row in store.every(file) if row["status"] == "done"}
        expect("Traceback" not in said and ended.status in (1, 2), f"status {ended.status}: {said}")
        expect("free space" in said, f"no mend is named: {said}")
        (place / "filling").unlink()
        again = bed.effi(*words, seconds=600)
        expect(again.status == 0, f"with room it ended with {again.status}: {again.err}")
        lost = kept - {row["checksum"] for row in store.every(file)}
        wrong = whole(file) or same_bits(undisturbed, place)
        expect(not (lost or wrong), f"{len(lost)} finished rows lost; {wrong}")
        tables = bed.effi("verify", "--results-dir", str(place))
        expect(tables.status == 0, f"effi verify: {tables.err}")
        shutil.rmtree(place, ignore_errors=True)
    return f"{said.replace(str(place), place.name)} With room: {len(kept)} finished rows kept, all bits the same"
