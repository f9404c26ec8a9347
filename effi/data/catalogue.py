"""Data sets by name: the named ones of the manifest and the kinds that a reader brings along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from effi import paths
from effi.data import files, folder, readers
from effi.data.examples import Dataset, Examples, Source
from effi.data.splits import hold_out, shorten
from effi.data.transforms import check_resize, resized, statistics
from effi.errors import DataError

NAMED: Mapping[str, Callable[[files.Entry, Path], Source]] = {
    "mnist": readers.mnist,
    "cifar10": readers.cifar10,
    "digits": readers.digits,
}
OWN: Mapping[str, Callable[[Path, int | None, int], Source]] = {"folder": folder.read}


@dataclass(frozen=True)
class Listing:
    """One named data set as it is on this machine: `where` None when absent, `problem` when unusable."""

    name: str
    where: Path | None
    variant: str | None
    licence: str
    source: str
    bytes: int
    problem: str | None


def load(
    name: str,
    *,
    train: int | None = None,
    validation: int | float = 0.1,
    test: int | None = None,
    size: int | None = None,
    resize: str = "bilinear",
    seed: int = 0,
) -> Dataset:
    """A data set by name, or `folder:PATH`; subsets are seeded and stratified, validation comes out of train.

    `train`, `validation` and `test` count images, a float `validation` is a share of train; `size` is in
    pixels, reached by resize "bilinear" or "pad". Downloads what is absent. Raises DataError, ParameterError.
    """
    check_resize(size, resize)
    source = _read(name, size if resize == "bilinear" else None, seed)
    parts = (*hold_out(source.train, train, validation, seed), shorten(source.test, test, seed))
    splits = [Examples(resized(part.images, size, resize), part.labels) for part in parts]
    return Dataset(
        _label(name),
        *splits,
        classes=source.classes,
        checksum=source.checksum,
        variant=source.variant,
        **dict(zip(("mean", "std"), statistics(splits[0].images), strict=True)),
        notice=source.notice,
    )


def resolve(
    dataset: str, preferred: Sequence[str], embedded: str = "digits"
) -> tuple[tuple[str, ...], str | None]:
    """(names to run on, notice): "auto" gives the preferred sets that can be had, or else the embedded one.

    The notice, one sentence or None, says what is missing. Any other value is checked and given back alone;
    DataError when it is unknown or its path does not exist.
    """
    if dataset != "auto":
        _check(dataset)
        return (dataset,), None
    names = tuple(name for name in preferred if _obtainable(name))
    missing = " and ".join(name for name in preferred if name not in names)
    if not missing:
        return names, None
    names = names or (embedded,)
    return names, (
        f"{missing}: not found and not downloadable, so this run uses {' and '.join(names)} instead; "
        "set EFFI_DATA to a folder that holds the data."
    )


def available() -> list[Listing]:
    """Every named data set, where it is and whether its content is what the manifest says; reads them all."""
    return [_listing(entry) for entry in files.manifest().values()]


def fetch(name: str) -> Path:
    """Folder of a named data set, downloaded when absent; DataError when that fails or the content is damaged."""
    entry = _entry(name)
    where = files.locate(entry)
    NAMED[name](entry, where)
    return where


def _read(name: str, size: int | None, seed: int) -> Source:
    kind, _, place = name.partition(":")
    if kind in OWN and place:
        return OWN[kind](_own(place), size, seed)
    entry = _entry(name)
    return NAMED[name](entry, files.locate(entry))


def _check(name: str) -> None:
    """DataError when `name` is no data set or names a path that does not exist."""
    kind, _, place = name.partition(":")
    if kind in OWN and place:
        _own(place)
    else:
        _entry(name)


def _entry(name: str) -> files.Entry:
    """What the manifest says about a named set; DataError, with the closest name, when there is none."""
    if name in NAMED:
        return files.manifest()[name]
    known = (*NAMED, *(f"{kind}:PATH" for kind in OWN))
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? There are" if close else "there are"
    raise DataError(f"unknown data set {name!r}: {hint} {', '.join(known)}")


def _own(place: str) -> Path:
    """A reader's path; a relative one is meant from the root of the workbook, like the results folder."""
    path = paths.ROOT / Path(place).expanduser()
    if not path.exists():
        raise DataError(f"there is no {path}: correct the path of your data set")
    return path


def _label(name: str) -> str:
    """The name in records and tables: a reader's set goes by its last folder."""
    kind, _, place = name.partition(":")
    return f"{kind}:{_own(place).resolve().name}" if place else name


def _obtainable(name: str) -> bool:
    entry = _entry(name)
    if files.find(entry):
        return True
    try:
        files.download(entry)
    except DataError:
        return False
    return True


def _listing(entry: files.Entry) -> Listing:
    where, variant, problem = None, None, None
    try:
        where = files.find(entry)
        variant = NAMED[entry.name](entry, where).variant if where else None
    except DataError as error:
        problem = str(error)
    return Listing(entry.name, where, variant, entry.licence, entry.source, entry.bytes, problem)
