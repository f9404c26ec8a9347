"""Readers of the named data sets: official files to examples, checked against the manifest."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
import torch

from effi.data.cifar import Batch, read_batch
from effi.data.examples import Examples, checksum
from effi.data.files import Entry, damaged, matches, read, verified
from effi.data.sources import Source

GZIP = 31  # zlib's window size for gzip files, checksum included
DIGITS_TEST = 360


def mnist(entry: Entry, folder: Path) -> Source:
    """MNIST in its four official files; DataError for a file whose checksum differs."""
    arrays = [_idx(_gunzip(content)) for content in verified(entry, folder)[1].values()]
    train_images, train_labels, test_images, test_labels = arrays
    train = _examples(train_images[:, None], train_labels)
    return _source(entry, train, _examples(test_images[:, None], test_labels), variant="official")


def _gunzip(content: bytes) -> bytearray:
    """Writable, as torch wants it."""
    return bytearray(zlib.decompress(content, wbits=GZIP))


def _idx(raw: bytearray) -> np.ndarray:
    """uint8 array of an IDX file: two zero bytes, type, dimensions, big-endian shape, values."""
    shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def cifar10(entry: Entry, folder: Path) -> Source:
    """CIFAR-10: the official batch files, or others with the content of a known variant; else DataError."""
    batches, official = {}, set()
    for name, expected in entry.files.items():
        content = read(entry, folder / name)
        if matches(content, expected):
            official.add(name)
        try:
            batches[name] = read_batch(content)
        except ValueError as error:
            raise damaged(entry, folder / name, str(error)) from error
    variant = _variant(entry, folder, batches, official)
    images, labels = zip(*batches.values(), strict=True)
    pixels, targets, test = np.concatenate(images), np.concatenate(labels), len(images[-1])
    parts = _examples(pixels[:-test], targets[:-test]), _examples(pixels[-test:], targets[-test:])
    return _source(entry, *parts, variant=variant)


def digits(entry: Entry, folder: Path) -> Source:
    """The digits of scikit-learn; the last fifth is the test set, so that hardly a writer is in both.

    Read from its file, because importing scikit-learn takes seconds. DataError when the checksum differs.
    """
    (content,) = verified(entry, folder)[1].values()
    table = np.loadtxt(io.BytesIO(_gunzip(content)), delimiter=",")
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, -1]
    train = _examples(images[:-DIGITS_TEST], labels[:-DIGITS_TEST])
    test = _examples(images[-DIGITS_TEST:], labels[-DIGITS_TEST:])
    return _source(entry, train, test, variant="official")


def _variant(entry: Entry, folder: Path, batches: Mapping[str, Batch], official: Set[str]) -> str:
    """Name of the variant that all batches are of; DataError that names the first other one where most are of one."""
    held = {"official": official}
    if len(official) < len(batches):
        held |= {name: _known(batches, variant["batches"]) for name, variant in entry.variants.items()}
    variant = max(held, key=lambda name: len(held[name]))
    if not held[variant]:
        raise damaged(entry, folder, "holds neither the official files nor a known copy")
    for name in batches:
        if name not in held[variant]:
            how = f"does not have the checksum of the file that belongs to the others ({variant})"
            raise damaged(entry, folder / name, how)
    return variant


def _known(batches: Mapping[str, Batch], checksums: Mapping[str, str]) -> set[str]:
    """Names of the batches whose pixels and labels have these checksums."""
    content = {name: images.tobytes() + labels.tobytes() for name, (images, labels) in batches.items()}
    return {name for name in batches if matches(content[name], checksums[name])}


def _examples(images: np.ndarray, labels: np.ndarray) -> Examples:
    return Examples(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def _source(entry: Entry, train: Examples, test: Examples, *, variant: str) -> Source:
    return Source(train, test, tuple(entry.classes), variant, checksum(train, test), entry.notice(variant))
