"""The reader's own text: a table of labelled texts, or a corpus."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from effi.data.limits import check_inside, check_size
from effi.data.sources import Corpus, Text, Texts, TextSource, checksum, corpus_checksum, cut
from effi.data.splits import fifth
from effi.errors import DataError

COLUMNS = ("text", "label")
# A table with scores in place of labels is one of numbers; a second text makes every text a pair.
SCORE, SECOND = "score", "text2"
NAMED_ROWS = 5
# A table is held as text and as rows, of up to five times its bytes; a corpus as text and as lines.
LARGEST_TABLE, LARGEST_CORPUS = 2**28, 2**30


def table(path: Path, seed: int) -> TextSource:
    """A CSV file with the columns text and label; a seeded, stratified fifth is the test set.

    A column text2 holds second sentences; a column score in place of label, numbers to be told.
    Raises DataError for another file, one too large for memory, missing columns, empty cells, scores that are no
    numbers, or without two classes of two texts each.
    """
    whole, classes = _read(path)
    test = fifth(whole.labels, seed)
    train, tested = (whole.at(whole.indexed().take(part.nonzero()[:, 0])) for part in (~test, test))
    return TextSource(train, tested, classes, "own texts", checksum(whole))


def check_table(path: Path) -> None:
    """DataError where `table` would raise one."""
    _read(path)


def _read(path: Path) -> tuple[Texts, tuple[str, ...]]:
    """(texts with labels, classes); there are no classes where the labels are numbers."""
    columns, rows = _rows(path)
    texts: list[Text] = [(row[0], row[1]) if SECOND in columns else row[0] for row in rows]
    labels = [row[-1] for row in rows]
    if SCORE in columns:
        return Texts(texts, _scores(path, labels)), ()
    classes = _classes(path, labels)
    return Texts(texts, torch.tensor([classes.index(label) for label in labels])), classes


def _rows(path: Path) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(columns that are read, their cells in every row)."""
    # The csv module refuses fields of more than 128 KiB; a text may be longer.
    csv.field_size_limit(2**31 - 1)
    check_size(path, [path], LARGEST_TABLE)
    reader = csv.DictReader(io.StringIO(_decoded(path), newline=""))
    columns = _columns(path, reader.fieldnames or ())
    try:
        rows = [tuple((row[column] or "").strip() for column in columns) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path} is no CSV file ({error} in line {reader.line_num}): export it again") from error
    _check_filled(path, rows, columns)
    return columns, rows


def _columns(path: Path, found: Sequence[str]) -> tuple[str, ...]:
    """What is read of a table, its label last."""
    wanted = (COLUMNS[0], SCORE) if SCORE in found and COLUMNS[1] not in found else COLUMNS
    missing = [column for column in wanted if column not in found]
    if missing:
        _check_commas(path, (found or [""])[0])
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)} (its first row is "
            f"{', '.join(found) or 'empty'}): name the columns {','.join(wanted)} in the first row"
        )
    return (wanted[0], *([SECOND] if SECOND in found else []), wanted[1])


def _check_commas(path: Path, first: str) -> None:
    """DataError for the table of a spreadsheet that separates otherwise: its first row is one field."""
    for name, separator in (("semicolons", ";"), ("tabs", "\t")):
        if set(COLUMNS) <= set(first.split(separator)):
            raise DataError(f"{path} is separated by {name}: save it with commas")


def _check_filled(path: Path, rows: Sequence[tuple[str, ...]], columns: Sequence[str]) -> None:
    """DataError that names the first rows with an empty cell, numbered as a spreadsheet numbers them."""
    empty = [number for number, row in enumerate(rows, 2) if not all(row)]
    if empty:
        cells = " or no ".join(columns)
        raise DataError(f"{path} has no {cells} in row {_named(empty)}: fill them in or remove those rows")


def _named(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
    return ", ".join(map(str, rows[:NAMED_ROWS])) + more


def _scores(path: Path, cells: Sequence[str]) -> Tensor:
    """float32 (n,), of which not all are the same."""
    scores = [_number(cell) for cell in cells]
    wrong = [row for row, score in enumerate(scores, 2) if not math.isfinite(score)]
    if wrong:
        raise DataError(f"{path} has a score that is no number in row {_named(wrong)}: write numbers like 2.5 there")
    if len(set(scores)) < 2:
        found = f"one score, {cells[0]}" if cells else "no rows"
        raise DataError(f"{path} has {found}: two scores or more are needed, to tell texts apart")
    return torch.tensor(scores, dtype=torch.float32)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


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

    The last two twentieths are validation and test. Raises DataError when there is no text, more than memory holds,
    or a link that leads out of the folder.
    """
    texts = _texts(path)
    lines = [line for text in texts for line in (text + "\n" * (not text.endswith("\n"))).splitlines(keepends=True)]
    return Corpus(*cut(lines), "own text", corpus_checksum(lines))


def check_corpus(path: Path) -> None:
    """DataError where reading the corpus would raise one; what is larger than memory is looked at when it is read."""
    if outgrown(path) is None:
        _texts(path)


def outgrown(path: Path) -> list[Path] | None:
    """The files of a corpus that is larger than what is read into memory; None for others."""
    files = _text_files(path)
    return files if sum(file.stat().st_size for file in files if file.is_file()) > LARGEST_CORPUS else None


def _text_files(path: Path) -> list[Path]:
    """The file, or every .txt file under the folder in the order of their names."""
    files = sorted(file for file in path.rglob("*.txt") if file.is_file()) if path.is_dir() else [path]
    check_inside(files, path)
    return files


def _texts(path: Path) -> list[str]:
    """Content of each file of a corpus."""
    files = _text_files(path)
    check_size(path, files, LARGEST_CORPUS)
    texts = [_decoded(file) for file in files]
    if not any(text.strip() for text in texts):
        raise DataError(f"there is no text in {path}: name a text file, or a folder that holds .txt files")
    return texts


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
