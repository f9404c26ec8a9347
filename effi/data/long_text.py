"""A reader's corpus that no memory holds: read once for its lines, tokenised to shards, and windows of these.

It means what a corpus in memory does: the same lines, the same last two twentieths held out, every line encoded by
itself, windows one after another, the same checksum. Its tokenizer is trained on lines from places drawn all over the
training text, and of what is held out EVENLY windows are taken, evenly spaced.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from effi.data import shards, tokens
from effi.data.order import Permutation, places
from effi.data.shards import Plan, Rows
from effi.data.stored import Stored
from effi.data.tokenising import Piece, tokenise
from effi.data.tokens import Tokenizer
from effi.errors import DataError
from effi.seeds import derive

PARTS = ("train", "validation", "test")
# Bytes that are read at once, and the most that a line may have.
READ, LONGEST_LINE = 2**22, 2**23
# Places in the training text that a tokenizer is trained on, and windows that models are validated and tested on.
PLACES, EVENLY = 64, 4096
Parts = dict[str, list[Piece]]


@dataclass(frozen=True)
class LongText:
    """A corpus in shards: the rows of each part are its token ids, made by `words`."""

    name: str
    words: Tokenizer
    ids: dict[str, Rows]
    checksum: str
    notice: str
    variant: str = "own text"

    def windows(self, part: str, length: int, most: int | None) -> Stored:
        """int32 (n, length) of `most` tokens or fewer of a part, one after another; what fills no window is dropped."""
        ids = self.ids[part]
        count = (len(ids) if most is None else min(most, len(ids))) // length

        def read(chosen: np.ndarray) -> Tensor:
            return torch.from_numpy(ids.groups(chosen, length).astype(np.int32).reshape(-1, length))

        return Stored(self.name, read, count)

    def held(self, part: str, length: int, most: int | None) -> Tensor:
        """EVENLY of these windows or fewer, evenly spaced: always the same."""
        windows = self.windows(part, length, most)
        return windows[places(len(windows), min(EVENLY, len(windows)))]


def read(
    name: str,
    files: Sequence[Path],
    tokenizer: Tokenizer | str | Path | None,
    vocabulary: int,
    seed: int,
    out: Path | None = None,
) -> LongText:
    """Text files as one corpus in shards, which are made where they are not there yet, under `out` or with downloads.

    Raises DataError for text that is not UTF-8, a line that is too long, files that change meanwhile, and as `shards`.
    """
    before, found = scanned(files, out)
    parts: Parts = {part: [Piece(*piece) for piece in found["parts"][part]] for part in PARTS}
    given = tokens.load(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    recipe = _recipe(given, vocabulary, seed)
    # The same text in other files is cut at other places, and has other shards.
    cut = shards.digest([piece[1:] for part in PARTS for piece in found["parts"][part]])
    folder = shards.place({"kind": "text", "checksum": found["checksum"], "tokenizer": recipe, "cut": cut}, out)
    words = given or _trained(folder, parts["train"], vocabulary, seed)
    facts, tasks = _facts(found, parts, recipe, words), _tasks(parts, words)
    manifest = shards.make(Plan(name, folder, facts, tokenise, tasks), lambda: shards.signature(files) == before)
    if manifest["tokenizer"]["sha256"] != words.sha256:
        raise DataError(f"{folder} holds shards of another tokenizer than its own: delete it and load {name} again")
    ids = {part: _rows(folder, manifest, part) for part in PARTS}
    return LongText(name, words, ids, found["checksum"], _notice(name, folder))


def _facts(found: dict[str, Any], parts: Parts, recipe: dict[str, Any], words: Tokenizer) -> dict[str, Any]:
    """What the manifest says of the whole text."""
    return {
        "kind": "text",
        "checksum": found["checksum"],
        "tokenizer": {**recipe, "ids": words.vocabulary, "library": tokens.version(), "sha256": words.sha256},
        "dtype": _kind(words),
        "sources": found["sources"],
        "characters": {part: _characters(pieces) for part, pieces in parts.items()},
    }


def _tasks(parts: Parts, words: Tokenizer) -> dict[str, tuple[Any, ...]]:
    """What is tokenised to which shard."""
    return {
        f"{part}-{number:05}.bin": (words.json, group, _kind(words))
        for part, pieces in parts.items()
        for number, group in enumerate(_grouped(pieces))
    }


def _kind(words: Tokenizer) -> str:
    """Little-endian numbers that hold every id."""
    return "<u2" if words.vocabulary <= 2**16 else "<u4"


def _notice(name: str, folder: Path) -> str:
    return (
        f"{name} is larger than memory: it is read from shards in {folder}; {EVENLY:,} windows or fewer of each of its "
        "last two twentieths, evenly spaced, are what models are validated and tested on."
    )


def _rows(folder: Path, manifest: dict[str, Any], part: str) -> Rows:
    own = [facts for facts in manifest["shards"] if facts["file"].startswith(f"{part}-")]
    return Rows([folder / facts["file"] for facts in own], [facts["rows"] for facts in own], manifest["dtype"])


def _grouped(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces one after another in groups of about SHARD bytes."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += piece.stop - piece.start
        if size >= shards.SHARD:
            yield group
            group, size = [], 0
    if group:
        yield group


# --- the tokenizer -------------------------------------------------------------------------------------------------


def _recipe(given: Tokenizer | None, vocabulary: int, seed: int) -> dict[str, Any]:
    """What decides the ids: a tokenizer that was given, or how one is trained."""
    if given is not None:
        return {"given": given.sha256}
    return {"vocabulary": vocabulary, "seed": seed, "characters": tokens.TRAINED_ON, "places": PLACES}


def _trained(folder: Path, pieces: Sequence[Piece], vocabulary: int, seed: int) -> Tokenizer:
    """The tokenizer that lies with the shards, or one trained on a sample and put there."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        words = tokens.train(_sample(pieces, seed), vocabulary, running=True)
        shards.keep(path, words.json)
    return tokens.load(path)


