"""CIFAR batches are read as written by any Python, and never obeyed."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from effi.data.cifar import read_batch
from tests.data.tiny import cifar_batch

BATCH = cifar_batch(0)


def python2() -> bytes:
    """The opcodes of the official files: Python 2 strings, numpy 1 names."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03" + text(b"|") + b"NNNJ" + b"\xff" * 4
    dtype += b"J" + b"\xff" * 4 + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    raw = BATCH["data"].tobytes()
    state = b"(K\x01(K\x0aM\x00\x0ct" + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in BATCH["labels"]) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + state + text(b"labels") + labels + b"u."


def numpy1() -> bytes:
    return pickle.dumps(BATCH, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


WRITERS = {
    "python 2": python2(),
    "numpy 1": numpy1(),
    "numpy 2": numpy1().replace(b"numpy.core.multiarray", b"numpy._core.multiarray"),
    "column order": pickle.dumps({**BATCH, "data": np.asfortranarray(BATCH["data"])}, protocol=2),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_gives_the_same_images(writer: str) -> None:
    images, labels = read_batch(WRITERS[writer])
    assert np.array_equal(images.reshape(10, 3072), BATCH["data"])
    assert labels.tolist() == BATCH["labels"]


def test_the_python_2_pickle_is_one() -> None:
    assert np.array_equal(pickle.loads(python2(), encoding="latin1")["data"], BATCH["data"])


class Call:
    """Pickles as a call of `function` with `argument`."""

    def __init__(self, function: object, argument: str) -> None:
        self.call = function, (argument,)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return self.call


@pytest.mark.parametrize(("function", "name"), [(os.system, "system"), (eval, "eval")])
def test_a_call_in_a_batch_is_refused_and_not_run(tmp_path: Path, function: object, name: str) -> None:
    marker = tmp_path / "ran"
    argument = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w')"
    with pytest.raises(ValueError, match=f"{name}, which was not run"):
        read_batch(pickle.dumps({**BATCH, "extra": Call(function, argument)}, protocol=2))
    assert not marker.exists()


BROKEN = {
    "no pickle": (b"<html>not found</html>", "is no CIFAR batch"),
    "empty": (b"", "is no CIFAR batch"),
    "cut short": (WRITERS["numpy 1"][:-2000], "is no CIFAR batch"),
    "no images": (pickle.dumps({"labels": [1]}, protocol=2), "is no CIFAR batch .*data"),
    "no labels": (pickle.dumps({"data": BATCH["data"]}, protocol=2), "is no CIFAR batch .*labels"),
    "wrong length": (pickle.dumps({**BATCH, "data": BATCH["data"][:, :3000]}, protocol=2), "is no CIFAR batch"),
    "objects": (pickle.dumps({**BATCH, "data": np.array([[], {}], dtype=object)}, protocol=2), "array of O8"),
    "floats": (pickle.dumps({**BATCH, "data": np.zeros((10, 3072))}, protocol=2), "array of f8"),
    "label out of range": (pickle.dumps({**BATCH, "labels": [999] * 10}, protocol=2), "is no CIFAR batch"),
    "labels missing": (pickle.dumps({**BATCH, "labels": [1] * 9}, protocol=2), "has 10 images but 9 labels"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_batch_says_what_is_wrong(kind: str) -> None:
    content, message = BROKEN[kind]
    with pytest.raises(ValueError, match=message):
        read_batch(content)
