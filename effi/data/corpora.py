"""Readers of the named corpora and of IMDB: official files to texts, checked against the manifest."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import torch

from effi.data.files import Entry, verified
from effi.data.sources import Corpus, Texts, TextSource, checksum, corpus_checksum, cut

SENTIMENT = {"neg": 0, "pos": 1}


def imdb(entry: Entry, folder: Path) -> TextSource:
    """IMDB's 25,000 + 25,000 reviews, and 50,000 unlabelled ones that are read only if asked for."""
    variant, content = verified(entry, folder)
    found: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    first, *_ = content.values()
    for (part, kind), text in _reviews(first):
        if kind in SENTIMENT:
            found[part].append((text, SENTIMENT[kind]))
    train, test = (_texts(found[part]) for part in ("train", "test"))
    *_, last = content.values()
    return TextSource(
        train,
        test,
        tuple(entry.classes),
        variant,
        checksum(train, test),
        unlabelled=lambda: (text for (_, kind), text in _reviews(last) if kind == "unsup"),
        notice=entry.notice(variant),
    )


def _reviews(archive: bytes) -> Iterator[tuple[tuple[str, str], str]]:
    """((train or test, folder within), text) of every review of an aclImdb archive, in its order."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            place = member.name.split("/")
            if member.isfile() and len(place) == 4 and (content := tar.extractfile(member)):
                yield (place[1], place[2]), content.read().decode("utf-8").replace("<br />", "\n")


def wikitext(entry: Entry, folder: Path) -> Corpus:
    """WikiText-2 in its three official parts."""
    variant, content = verified(entry, folder)
    train, validation, test = (_lines(raw) for raw in content.values())
    content_hash = corpus_checksum(train, validation, test)
    return Corpus(train, validation, test, variant, content_hash, notice=entry.notice(variant))


def shakespeare(entry: Entry, folder: Path) -> Corpus:
    """Tiny Shakespeare; the last two twentieths are validation and test."""
    variant, content = verified(entry, folder)
    lines = [line for raw in content.values() for line in _lines(raw)]
    return Corpus(*cut(lines), variant, corpus_checksum(lines), notice=entry.notice(variant))


def _lines(raw: bytes) -> list[str]:
    return raw.decode("utf-8").splitlines(keepends=True)


def _texts(rows: list[tuple[str, int]]) -> Texts:
    texts, labels = zip(*rows, strict=True)
    return Texts(texts, torch.tensor(labels))
