"""What to know of one's own data before anything is trained on it: files passed over, duplicates, tiny images."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from effi.advice.methods import Data

TINY = 8
NAMED = 3


def remarks(kind: Data, path: Path) -> list[str]:
    """Sentences; none where there is nothing to say. Reads every file once; an image's size without its pixels."""
    return list({"folder": _images, "csv": _rows, "text": _text}[kind](path))


def _images(folder: Path) -> Iterator[str]:
    passed, tiny, seen = list[str](), list[str](), Counter[str]()
    for file in sorted(each for each in folder.glob("*/**/*") if each.is_file()):
        name = str(file.relative_to(folder))
        try:
            with Image.open(file) as image:
                small = min(image.size) < TINY
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
            passed.append(name)
            continue
        tiny += [name] if small else []
        seen[hashlib.sha256(file.read_bytes()).hexdigest()] += 1
    yield from _named(passed, "no image and passed over")
    yield from _named(tiny, f"narrower than {TINY} pixels")
    yield from _twice(seen, "images")


def _rows(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = Counter("\x1f".join(row) for row in csv.reader(file))
    yield from _twice(rows, "rows")


def _text(path: Path) -> Iterator[str]:
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    if size < 200_000:
        yield f"The text has {size / 1000:.0f} kB: every seed reads it many times over, and what is told is of that."


def _named(files: list[str], what: str) -> Iterator[str]:
    if files:
        listed = ", ".join(files[:NAMED]) + (" ..." if len(files) > NAMED else "")
        yield f"{len(files)} file{'s are' if len(files) > 1 else ' is'} {what}: {listed}."


def _twice(seen: Counter[str], what: str) -> Iterator[str]:
    again = sum(count - 1 for count in seen.values())
    if again:
        copies = "are copies" if again > 1 else "is a copy"
        yield f"{again} of the {what} {copies} of another: the test split may hold what was trained on."
