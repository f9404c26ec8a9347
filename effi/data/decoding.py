"""Image files to pixels, and to shards of pixels. Workers run this, so it imports no torch."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effi.data.writing import written
from effi.errors import DataError


@dataclass(frozen=True)
class Format:
    """Channels and extent that all images of a folder are brought to."""

    mode: str
    width: int
    height: int

    @property
    def bytes(self) -> int:
        """Of one image."""
        return len(self.mode) * self.width * self.height


def pixels(file: Path, wanted: Format, content: bytes | None = None) -> np.ndarray:
    """uint8 (height, width, channels) of a file, whose `content` may be at hand; DataError when it is no image."""
    try:
        with Image.open(file if content is None else io.BytesIO(content)) as image:
            # A large JPEG is decoded near the wanted size, which is several times faster.
            image.draft(wanted.mode, (wanted.width, wanted.height))
            plain = image.convert(wanted.mode)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise unreadable(file, error) from error
    if plain.size != (wanted.width, wanted.height):
        plain = plain.resize((wanted.width, wanted.height), Image.Resampling.BILINEAR)
    return np.asarray(plain).reshape(wanted.height, wanted.width, -1)


def unreadable(file: Path, error: Exception) -> DataError:
    """The error for an image that is none."""
    return DataError(f"image {file} cannot be read ({error}): repair or remove it")


def decode(path: Path, files: Sequence[str], wanted: Format) -> dict[str, Any]:
    """A shard at `path` of the pixels (n, channels, height, width) of all files; what the manifest says of it."""
    sources = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        for file in map(Path, files):
            content = _content(file)
            sources.update(content)
            yield pixels(file, wanted, content).transpose(2, 0, 1).tobytes()

    found = written(path, chunks())
    return found | {"rows": len(files), "sources": sources.hexdigest()}


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error
