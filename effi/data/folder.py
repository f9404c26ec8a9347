"""The reader's own images: a folder per class."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from effi.data import shards
from effi.data.decoding import Format, decode, pixels, unreadable
from effi.data.examples import Examples
from effi.data.limits import check_inside
from effi.data.shards import Plan, Rows
from effi.data.sources import Source
from effi.data.splits import fifth
from effi.data.stored import Stored, as_tensor
from effi.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
GREY = ("1", "L", "LA")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
LARGEST = 8 * 2**30


def read(folder: Path, size: int | None, seed: int) -> Source:
    """Every image under `folder`/CLASS; a seeded, stratified fifth is the test set.

    All images come to `size` x `size`, or to their most common size; grey only if all are. Raises DataError
    for a folder without two classes of two readable 8-bit images each, or a link that leads out of the folder. Images
    of more than LARGEST bytes are decoded to shards, and stay on disk.
    """
    files = _files(folder)
    flat = [file for found in files.values() for file in found]
    counts = torch.tensor([len(found) for found in files.values()])
    labels = torch.arange(len(files)).repeat_interleave(counts)
    images, checksum, notice = _decoded(folder, flat, size)
    examples = Examples(images, labels)
    test = fifth(labels, seed)
    parts = examples.take((~test).nonzero()[:, 0]), examples.take(test.nonzero()[:, 0])
    return Source(*parts, tuple(files), "own images", checksum, notice)


def check(folder: Path) -> None:
    """DataError where `read` would raise one before it opens an image."""
    _files(folder)


def _files(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted by name."""
    if not folder.is_dir():
        table = "; a table of texts is csv:PATH" if folder.suffix == ".csv" else ""
        raise DataError(f"{folder} is no folder: name one that holds a folder of images per class{table}")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    check_inside(classes, folder)
    files = {path.name: _image_files(path) for path in classes}
    check_inside(chain.from_iterable(files.values()), folder)
    if not any(files.values()):
        raise DataError(f"no images in {folder}: put them there, in a folder per class ({' '.join(sorted(SUFFIXES))})")
    if len(files) < 2:
        raise DataError(f"{folder} has one class, {classes[0].name}: two or more are needed, a folder each")
    for name, found in files.items():
        if len(found) < 2:
            raise DataError(
                f"class {name} in {folder} has {len(found)} image{'' if found else 's'}, but needs two or more, "
                "to train on and to test on: add images or remove the class"
            )
    return files


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _decoded(folder: Path, files: Sequence[Path], size: int | None) -> tuple[torch.Tensor, str, str | None]:
    """(pixels of all files, in memory or on disk; checksum of the folder; what to know of pixels on disk)."""
    before = shards.signature(files, size)
    noted = shards.known(before)
    wanted = Format(*noted["format"]) if noted else _format(files, size)
    if wanted.bytes * len(files) <= LARGEST:
        return _images(files, wanted), _checksum(folder, files), None
    if noted is None:
        noted = {"format": astuple(wanted), "checksum": _checksum(folder, files)}
        shards.note(before, noted)
    plan = _plan(f"folder:{folder.resolve().name}", files, wanted, noted["checksum"])
    made = shards.make(plan, lambda: shards.signature(files, size) == before)["shards"]
    notice = f"{plan.name} is larger than memory: it is read from shards in {plan.folder}."
    return _stored(plan, made, wanted), noted["checksum"], notice


def _plan(name: str, files: Sequence[Path], wanted: Format, checksum: str) -> Plan:
    """The shards that images are decoded to, each of as many as SHARD bytes hold."""
    each = max(1, shards.SHARD // wanted.bytes)
    tasks = {
        f"images-{number:05}.bin": ([str(file) for file in files[start : start + each]], wanted)
        for number, start in enumerate(range(0, len(files), each))
    }
    facts = {"kind": "images", "checksum": checksum, "format": astuple(wanted)}
    return Plan(name, shards.place(facts), {**facts, "images": len(files)}, decode, tasks)


def _stored(plan: Plan, made: Sequence[Mapping[str, Any]], wanted: Format) -> torch.Tensor:
    """uint8 (n, channels, height, width) on disk."""
    shape = (len(wanted.mode), wanted.height, wanted.width)
    rows = Rows([plan.folder / facts["file"] for facts in made], [facts["rows"] for facts in made], "u1", shape)
    return as_tensor(Stored(plan.name, lambda places: torch.from_numpy(rows.groups(places).copy()), len(rows)))


def _format(files: Sequence[Path], size: int | None) -> Format:
    """What the headers of the images ask for."""
    headers = [_header(file) for file in files]
    mode = "L" if all(header[0] in GREY for header in headers) else "RGB"
    width, height = (size, size) if size else Counter(header[1] for header in headers).most_common(1)[0][0]
    return Format(mode, width, height)


def _header(file: Path) -> tuple[str, tuple[int, int]]:
    """(mode, (width, height)) without decoding the image."""
    try:
        with Image.open(file) as image:
            mode, extent = image.mode, image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(file, error) from error
    if mode not in GREY + COLOUR:
        raise DataError(f"image {file} has pixels of kind {mode}: convert it to 8 bits per channel")
    return mode, extent


def _images(files: Sequence[Path], wanted: Format) -> torch.Tensor:
    """uint8 (n, channels, height, width)."""
    images = np.empty((len(files), wanted.height, wanted.width, len(wanted.mode)), dtype=np.uint8)
    for slot, file in zip(images, files, strict=True):
        slot[:] = pixels(file, wanted)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _checksum(folder: Path, files: Sequence[Path]) -> str:
    """`sha256:...` over the sorted names and the content of the files."""
    content = hashlib.sha256()
    for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in files):
        raw = file.read_bytes()
        content.update(f"{name}\0{len(raw)}\0".encode())
        content.update(raw)
    return f"sha256:{content.hexdigest()}"
