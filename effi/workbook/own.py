"""The reader's own files, looked at before a kernel starts: those that no run could hold, or that lead elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from effi import paths
from effi.errors import DataError

# A table is held as text and as rows, of up to five times its bytes; a corpus as text and as lines.
LARGEST = {"csv": 2**28, "text": 2**30}


def check(values: Mapping[str, object]) -> None:
    """DataError for own data among the parameters that are too large, or with a link that leads out of their folder.

    And for a folder given as checkpoint whose weights are a pickle, which is never read, or torn.
    """
    for scheme, place in _named(values):
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            _check_inside(file, place)
            _check_size(file, LARGEST.get(scheme))
    # A kernel stands in the folder of the notebooks; what is no folder from there is told by the notebook.
    folder = paths.notebooks_dir() / Path(str(values.get("checkpoint") or "")).expanduser()
    if values.get("checkpoint") and folder.is_dir():
        _check_weights(folder)


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


def _check_weights(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open  # numpy is imported with it

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        held = ", ".join(sorted(file.name for file in folder.glob("*.bin"))) or "none"
        raise DataError(f"{folder} holds no safetensors (other weights: {held}): save the model with save_pretrained")
    for file in files:
        try:
            with safe_open(file, "np"):
                pass
        except (OSError, SafetensorError) as error:
            raise DataError(f"{file} is torn or no safetensors file ({error}): save the model again") from error
