"""What is read of a reader's own files: those inside the place that was named, and no more than memory holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from effi.errors import DataError


def check_inside(paths: Iterable[Path], folder: Path) -> None:
    """DataError that names the first link among them that leads out of the folder."""
    for path in paths:
        if path.is_symlink() and path != folder and not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path} is a link to {path.resolve()}, outside the folder: put a copy there or remove it")


def check_size(place: Path, files: Sequence[Path], largest: int) -> None:
    """DataError for files of more than `largest` bytes together; what is not there is told by who reads it."""
    size = sum(file.stat().st_size for file in files if file.is_file())
    if size > largest:
        raise DataError(
            f"{place} has {size / 1e9:.1f} GB, more than the {largest / 1e9:.1f} GB that are read into memory at once: "
            "give a part of it"
        )
