"""Readers of the tasks of GLUE (Wang et al. 2018): tables of one or two sentences with a class or a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from effi.data.files import Entry, damaged, lines, verified
from effi.data.sources import Text, Texts, TextSource, checksum

HIGHEST = 5.0  # of the similarities of STS-B, the only numbers among the labels


@dataclass(frozen=True)
class Table:
    """Where a table separated by tabs has its texts and its labels; quotes are part of the text.

    It has a `header` or none, and as many `columns`, or `more` where notes follow them.
    """

    texts: tuple[int, ...]
    label: int
    columns: int
    header: str = ""
    more: bool = False

    def row(self, line: str, classes: dict[str, int]) -> tuple[Text, float]:
        """(text, label) of a line; ValueError says what is wrong with it."""
        cells = line.split("\t")
        if len(cells) < self.columns or (len(cells) > self.columns and not self.more):
            raise ValueError(f"columns: {len(cells)} instead of {self.columns}")
        sentences = [cells[column].strip() for column in self.texts]
        if not all(sentences):
            raise ValueError("a sentence is empty")
        label = _class(cells[self.label], classes) if classes else _number(cells[self.label])
        return (sentences[0] if len(sentences) == 1 else (sentences[0], sentences[1])), label


def _class(cell: str, classes: dict[str, int]) -> int:
    if cell not in classes:
        raise ValueError(f"the label {cell!r} is none of {', '.join(classes)}")
    return classes[cell]


def _number(cell: str) -> float:
    number = float(cell)
    if not 0 <= number <= HIGHEST:
        raise ValueError(f"the score {cell} is not between 0 and {HIGHEST:g}")
    return number


def _read(table: Table, entry: Entry, folder: Path) -> TextSource:
    """Train and what is held out; the first of two held-out files is the official validation set."""
    variant, content = verified(entry, folder)
    parts = [_part(table, entry, folder / name, raw) for name, raw in content.items()]
    train, *held = parts
    validation, test = held if len(held) == 2 else (None, held[0])
    classes, notice = tuple(entry.classes), entry.notice(variant)
    return TextSource(train, test, classes, variant, checksum(*parts), validation, notice=notice)


def _part(table: Table, entry: Entry, path: Path, raw: bytes) -> Texts:
    rows = list(_rows(table, entry, path, raw))
    # Seeds choose by place, and the checksum of lines leaves the order open.
    if entry.files.get(path.name, "").startswith("lines:"):
        rows.sort()
    texts, labels = zip(*rows, strict=True)
    return Texts(texts, torch.tensor(labels, dtype=torch.int64 if entry.classes else torch.float32))


def _rows(table: Table, entry: Entry, path: Path, raw: bytes) -> Iterator[tuple[Text, float]]:
    """(text, label) of every line but the header; a label is written as the name of its class or as its number."""
    classes = {name: label for label, each in enumerate(entry.classes) for name in (str(label), each)}
    for number, line in enumerate(lines(raw), 1):
        try:
            if number > 1 or not table.header:
                yield table.row(line.decode("utf-8"), classes)
            elif line.decode("utf-8") != table.header:
                raise ValueError(f"the header is not {' '.join(table.header.split())}")
        except ValueError as error:
            raise damaged(entry, path, f"cannot be read in line {number} ({error})") from error


_INFERENCE = Table(texts=(1, 2), label=3, columns=4, header="index\tsentence1\tsentence2\tlabel")
_PARAPHRASES = Table(texts=(3, 4), label=0, columns=5, header="Quality\t#1 ID\t#2 ID\t#1 String\t#2 String")

Reader = Callable[[Entry, Path], TextSource]
sst2: Reader = partial(_read, Table(texts=(0,), label=1, columns=2, header="sentence\tlabel"))
cola: Reader = partial(_read, Table(texts=(3,), label=1, columns=4))
rte: Reader = partial(_read, _INFERENCE)
wnli: Reader = partial(_read, _INFERENCE)
mrpc: Reader = partial(_read, _PARAPHRASES)
stsb: Reader = partial(_read, Table(texts=(5, 6), label=4, columns=7, more=True))
