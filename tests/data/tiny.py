"""Tiny data sets in the official formats, and a manifest that pins them."""

from __future__ import annotations

import gzip
import http.server
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from effi import paths
from tests.data import tiny_glue
from tests.data.packing import sha256
from tests.data.tiny_text import text_manifest

MNIST_FILES = {
    "train-images-idx3-ubyte.gz": (3, 60),
    "train-labels-idx1-ubyte.gz": (1, 60),
    "t10k-images-idx3-ubyte.gz": (3, 20),
    "t10k-labels-idx1-ubyte.gz": (1, 20),
}
CIFAR_FILES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def idx(values: np.ndarray) -> bytes:
    """The IDX format of MNIST, gzipped."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return gzip.compress(head + values.tobytes(), mtime=0)


def mnist_files() -> dict[str, bytes]:
    """Sixty training and twenty test images of 28x28, labels 0 to 9 in turn."""
    rng = np.random.default_rng(0)
    return {
        name: idx(rng.integers(0, 256, (count, 28, 28), dtype=np.uint8) if dims == 3 else labels(count))
        for name, (dims, count) in MNIST_FILES.items()
    }


def labels(count: int) -> np.ndarray:
    return (np.arange(count) % 10).astype(np.uint8)


def cifar_batch(seed: int) -> dict[str, object]:
    """Ten images, labels 0 to 9."""
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 3072), dtype=np.uint8)
    return {"data": pixels, "labels": list(range(10))}


def cifar_files() -> dict[str, bytes]:
    return {name: pickle.dumps(cifar_batch(seed), protocol=2) for seed, name in enumerate(CIFAR_FILES)}


@dataclass
class Server:
    """What the official source sends; `spoil` changes an answer on its way."""

    url: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    spoil: Callable[[http.server.BaseHTTPRequestHandler, bytes], bytes | None] = lambda _, content: content


@dataclass(frozen=True)
class House:
    """A workbook of its own: `data` is its data folder, `shelf` what EFFI_DATA names."""

    data: Path
    shelf: Path

    def put(self, folder: str, files: dict[str, bytes]) -> Path:
        """Lay files out on the shelf."""
        place = self.shelf / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
        return place

    def put_mnist(self) -> Path:
        return self.put("MNIST/raw", mnist_files())

    def put_cifar10(self) -> Path:
        return self.put("cifar-10-batches-py", cifar_files())


def section(manifest: str, name: str) -> str:
    """What the real manifest says about one set."""
    return re.search(rf"^\[{name}\]\n.*?(?=^\[(?!{name}\.)|\Z)", manifest, re.DOTALL | re.MULTILINE).group()


def tiny_manifest(url: str, archive: bytes) -> str:
    real = paths.manifest().read_text(encoding="utf-8")
    classes = [str(k) for k in range(10)]
    common = f'title = "t"\ncitation = "c"\nlicence = "l"\nbytes = 1\nclasses = {classes}\n'
    mnist = "".join(f'"{name}" = "{sha256(content)}"\n' for name, content in mnist_files().items())
    cifar = "".join(f'{name} = "{sha256(content)}"\n' for name, content in cifar_files().items())
    known = [cifar_batch(seed) for seed in reversed(range(6))]
    sums = [sha256(batch["data"].tobytes() + labels(10).tobytes()) for batch in known]
    batches = "".join(f'{name} = "{each}"\n' for name, each in zip(CIFAR_FILES, sums, strict=True))
    return "\n".join(
        [
            f'[mnist]\n{common}source = "{url}"\nfolder = "MNIST/raw"\n[mnist.files]\n{mnist}',
            f'[cifar10]\n{common}source = "{url}cifar.tar.gz"\narchive = "{sha256(archive)}"',
            f'folder = "cifar-10-batches-py"\n[cifar10.files]\n{cifar}',
            '[cifar10.variants."batches in reverse"]\nnotice = "In reverse."',
            f'[cifar10.variants."batches in reverse".batches]\n{batches}',
            text_manifest(url),
            tiny_glue.manifest(url),
            *(section(real, name) for name in ("digits", "docstrings", "grammar")),
        ]
    )
