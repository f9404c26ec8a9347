"""Where data sets lie on disk, how they get there, and whether they are what the manifest says."""

from __future__ import annotations

import codecs
import hashlib
import os
import shutil
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from effi import paths
from effi.errors import DataError

TIMEOUT_S = 10


@dataclass(frozen=True)
class Entry:
    """One data set of the manifest: `files` in `folder`, below a data folder or the `package` they come with.

    What is got `by_hand` has a source for people, from which nothing is downloaded.
    """

    name: str
    title: str
    citation: str
    licence: str
    source: str
    bytes: int
    classes: Sequence[str]
    folder: str
    files: Mapping[str, str]
    archive: str = ""
    package: str = ""
    by_hand: bool = False
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def layouts(self) -> Iterator[tuple[str, str, Mapping[str, str]]]:
        """(variant, folder, files) of every form of the set: variants in files of their own, the official one."""
        for name, variant in self.variants.items():
            if "files" in variant:
                yield name, variant.get("folder", self.folder), variant["files"]
        yield "official", self.folder, self.files

    def notice(self, variant: str) -> str | None:
        """What a reader should know of this form of the set."""
        return self.variants.get(variant, {}).get("notice")


def manifest() -> dict[str, Entry]:
    """Every data set of the manifest by name."""
    tables = tomllib.loads(paths.manifest().read_text(encoding="utf-8"))
    return {name: Entry(name, **table) for name, table in tables.items()}


def find(entry: Entry) -> Path | None:
    """Folder that holds every file of the set, or None; what the files contain is not looked at.

    Raises DataError when $EFFI_DATA names no folder.
    """
    roots = [_package(entry)] if entry.package else searched()
    places = ((root / folder, names) for root in roots for _, folder, names in entry.layouts())
    return next((place for place, names in places if _complete(place, names)), None)


def searched() -> list[Path]:
    """The data folders in the order of search: $EFFI_DATA, data, data/downloads."""
    own = os.environ.get("EFFI_DATA")
    if not own:
        return [paths.data_dir(), downloads()]
    if not (root := paths.ROOT / Path(own).expanduser()).is_dir():
        raise DataError(f"EFFI_DATA names {root}, which is no folder: correct it or unset it")
    return [root, paths.data_dir(), downloads()]


def writable() -> Path:
    """Where what is made of a reader's data is kept: $EFFI_DATA if it may be written to, or with what is downloaded."""
    first = searched()[0]
    return first if os.environ.get("EFFI_DATA") and os.access(first, os.W_OK) else downloads()


def _package(entry: Entry) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = find_spec(entry.package)
    if spec is None or spec.origin is None:
        raise DataError(f"{entry.name} needs {entry.package}, which is not installed: install effi again")
    return Path(spec.origin).parent


def downloads() -> Path:
    """Folder of what was downloaded; git ignores it."""
    return paths.data_dir() / "downloads"


def locate(entry: Entry) -> Path:
    """Folder of the set, downloaded from its official source when it is nowhere; DataError when that fails."""
    return find(entry) or download(entry)


def download(entry: Entry) -> Path:
    """Folder of the set under data/downloads; it appears there checked and whole, or not at all.

    Raises DataError when the source cannot be reached, sends something else, or the disk is full.
    """
    if entry.package:
        raise DataError(f"{entry.name} should come with {entry.source} but is not there: install that again")
    if entry.by_hand:
        raise DataError(
            f"{entry.name} is not under {_places()} and not to be downloaded by a program: get it from {entry.source} "
            f"and put {' and '.join(entry.files)} into a folder {entry.folder} there"
        )
    target = downloads() / entry.folder
    try:
        downloads().mkdir(parents=True, exist_ok=True)
        with FileLock(downloads() / f"{entry.name}.lock"):
            # Whoever waited for the lock finds the work done.
            if not _complete(target, entry.files):
                _download(entry, target)
    except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{entry.name} is not under {_places()} and {_reason(error)} and try again, or set EFFI_DATA to a folder "
            f"that holds {entry.folder}"
        ) from error
    return target


def _places() -> str:
    return ", ".join(str(root) for root in searched())


def _download(entry: Entry, target: Path) -> None:
    """Fetch into a staging folder, then move the finished folder into place in one step."""
    staging = downloads() / f"{entry.name}.part"
    # What a killed download left behind.
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _receive(entry, staging)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        (staging / entry.folder).rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _receive(entry: Entry, folder: Path) -> None:
    """Lay the set out under `folder`, from an archive or file by file."""
    if not entry.archive:
        for name, checksum in entry.files.items():
            _retrieve(entry.source + name, checksum, folder / entry.folder)
        return
    archive = _retrieve(entry.source, entry.archive, folder)
    if archive.suffix == ".zip":
        # It drops roots and ".." from the names within.
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
        return
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")


def _retrieve(url: str, checksum: str, folder: Path) -> Path:
    """File fetched from `url`; ValueError when its checksum is not `checksum`."""
    import pooch  # here, as in _reason: a quarter of a second, and in a notebook a warning, for who downloads nothing

    pooch.get_logger().setLevel("WARNING")
    fetcher = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=TIMEOUT_S)
    return Path(pooch.retrieve(url, checksum, Path(url).name, folder, downloader=fetcher))


def _reason(error: Exception) -> str:
    """What a download failed for, and what to do before the next try."""
    import requests

    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        how = error.strerror or error
        return f"could not be written to {error.filename or downloads()} ({how}): free space or make it writable"
    reason = str(error)
    if isinstance(error, requests.RequestException) and not isinstance(error, requests.HTTPError):
        reason = "no connection, or it broke off"
    elif isinstance(error, ValueError):
        reason = "what arrived does not have the checksum in data/manifest.toml"
    return f"could not be downloaded ({reason}): check the connection"


def _complete(folder: Path, names: Iterable[str]) -> bool:
    return all((folder / name).is_file() for name in names)


def verified(entry: Entry, folder: Path) -> tuple[str, dict[str, bytes]]:
    """(variant, content of every file) of the form that lies in `folder`; DataError for a wrong checksum."""
    variant, names = next((variant, names) for variant, _, names in entry.layouts() if _complete(folder, names))
    content = {name: read(entry, folder / name) for name in names}
    for name, expected in names.items():
        if not matches(content[name], expected):
            raise damaged(entry, folder / name, f"does not have the checksum of the {variant} file")
    return variant, content


def read(entry: Entry, path: Path) -> bytes:
    """Content of a file that is there; DataError when the system refuses it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{entry.name}: {path} cannot be read ({error.strerror}): mend that or remove it") from error


def matches(content: bytes | memoryview, checksum: str) -> bool:
    """Whether `content` has the checksum "md5:...", "sha256:..." or "lines:...".

    The last is the sha256 of its lines in order: copies of a table differ in the order of rows and in line ends.
    """
    kind, _, digest = checksum.partition(":")
    if kind == "lines":
        kind, content = "sha256", b"\n".join(sorted(lines(bytes(content))))
    return hashlib.new(kind, content, usedforsecurity=False).hexdigest() == digest


def lines(content: bytes) -> list[bytes]:
    """The lines of a text file, without their ends and without the mark that some programs put before them."""
    return content.removeprefix(codecs.BOM_UTF8).splitlines()


def damaged(entry: Entry, path: Path, how: str) -> DataError:
    """The error for a set that is there but not usable."""
    mend = f"delete it and run `effi data fetch {entry.name}`"
    return DataError(f"{entry.name} is damaged: {path} {how}; {mend}")
