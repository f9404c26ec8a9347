"""From text to token ids and back: a byte-level BPE trained on the spot, or the reader's tokenizer.json."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from effi import paths
from effi.data.sources import Text
from effi.errors import DataError, ParameterError

# Ids 0 to 4 of a trained vocabulary: padding, unknown, start, end, mask.
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
SPECIAL_IDS = (0, 1, 2, 3, 4)
SMALLEST = 256 + len(SPECIAL)
# What published tokenizers call the five; GPT-2 has one token for all of them.
ONLY = "<|endoftext|>"
NAMES = (
    ("<pad>", "[PAD]", ONLY),
    ("<unk>", "[UNK]", ONLY),
    ("<s>", "[CLS]", "<bos>", "<|startoftext|>", ONLY),
    ("</s>", "[SEP]", "<eos>", ONLY),
    ("<mask>", "[MASK]", ONLY),
)
# Merges settle long before a corpus is read to its end.
TRAINED_ON = 2_000_000


class Tokenizer:
    """Text to ids with a start and an end; `special` holds the ids of padding, unknown, start, end and mask."""

    def __init__(self, inner: Any, special: tuple[int, ...] = SPECIAL_IDS) -> None:
        self._inner, self.special = inner, special
        self.vocabulary: int = inner.get_vocab_size()
        # Text that spells "<pad>" is text.
        inner.encode_special_tokens = True
        inner.no_truncation()
        inner.no_padding()

    def pieces(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Ids of each text, without start and end, as the texts come."""
        for encoding in self._encodings(texts):
            yield encoding.ids

    def rows(self, texts: Sequence[Text], length: int) -> Tensor:
        """int32 (n, length): start, text, end; cut at `length` with the end kept, padded with the id of padding.

        A text of two sentences is start, first, end, second, end; of these the longer one is cut, then both.
        """
        rows = np.full((len(texts), length), self.special[0], dtype=np.int32)
        for row, ids in zip(rows, self._whole(texts, length), strict=True):
            row[: len(ids)] = ids[:length]
            if len(ids) > length:
                row[-1] = self.special[3]
        return torch.from_numpy(rows)

    def pack(self, texts: Iterable[str], length: int, most: int | None, *, running: bool = False) -> Tensor:
        """int32 (rows, length) of `most` tokens or fewer, without padding; what fills no row is dropped.

        Each text has its start and end, unless all are one `running` text.
        """
        count = np.inf if most is None else most - most % length
        parts, total = [np.empty(0, dtype=np.int32)], 0
        for ids in self.pieces(texts) if running else self._framed(texts):
            if total >= count:
                break
            parts.append(np.array(ids, dtype=np.int32))
            total += len(ids)
        flat = np.concatenate(parts)[: int(min(count, total - total % length))]
        return torch.from_numpy(flat.reshape(-1, length))

    def text(self, ids: Iterable[int]) -> str:
        """The text of ids, special ones left out."""
        return self._inner.decode([int(each) for each in ids if int(each) not in self.special]).strip()

    @property
    def json(self) -> str:
        """The content of its tokenizer.json."""
        return str(self._inner.to_str())

    @property
    def sha256(self) -> str:
        """Of that content."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the tokenizer.json that `load` and `transformers` read."""
        self._inner.save(str(path))

    def _whole(self, texts: Sequence[Text], length: int) -> Iterator[list[int]]:
        """Framed ids of each text; of one sentence in full, of two within `length`."""
        pairs = [text for text in texts if not isinstance(text, str)]
        return self._joined(pairs, length) if pairs else self._framed(text for text in texts if isinstance(text, str))

    def _joined(self, pairs: Sequence[tuple[str, str]], length: int) -> Iterator[list[int]]:
        start, end = self.special[2:4]
        self._inner.enable_truncation(length - 3, strategy="longest_first")
        try:
            firsts, seconds = _apart(first for first, _ in pairs), _apart(second for _, second in pairs)
            for encoding in self._encodings(zip(firsts, seconds, strict=True)):
                first = encoding.sequence_ids.count(0)
                yield [start, *encoding.ids[:first], end, *encoding.ids[first:], end]
        finally:
            self._inner.no_truncation()

    def _encodings(self, texts: Iterable[Text]) -> Iterator[Any]:
        stream = iter(texts)
        while batch := list(islice(stream, 1024)):
            yield from self._inner.encode_batch_fast(batch, add_special_tokens=False)

    def _framed(self, texts: Iterable[str]) -> Iterator[list[int]]:
        for ids in self.pieces(_apart(texts)):
            yield [self.special[2], *ids, self.special[3]]


def train(texts: Iterable[str], vocabulary: int, *, running: bool = False) -> Tokenizer:
    """A byte-level BPE of at most `vocabulary` ids, fewer for a short text; the same texts give the same ids.

    `running` as in `pack`. It reads the first 2 M characters. Raises ParameterError for fewer ids than bytes and
    special tokens together.
    """
    if vocabulary < SMALLEST:
        raise ParameterError(f"vocabulary={vocabulary} is too small: ask for {SMALLEST} or more, one for every byte")
    tokenizers = _library()
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=SPECIAL[1]))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": vocabulary, "special_tokens": list(SPECIAL), "initial_alphabet": alphabet}
    trainer = tokenizers.trainers.BpeTrainer(**options, min_frequency=2, show_progress=False)
    inner.train_from_iterator(_limited(texts if running else _apart(texts), TRAINED_ON), trainer)
    return Tokenizer(inner)


def load(path: str | Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json; a relative path is meant from the root of the workbook.

    Raises DataError when there is none, or when a special token is missing.
    """
    place = paths.ROOT / Path(path).expanduser()
    if not place.is_file():
        raise DataError(f"there is no {place}: name the tokenizer.json of your tokenizer")
    try:
        inner = _library().Tokenizer.from_file(str(place))
    # The library raises a bare Exception for any file that is not one of its own.
    except Exception as error:
        raise DataError(f"{place} is no tokenizer.json ({error}): save one with tokenizers or transformers") from error
    return Tokenizer(inner, tuple(_known(inner, names, place) for names in NAMES))


def version() -> str:
    """The library that trains and encodes."""
    return f"tokenizers {_library().__version__}"


def _known(inner: Any, names: Sequence[str], place: Path) -> int:
    found = next((token for name in names if (token := inner.token_to_id(name)) is not None), None)
    if found is None:
        raise DataError(f"{place} has no token {' or '.join(names)}: add it to the tokenizer")
    return found


def _apart(texts: Iterable[str]) -> Iterator[str]:
    """Texts with a space in front, so that a word is the same at their start and within."""
    return (f" {text}" for text in texts)


def _limited(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        yield text[:characters]
        characters -= len(text)


def _library() -> Any:
    """The tokenizers library, on one thread: its pool and a forked worker do not go together."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    return tokenizers
