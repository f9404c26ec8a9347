"""Text ready for a model: labelled texts as token ids, and corpora as rows that a language model trains on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from effi.data import catalogue, long_text, tokens
from effi.data.examples import IGNORED, Examples, TextDataset
from effi.data.long_text import LongText
from effi.data.order import uniform
from effi.data.sources import Corpus, Texts, TextSource
from effi.data.splits import hold_out, shorten
from effi.data.stored import Stored, as_tensor, on_disk, resident
from effi.data.tokens import SPECIAL_IDS, Tokenizer
from effi.errors import DataError, ParameterError
from effi.seeds import derive

OBJECTIVES = ("causal", "masked")
SHORTEST = 4


def load_text(
    name: str,
    *,
    train: int | None = None,
    validation: int | float = 0.1,
    test: int | None = None,
    length: int = 128,
    vocabulary: int = 4000,
    corpus: int | None = 0,
    tokenizer: Tokenizer | str | Path | None = None,
    seed: int = 0,
    draw: int | None = None,
) -> TextDataset:
    """Labelled texts by name, or `csv:PATH`, as ids; subsets are seeded and stratified as those of images are.

    Of two sentences a row has start, first, end, second, end; the corpus and the tokenizer's text have them apart.
    `draw` is a seed of its own for which texts train and validate, while those of the test stay. `length` counts
    tokens, start and end included. `corpus` is the most tokens of unlabelled text wanted, None for
    all: the set's own, or the training texts outside validation. A tokenizer is trained on these training texts,
    or given, or named by its tokenizer.json. Downloads what is absent. Raises DataError, ParameterError.
    """
    _check(length, corpus)
    source = catalogue.read_text(name, seed)
    chosen, held, pool = _parts(source, train, validation, seed if draw is None else draw)
    tested = source.test.at(shorten(source.test.indexed(), test, seed))
    words = _words(tokenizer, pool.sentences, vocabulary, seed)
    more = source.unlabelled() if source.unlabelled else pool.sentences
    splits = [Examples(words.rows(part.texts, length), part.labels) for part in (chosen, held, tested)]
    packed = words.pack(more if corpus != 0 else (), length, corpus)
    return _dataset(name, source, words, splits, packed, source.classes)


def load_corpus(
    name: str,
    *,
    objective: str = "causal",
    corpus: int | None = None,
    length: int = 128,
    vocabulary: int = 4000,
    tokenizer: Tokenizer | str | Path | None = None,
    seed: int = 0,
) -> TextDataset:
    """A corpus by name, `text:PATH`, or the text of a labelled set, with every token's label: for language models.

    `corpus` is the most tokens to train on, None for all; a tenth of that are validation and test each. The training
    rows are also the data set's `corpus`. Objective "causal" or "masked". A text that is larger than memory is read
    from shards, which are made at the first call (see `long_text`). Raises DataError, ParameterError.
    """
    _check(length, corpus, objective)
    read = _from_shards if catalogue.outgrown(name) else _in_memory
    source, words, parts = read(name, length, corpus, tokenizer, vocabulary, seed)
    if not all(map(len, parts)):
        has = ", ".join(str(len(part)) for part in parts)
        raise DataError(
            f"{name} has {has} rows of {length} tokens to train, validate and test on, and each needs one: "
            "add text, or ask for more tokens or shorter rows"
        )
    views = [_view(part, objective, words.vocabulary, seed + k, words.special) for k, part in enumerate(parts)]
    return _dataset(name, source, words, views, parts[0])


def _in_memory(
    name: str, length: int, most: int | None, given: Tokenizer | str | Path | None, vocabulary: int, seed: int
) -> tuple[Corpus, Tokenizer, list[Tensor]]:
    """A corpus, what made its ids, and rows of them of its three parts."""
    source, rest = catalogue.read_corpus(name, seed), _rest(most, length)
    words = _words(given, source.train, vocabulary, seed, source.running)
    sizes = ((source.train, most), (source.validation, rest), (source.test, rest))
    return source, words, [words.pack(texts, length, count, running=source.running) for texts, count in sizes]


def _from_shards(
    name: str, length: int, most: int | None, given: Tokenizer | str | Path | None, vocabulary: int, seed: int
) -> tuple[LongText, Tokenizer, list[Tensor]]:
    """As `_in_memory`, of a corpus that outgrew it: what is trained on stays on disk unless it is small."""
    source = long_text.read(catalogue.label(name), catalogue.outgrown(name) or [], given, vocabulary, seed)
    held = [source.held(part, length, _rest(most, length)) for part in ("validation", "test")]
    return source, source.words, [resident(as_tensor(source.windows("train", length, most))), *held]


def _rest(most: int | None, length: int) -> int | None:
    """Tokens that are held out, twice, where `most` are trained on."""
    return None if most is None else max(length, most // 10)


def corpus_dataset(
    data: TextDataset, objective: str = "causal", *, validation: float = 0.05, seed: int = 0
) -> TextDataset:
    """The corpus of a data set as one to pretrain on, with the same ids; two shares of `validation` are held out.

    Objective "causal" or "masked". Raises DataError when the corpus is too small for three parts.
    """
    _check(data.corpus.shape[1], None, objective)
    held = ceil(round(validation * len(data.corpus), 6))
    if not 0 < held < len(data.corpus) / 2:
        raise DataError(
            f"the corpus of {data.name} has {len(data.corpus)} rows, of which a share of {validation:g} cannot be held "
            "out twice: ask load_text for more `corpus` tokens"
        )
    order = torch.randperm(len(data.corpus), generator=torch.Generator().manual_seed(seed))
    parts = [data.corpus[rows] for rows in (order[2 * held :], order[:held], order[held : 2 * held])]
    special = data.tokenizer.special if data.tokenizer else SPECIAL_IDS
    train, held_out, test = (_view(part, objective, data.vocabulary, seed + k, special) for k, part in enumerate(parts))
    return replace(data, train=train, validation=held_out, test=test, classes=(), corpus=parts[0])


def causal(rows: Tensor) -> Examples:
    """Rows of ids int32 (n, length) as inputs (n, length - 1), each labelled with the token that follows it."""
    if (stored := on_disk(rows)) is not None:
        inputs, labels = stored.then(lambda read, _: read[:, :-1]), stored.then(lambda read, _: read[:, 1:].long())
        return Examples(as_tensor(inputs), as_tensor(labels))
    return Examples(rows[:, :-1].contiguous(), rows[:, 1:].long())


def masked(
    rows: Tensor,
    vocabulary: int,
    mask: int = SPECIAL_IDS[4],
    seed: int = 0,
    *,
    share: float = 0.15,
    special: Sequence[int] = SPECIAL_IDS,
) -> Examples:
    """Rows of ids with a `share` of their tokens to be guessed; all other labels are IGNORED.

    Of these 80 % read `mask`, 10 % another token, 10 % themselves; special ids are neither guessed nor put in.
    Devlin et al. 2019, section 3.1 and appendix A.1.
    """
    if not 0 < share < 1:
        raise ParameterError(f"share={share} of the tokens cannot be masked: ask for more than 0 and less than 1")
    ordinary = torch.ones(vocabulary, dtype=torch.bool)
    ordinary[[each for each in special if each < vocabulary]] = False
    others = ordinary.nonzero()[:, 0].to(rows.dtype)
    if (stored := on_disk(rows)) is not None:
        return _masked_when_read(stored, ordinary, others, mask, seed, share)
    stream = torch.Generator().manual_seed(seed)
    guess, fate = (torch.rand(rows.shape, generator=stream) for _ in range(2))
    other = others[torch.randint(len(others), rows.shape, generator=stream)]
    return _hidden(rows, (guess < share) & ordinary[rows.long()], fate, mask, other)


def _masked_when_read(rows: Stored, ordinary: Tensor, others: Tensor, mask: int, seed: int, share: float) -> Examples:
    """As `masked`, of rows on disk: what is hidden in a row hangs on the seed and its number alone."""

    def change(read: Tensor, places: np.ndarray) -> Examples:
        width = read.shape[1]
        guess, fate, chance = (uniform(places, width, derive(seed, purpose)) for purpose in ("guess", "fate", "other"))
        other = others[(chance * len(others)).long()]
        return _hidden(read, (guess < share) & ordinary[read.long()], fate, mask, other)

    inputs = rows.then(lambda read, places: change(read, places).inputs)
    labels = rows.then(lambda read, places: change(read, places).labels)
    return Examples(as_tensor(inputs), as_tensor(labels))


def _hidden(rows: Tensor, guessed: Tensor, fate: Tensor, mask: int, other: Tensor) -> Examples:
    """Rows whose `guessed` tokens read the mask, another token or themselves, as their `fate` in [0, 1) says."""
    shown = torch.where(fate < 0.8, torch.full_like(rows, mask), torch.where(fate < 0.9, other, rows))
    return Examples(torch.where(guessed, shown, rows), torch.where(guessed, rows.long(), IGNORED))


def _dataset(
    name: str,
    source: TextSource | Corpus | LongText,
    words: Tokenizer,
    splits: Iterable[Examples],
    corpus: Tensor,
    classes: tuple[str, ...] = (),
) -> TextDataset:
    train, validation, test = splits
    return TextDataset(
        catalogue.label(name),
        train,
        validation,
        test,
        classes=classes,
        checksum=source.checksum,
        variant=source.variant,
        vocabulary=words.vocabulary,
        corpus=corpus,
        notice=source.notice,
        pad=words.special[0],
        tokenizer=words,
    )


def _view(rows: Tensor, objective: str, vocabulary: int, seed: int, special: tuple[int, ...]) -> Examples:
    return causal(rows) if objective == "causal" else masked(rows, vocabulary, special[4], seed, special=special)


def _parts(source: TextSource, train: int | None, validation: int | float, seed: int) -> tuple[Texts, Texts, Texts]:
    """(train, validation, every training text outside validation)."""
    whole = source.train.indexed()
    if source.validation is None:
        chosen, held = hold_out(whole, train, validation, seed)
        outside = torch.ones(len(whole), dtype=torch.bool)
        outside[held.inputs] = False
        pool = whole.take(outside.nonzero()[:, 0])
        return source.train.at(chosen), source.train.at(held), source.train.at(pool)
    chosen, _ = hold_out(whole, train, 0, seed)
    held = _official(source.validation.indexed(), len(chosen), validation, seed)
    return source.train.at(chosen), source.validation.at(held), source.train


def _official(held: Examples, train: int, validation: int | float, seed: int) -> Examples:
    """The official validation set: all of it, or as many examples as the share of train or the count asks for."""
    if validation == 0:
        return held.take(torch.empty(0, dtype=torch.int64))
    count = validation if isinstance(validation, int) else min(len(held), ceil(round(validation * train, 6)))
    return shorten(held, count, seed, "validation")


def _words(
    given: Tokenizer | str | Path | None, texts: Sequence[str], vocabulary: int, seed: int, running: bool = False
) -> Tokenizer:
    """The tokenizer given or named, or one trained on a seeded sample of the texts."""
    if isinstance(given, Tokenizer):
        return given
    if given is not None:
        return tokens.load(given)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    return tokens.train((texts[index] for index in order), vocabulary, running=running)


def _check(length: int, corpus: int | None, objective: str = "causal") -> None:
    if objective not in OBJECTIVES:
        raise ParameterError(f"unknown objective {objective!r}: choose {' or '.join(OBJECTIVES)}")
    if length < SHORTEST:
        raise ParameterError(f"length={length} is too short for a text: ask for {SHORTEST} tokens or more")
    if corpus is not None and corpus < 0:
        raise ParameterError(f"corpus={corpus} is no number of tokens: ask for 0 or more, or None for all")
