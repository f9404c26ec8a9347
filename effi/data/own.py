"""The reader's own text: a table of labelled texts, or a corpus."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from effi.data.sources import Corpus, Texts, TextSource, checksum, corpus_checksum, cut
from effi.data.splits import fifth
from effi.errors import DataError

COLUMNS = ("text", "label")
NAMED_ROWS = 5


def table(path: Path, seed: int) -> TextSource:
    """A CSV file with the columns text and label; a seeded, stratified fifth is the test set.

    Raises DataError for another file, missing columns, empty cells, or without two classes of two texts each.
    """
    rows = _rows(path)
    classes = _classes(path, [label for _, label in rows])
    whole = Texts([text for text, _ in rows], torch.tensor([classes.index(label) for _, label in rows]))
    test = fifth(whole.labels, seed)
    train, tested = (whole.at(whole.indexed().take(part.nonzero()[:, 0])) for part in (~test, test))
    return TextSource(train, tested, classes, "own texts", checksum(whole))


def check(path: Path) -> None:
    """DataError where `table` would raise one."""
    _classes(path, [label for _, label in _rows(path)])


def _rows(path: Path) -> list[tuple[str, str]]:
    """(text, label) of every row."""
    # The csv module refuses fields of more than 128 KiB; a text may be longer.
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(io.StringIO(_decoded(path), newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        _check_commas(path, (reader.fieldnames or [""])[0])
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)} (its first row is "
            f"{', '.join(reader.fieldnames or ()) or 'empty'}): name the columns text,label in the first row"
        )
    try:
        cells = [[(row[column] or "").strip() for column in COLUMNS] for row in reader]
    except csv.Error as error:
        raise DataError(f"{path} is no CSV file ({error} in line {reader.line_num}): export it again") from error
    rows = [(text, label) for text, label in cells]
    _check_filled(path, rows)
    return rows


def _check_commas(path: Path, first: str) -> None:
    """DataError for the table of a spreadsheet that separates otherwise: its first row is one field."""
    for name, separator in (("semicolons", ";"), ("tabs", "\t")):
        if set(COLUMNS) <= set(first.split(separator)):
            raise DataError(f"{path} is separated by {name}: save it with commas")


def _check_filled(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """DataError that names the first rows without text or label, numbered as a spreadsheet numbers them."""
    empty = [number for number, row in enumerate(rows, 2) if not all(row)]
    if empty:
        named = ", ".join(map(str, empty[:NAMED_ROWS]))
        more = f" and {len(empty) - NAMED_ROWS} more" if len(empty) > NAMED_ROWS else ""
        raise DataError(f"{path} has no text or no label in row {named}{more}: fill them in or remove those rows")


def _classes(path: Path, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels in order, each with two texts or more."""
    counts = Counter(labels)
    if len(counts) < 2:
        found = f"one label, {labels[0]}" if counts else "no rows"
        raise DataError(f"{path} has {found}: two labels or more are needed, with two texts each")
    lonely = next((label for label, count in sorted(counts.items()) if count < 2), None)
    if lonely is not None:
        raise DataError(
            f"label {lonely} in {path} has 1 text, but needs two or more, to train on and to test on: add texts or "
            "remove the label"
        )
    return tuple(sorted(counts))


def corpus(path: Path, _: int) -> Corpus:
    """A text file, or every .txt file under a folder in the order of their names, as one running text.

    The last two twentieths are validation and test. Raises DataError when there is no text.
    """
    files = sorted(file for file in path.rglob("*.txt") if file.is_file()) if path.is_dir() else [path]
    texts = [_decoded(file) for file in files]
    if not any(text.strip() for text in texts):
        raise DataError(f"there is no text in {path}: name a text file, or a folder that holds .txt files")
    lines = [line for text in texts for line in (text + "\n" * (not text.endswith("\n"))).splitlines(keepends=True)]
    return Corpus(*cut(lines), "own text", corpus_checksum(lines))


def _decoded(path: Path) -> str:
    """UTF-8 text of a file, line ends as they are."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): name a file that can") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The error counts from after a byte order mark.
        where = error.start + len(raw) - len(error.object)
        line = raw.count(b"\n", 0, where) + 1
        raise DataError(f"{path} is not UTF-8 (byte {where}, line {line}): save it as UTF-8") from error
