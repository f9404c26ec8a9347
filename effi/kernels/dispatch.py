"""The one rule by which a kernel takes the place of torch's own path: device, wish, size, measured crossover."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple

import torch

from effi.errors import ParameterError, did_you_mean


class Crossover(NamedTuple):
    """A kernel was measured to be faster than torch on this GPU from `size` on; the kernel says what size counts."""

    gpu: str
    size: int


# None: not measured. What no GPU has measured is computed only where it is asked for by name.
CROSSOVERS: Mapping[str, Crossover | None] = {
    "adamw": None,
    "attention": None,
    "block_sparse": None,
    "cross_entropy": None,
    "cudnn": None,
    "selection": None,
}
PLAIN = {"cross_entropy"}  # in plain torch, which runs on any device
COMPILED = {"attention"}  # by torch, which has no interpreter
OF_TORCH = {"cudnn"}  # in torch itself, on a GPU
_TRITON = find_spec("triton") is not None
_asked: frozenset[str] = frozenset()  # no context variable, which torch.compile cannot trace
_taken = dict.fromkeys(CROSSOVERS, False)  # no set, whose every change torch.compile would compile anew for


def check(names: Iterable[str]) -> None:
    """ParameterError for a name that no kernel has."""
    for name in names:
        if name not in CROSSOVERS:
            raise ParameterError(f"there is no kernel {name!r}{did_you_mean(name, CROSSOVERS)}")


@contextmanager
def using(*names: str) -> Iterator[None]:
    """Kernels of these names compute where they can, whatever their size; those asked for around this one still do.

    All threads know of it, but a backward pass may run when it is over: decide in the forward pass. ParameterError for
    a name that no kernel has.
    """
    global _asked
    check(names)
    before, _asked = _asked, _asked | {*names}
    try:
        yield
    finally:
        _asked = before


def takes(name: str, device: torch.device, size: int) -> bool:
    """Whether a kernel computes: it can run there, and was asked for or is known to be faster at this size."""
    check((name,))
    if not _runs_on(name, device):
        return False
    crossover = CROSSOVERS[name]
    measured = crossover is not None and size >= crossover.size and crossover.gpu == _gpu(device)
    if measured or name in _asked:
        _taken[name] = True
        return True
    return False


def taken() -> list[str]:
    """Kernels that this process decided for since it was last asked; a part of the work may still be torch's."""
    found = sorted(name for name, was in _taken.items() if was)
    _taken.update(dict.fromkeys(found, False))
    return found


def interpreted() -> bool:
    """Whether Triton's interpreter runs kernels on a CPU; its variable must be set before triton is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _runs_on(name: str, device: torch.device) -> bool:
    if name in PLAIN:
        return True
    if name in OF_TORCH:
        return device.type == "cuda"
    if device.type == "cuda":
        # Triton launches on the current GPU, whatever its arguments lie on.
        return _has_triton() and (device.index is None or device.index == _current())
    return interpreted() and name not in COMPILED and _has_triton()


def _has_triton() -> bool:
    return _TRITON


def _current() -> int:
    return torch.cuda.current_device()


def _gpu(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the interpreter"