def _sample(pieces: Sequence[Piece], seed: int) -> Iterator[str]:
    """Lines from up to PLACES places, each of a piece drawn by the seed and from a line in it drawn likewise."""
    drawn = Permutation(len(pieces), derive(seed, "tokenizer"))(torch.arange(min(PLACES, len(pieces))))
    share = -(-tokens.TRAINED_ON // max(1, len(drawn)))
    for number in drawn.tolist():
        lines, size = pieces[number].lines(), 0
        start = derive(seed, f"place {number}") % len(lines)
        for line in lines[start:] + lines[:start]:
            yield line[: share - size]
            size += len(line)
            if size >= share:
                break


# --- reading once --------------------------------------------------------------------------------------------------


def scanned(files: Sequence[Path], out: Path | None = None) -> tuple[str, dict[str, Any]]:
    """The signature of text files and what is in them, which is read when it was not noted before."""
    before = shards.signature(files)
    found = shards.known(before, out)
    if found is None:
        found = _scan(files)
        shards.note(before, found, out)
    return before, found


def _scan(files: Sequence[Path]) -> dict[str, Any]:
    """Sources with their checksums, pieces of the three parts, and the checksum that the corpus has in memory."""
    content = hashlib.sha256()
    sources: list[dict[str, Any]] = []
    pieces: list[Piece] = []
    for file in files:
        own = hashlib.sha256()
        pieces += _pieces(file, own, content)
        sources.append({"name": file.name, "bytes": file.stat().st_size, "sha256": own.hexdigest()})
    parts = {part: [list(astuple(piece)) for piece in own] for part, own in _parts(pieces).items()}
    return {"checksum": f"sha256:{content.hexdigest()}", "sources": sources, "parts": parts}


def _pieces(path: Path, own: Any, content: Any) -> Iterator[Piece]:
    """Whole lines of a file, some READ bytes at a time, as `str.splitlines` finds them in the whole text."""
    decoder, carry, start = _Decoder(path), "", 0
    with path.open("rb") as file:
        while True:
            raw = file.read(READ)
            own.update(raw)
            start += decoder.mark(raw)
            lines = (carry + decoder.decode(raw)).splitlines(keepends=True)
            # The last line may go on, and a return may be followed by the line feed that belongs to it.
            carry = lines.pop() if lines and raw else ""
            if len(carry) > LONGEST_LINE:
                raise DataError(f"{path} has a line of more than {LONGEST_LINE:,} characters: break it into lines")
            unended = not raw and not (lines and lines[-1].endswith("\n"))
            if unended:
                lines[-1:] = ("".join(lines[-1:]) + "\n").splitlines(keepends=True)
            if lines:
                size = len(coded := "\0".join([*lines, ""]).encode()) - len(lines) - unended
                content.update(coded)
                yield Piece(str(path), start, start + size, sum(map(len, lines)), unended)
                start += size
            if not raw:
                return


class _Decoder:
    """UTF-8 a part at a time, which says by byte and line what is none."""

    def __init__(self, path: Path) -> None:
        self._path, self._inner = path, codecs.getincrementaldecoder("utf-8")()
        self._read = self._lines = 0

    def mark(self, raw: bytes) -> int:
        """Bytes of the mark that some programs put before a text."""
        return len(codecs.BOM_UTF8) if self._read == 0 and raw.startswith(codecs.BOM_UTF8) else 0

    def decode(self, raw: bytes) -> str:
        """The text so far not given; the end of the text is an empty `raw`."""
        held = len(self._inner.getstate()[0])
        try:
            text = self._inner.decode(raw[self.mark(raw) :], final=not raw)
        except UnicodeDecodeError as error:
            raise self._wrong(error, held, raw) from error
        self._read += len(raw)
        self._lines += raw.count(b"\n")
        return text

    def _wrong(self, error: UnicodeDecodeError, held: int, raw: bytes) -> DataError:
        within = error.start - held + self.mark(raw)
        line = self._lines + raw[: max(0, within)].count(b"\n") + 1
        return DataError(f"{self._path} is not UTF-8 (byte {self._read + within}, line {line}): save it as UTF-8")


def _parts(pieces: list[Piece]) -> Parts:
    """The pieces of train, validation and test, with bounds where `sources.cut` has them."""
    total = _characters(pieces)
    train, rest = _split(pieces, total * 18 // 20)
    validation, test = _split(rest, total * 19 // 20 - _characters(train))
    return dict(zip(PARTS, (train, validation, test), strict=True))


def _split(pieces: list[Piece], most: int) -> tuple[list[Piece], list[Piece]]:
    """As many lines as have `most` characters or fewer, and the others."""
    for position, piece in enumerate(pieces):
        if piece.characters > most:
            head, tail = _halves(piece, most)
            return [*pieces[:position], *head], [tail, *pieces[position + 1 :]]
        most -= piece.characters
    return pieces, []


def _halves(piece: Piece, most: int) -> tuple[list[Piece], Piece]:
    size = characters = 0
    for line in piece.lines():
        if characters + len(line) > most:
            break
        size, characters = size + len(line.encode()), characters + len(line)
    middle = piece.start + size
    head = [Piece(piece.path, piece.start, middle, characters)] if characters else []
    return head, Piece(piece.path, middle, piece.stop, piece.characters - characters, piece.open)


def _characters(pieces: Sequence[Piece]) -> int:
    return sum(piece.characters for piece in pieces)
