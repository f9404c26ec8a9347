"""CIFAR batch files, which are pickles, read without running anything that they ask for."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]


class _Array:
    """Stands in for the array in a pickle: it only ever becomes uint8 values, whatever the pickle says."""

    def __init__(self, *_: Any) -> None:
        self.values = np.empty(0, dtype=np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, _, fortran, raw = state
        # Python 2 pickled bytes as text.
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Type:
    """Stands in for the array's dtype; bytes are the only one a batch has."""

    def __init__(self, code: str, *_: Any) -> None:
        if code not in ("u1", "|u1"):
            raise pickle.UnpicklingError(f"an array of {code}")

    def __setstate__(self, _: object) -> None:
        pass


def _latin1(text: str, _: str) -> bytes:
    return text.encode("latin1")


# Everything a batch pickled by Python 2, or by Python 3 with numpy 1 or 2, asks for.
_STANDINS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STANDINS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which was not run") from None


def read_batch(content: bytes) -> Batch:
    """(images uint8 (n, 3, 32, 32), labels uint8 (n,)) of one batch file.

    Raises ValueError that says what is wrong with the file.
    """
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        images = batch["data"].values.reshape(-1, 3, 32, 32)
        labels = np.array(batch["labels"], dtype=np.uint8)
    # A damaged pickle fails in any of a dozen ways, all of which mean the same.
    except Exception as error:
        raise ValueError(f"is no CIFAR batch ({error})") from error
    if len(images) != len(labels):
        raise ValueError(f"has {len(images)} images but {len(labels)} labels")
    return images, labels
