"""Data sets by name: the named ones of the manifest and the kinds that a reader brings along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from effi import paths
from effi.data import corpora, docstrings, files, folder, glue, grammar, own, readers
from effi.data.examples import Dataset, Examples
from effi.data.sources import Corpus, Source, TextSource, cut
from effi.data.splits import hold_out, shorten
from effi.data.stored import resident
from effi.data.transforms import check_resize, resized, statistics
from effi.errors import DataError, did_you_mean

NAMED: Mapping[str, Callable[[files.Entry, Path], Source]] = {
    "mnist": readers.mnist,
    "cifar10": readers.cifar10,
    "digits": readers.digits,
}
TEXTS: Mapping[str, Callable[[files.Entry, Path], TextSource]] = {
    "imdb": corpora.imdb,
    "sst2": glue.sst2,
    "cola": glue.cola,
    "rte": glue.rte,
    "wnli": glue.wnli,
    "mrpc": glue.mrpc,
    "stsb": glue.stsb,
    "docstrings": docstrings.read,
    "grammar": grammar.read,
}
CORPORA: Mapping[str, Callable[[files.Entry, Path], Corpus]] = {
    "wikitext-2": corpora.wikitext,
    "tinyshakespeare": corpora.shakespeare,
}
OWN: Mapping[str, Callable[[Path, int | None, int], Source]] = {"folder": folder.read}
OWN_TEXTS: Mapping[str, Callable[[Path, int], TextSource]] = {"csv": own.table}
OWN_CORPORA: Mapping[str, Callable[[Path, int], Corpus]] = {"text": own.corpus}
# What can be seen before a kernel starts.
CHECKS: Mapping[str, Callable[[Path], None]] = {
    "folder": folder.check,
    "csv": own.check_table,
    "text": own.check_corpus,
}
# What a set holds -> how an error says so.
READ_BY = {
    "images": "holds images: load reads it, in the vision part of a notebook",
    "texts": "holds labelled texts: load_text reads it, in the language part of a notebook",
    "corpus": "is a corpus without labels: load_corpus reads it, in the language part of a notebook",
}
NAMES: Mapping[str, Mapping[str, object]] = {"images": NAMED, "texts": TEXTS, "corpus": CORPORA}
SCHEMES: Mapping[str, Mapping[str, object]] = {"images": OWN, "texts": OWN_TEXTS, "corpus": OWN_CORPORA}
T = TypeVar("T")
EMBEDDED = {"images": "digits", "text": "docstrings"}


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
    draw: int | None = None,
) -> Dataset:
    """A data set by name, or `folder:PATH`; subsets are seeded and stratified, validation comes out of train.

    `train`, `validation` and `test` count images, a float `validation` is a share of train; `size` is in
    pixels, reached by resize "bilinear" or "pad". `draw` is a seed of its own for which images train and validate,
    while those of the test stay. Downloads what is absent. Raises DataError, ParameterError.
    """
    check_resize(size, resize)
    _expect(name, "images")
    shrunk = size if resize == "bilinear" else None
    source = _read(name, NAMED, lambda scheme, path: OWN[scheme](path, shrunk, seed))
    drawn = hold_out(source.train, train, validation, seed if draw is None else draw)
    parts = (*drawn, shorten(source.test, test, seed))
    chosen, held, tested = (Examples(resident(resized(part.inputs, size, resize)), part.labels) for part in parts)
    mean, std = statistics(chosen.inputs)
    return Dataset(
        label(name),
        chosen,
        held,
        tested,
        classes=source.classes,
        checksum=source.checksum,
        variant=source.variant,
        mean=mean,
        std=std,
        notice=source.notice,
    )


def read_text(name: str, seed: int) -> TextSource:
    """Labelled texts by name, or `csv:PATH`, before any subset; DataError for a set that has none."""
    _expect(name, "texts")
    return _read(name, TEXTS, lambda scheme, path: OWN_TEXTS[scheme](path, seed))


def read_corpus(name: str, seed: int) -> Corpus:
    """A corpus by name, or `text:PATH`; of a labelled set its unlabelled text, or else its training texts."""
    _expect(name, "corpus", "texts")
    if holds(name) == "corpus":
        return _read(name, CORPORA, lambda scheme, path: OWN_CORPORA[scheme](path, seed))
    source = read_text(name, seed)
    pieces = tuple(source.unlabelled() if source.unlabelled else source.train.sentences)
    return Corpus(*cut(pieces), source.variant, source.checksum, running=False, notice=source.notice)


def outgrown(name: str) -> list[Path] | None:
    """The files of a `text:PATH` that is larger than what is read into memory; None for anything else."""
    scheme, _, place = name.partition(":")
    return own.outgrown(_own(place)) if place and scheme in OWN_CORPORA else None


def kind(name: str) -> str:
    """Which part of a notebook a data set is for, "images" or "text"; DataError when it is unknown."""
    return "images" if holds(name) == "images" else "text"


def holds(name: str) -> str:
    """What a set is, "images", "texts" or "corpus"; DataError, with the closest name, when there is none."""
    scheme, _, place = name.partition(":")
    for what in NAMES:
        if name in NAMES[what] or (place and scheme in SCHEMES[what]):
            return what
    if name and (paths.ROOT / Path(name).expanduser()).exists():
        raise DataError(
            f"{name!r} is a path: put folder: (images), csv: (labelled texts) or text: (a corpus) before it"
        )
    raise DataError(f"unknown data set {name!r}{did_you_mean(name, listed(*NAMES))}")


def listed(*kinds: str) -> list[str]:
    """Every name and form of name that these kinds of set go by."""
    return [
        *chain(*(NAMES[kind] for kind in kinds)),
        *(f"{scheme}:PATH" for scheme in chain(*(SCHEMES[kind] for kind in kinds))),
    ]


def resolve(dataset: str, preferred: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """(names to run on, notice): "auto" gives the preferred sets that can be had, or else an embedded one.

    Images and text each fall back on their own: digits, docstrings. The notice, one sentence or None, says what is
    missing. Any other value is given back alone; DataError when it is unknown, unfit or can not be had.
    """
    files.searched()
    if dataset != "auto":
        _check(dataset)
        return (dataset,), None
    had = {name: _obtainable(name) for name in preferred}
    served = {kind(name) for name in preferred if had[name]}
    # A set that is missing is replaced only where nothing else of its kind is there.
    wanted = [name for name in preferred if had[name] or kind(name) not in served]
    names = tuple(dict.fromkeys(name if had[name] else EMBEDDED[kind(name)] for name in wanted))
    missing = " and ".join(name for name in preferred if not had[name])
    if not missing:
        return names, None
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
    _verify(entry, where)
    return where


def _read(name: str, named: Mapping[str, Callable[[files.Entry, Path], T]], own: Callable[[str, Path], T]) -> T:
    """What the reader of a named set finds, or `own` for a form of name and a path."""
    scheme, _, place = name.partition(":")
    if place:
        return own(scheme, _own(place))
    entry = _entry(name)
    return named[name](entry, files.locate(entry))


def _expect(name: str, *wanted: str) -> None:
    """DataError that says what reads a set that holds something else."""
    if (found := holds(name)) not in wanted:
        raise DataError(f"{name} {READ_BY[found]}")


def _verify(entry: files.Entry, where: Path) -> str:
    """Variant of a set that is there; DataError when its content is not what the manifest says."""
    if entry.name in NAMED:
        return NAMED[entry.name](entry, where).variant
    return files.verified(entry, where)[0] if entry.files else "made here"


def _check(name: str) -> None:
    """DataError when `name` is no data set, can not be downloaded, is damaged, or the reader's own and not fit."""
    holds(name)
    scheme, _, place = name.partition(":")
    if not place:
        fetch(name)
    else:
        CHECKS[scheme](_own(place))


def _entry(name: str) -> files.Entry:
    """What the manifest says about a named set; DataError when there is none."""
    holds(name)
    if ":" in name:
        raise DataError(f"{name} is your own data, and nothing to fetch: only a named set is downloaded")
    return files.manifest()[name]


def _own(place: str) -> Path:
    """A reader's path; a relative one is meant from the root of the workbook, like the results folder."""
    path = paths.ROOT / Path(place).expanduser()
    if not path.exists():
        raise DataError(f"there is no {path}: correct the path of your data set")
    return path


def label(name: str) -> str:
    """The name in records and tables: a reader's set goes by its last folder."""
    scheme, _, place = name.partition(":")
    return f"{scheme}:{_own(place).resolve().name}" if place else name


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
        variant = _verify(entry, where) if where else None
    except DataError as error:
        problem = str(error)
    return Listing(entry.name, where, variant, entry.licence, entry.source, entry.bytes, problem)
