"""Pieces of text files to a shard of token ids, a few lines at a time. Workers run this, so it imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import numpy as np

from effi.data.writing import written
from effi.errors import DataError

# Characters that are encoded at once: an encoding takes some hundred times the bytes of its text.
AT_ONCE = 2**14


@dataclass(frozen=True)
class Piece:
    """Whole lines of a file, bytes `start` to `stop`; `open` if its end lacks the line end that lines have."""

    path: str
    start: int
    stop: int
    characters: int
    open: bool = False

    def lines(self) -> list[str]:
        """The lines with their ends; DataError when the file has become another one."""
        try:
            with Path(self.path).open("rb") as file:
                file.seek(self.start)
                raw = file.read(self.stop - self.start)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({error.strerror}): put it back and load it again") from error
        text = raw.decode("utf-8", "replace") + "\n" * self.open
        if len(text) != self.characters:
            raise DataError(f"{self.path} was changed while it was read: load it again, and leave it alone meanwhile")
        return text.splitlines(keepends=True)


def tokenise(path: Path, tokenizer: str, pieces: Sequence[Piece], kind: str) -> dict[str, Any]:
    """A shard at `path` of the ids of all lines in order, little-endian `kind`; what the manifest says of it.

    `tokenizer` is the content of a tokenizer.json. Every line is encoded by itself, as in memory.
    """
    found = written(path, (ids.astype(kind).tobytes() for ids in _ids(_encoder(tokenizer), pieces)))
    return found | {"rows": found["bytes"] // np.dtype(kind).itemsize}


def _encoder(tokenizer: str) -> Any:
    """The tokenizer of a worker, one for all its shards: the library never gives back what one has encoded with."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    # On the process, as a function that travels whole has new globals at every call.
    kept = vars(current_process()).setdefault("encoders", {})
    if tokenizer not in kept:
        kept[tokenizer] = inner = tokenizers.Tokenizer.from_str(tokenizer)
        inner.encode_special_tokens = True
        inner.no_truncation()
        inner.no_padding()
    return kept[tokenizer]


def _ids(inner: Any, pieces: Iterable[Piece]) -> Iterator[np.ndarray]:
    for piece in pieces:
        for lines in _batches(piece.lines()):
            for encoding in inner.encode_batch_fast(lines, add_special_tokens=False):
                yield np.array(encoding.ids, dtype=np.int64)


def _batches(lines: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if size >= AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
