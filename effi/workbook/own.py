"""The reader's own files, looked at before a kernel starts: those that no run could hold, or that lead elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from effi import paths
from effi.errors import DataError

# A table is held as text and as rows, of up to five times its bytes; a corpus as text and as lines.
LARGEST = {"csv": 2**28, "text": 2**30}


def check(values: Mapping[str, object]) -> None:
    """DataError for own data among the parameters that are too large, or with a link that leads out of their folder."""
    for scheme, place in _named(values):
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            _check_inside(file, place)
            _check_size(file, LARGEST.get(scheme))


def _named(values: Mapping[str, object]) -> Iterator[tuple[str, Path]]:
    """Scheme and place of every data set that is the reader's own."""
    tasks = values.get("tasks")
    for name in (values.get("dataset"), *(tasks if isinstance(tasks, list) else ())):
        scheme, _, place = str(name).partition(":")
        if place and (path := paths.ROOT / Path(place).expanduser()).exists():
            yield scheme, path


def _check_inside(file: Path, folder: Path) -> None:
    if file.is_symlink() and file != folder and not file.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{file} is a link to {file.resolve()}, outside the folder: put a copy there or remove it")


def _check_size(file: Path, largest: int | None) -> None:
    if largest and file.is_file() and (size := file.stat().st_size) > largest:
        raise DataError(
            f"{file} has {size / 1e9:.1f} GB, more than the {largest / 1e9:.1f} GB that are read into memory at once: "
            "give a part of it"
        )
