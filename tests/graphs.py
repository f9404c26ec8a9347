"""A stand-in for CUDA graphs on a CPU: operations are written down as they run, and done again in the same places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from effi.training import loop

# A capture fails where the device is waited for, or numbers come from the host's memory.
WAITS = {"aten._local_scalar_dense", "aten.nonzero", "aten.lift_fresh", "aten.equal"}
Operation = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]


@dataclass
class Graph:
    """What ran during a capture. Unlike a GPU's it has computed once then, so that the first replay does nothing."""

    operations: list[Operation] = field(default_factory=list)
    replays: int = 0

    def replay(self) -> None:
        self.replays += 1
        with torch._C._AutoDispatchBelowAutograd():  # where they were written down
            for operation in self.operations if self.replays > 1 else ():
                _again(*operation)


class Writing(TorchDispatchMode):
    """Writes down every operation of a block."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket)
        assert name not in WAITS, f"{name} in a step that is captured"
        given = func(*args, **(kwargs or {}))
        self.graph.operations.append((func, args, kwargs or {}, given))
        return given


def _again(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], before: Any) -> None:
    """Compute once more, and put what comes out where it lay the first time."""
    now = function(*args, **kwargs)
    for new, old in zip(tree_leaves(now), tree_leaves(before), strict=True):
        if isinstance(new, Tensor) and new.numel() and new.data_ptr() != old.data_ptr():
            old.copy_(new)


@contextmanager
def _capture(graph: Graph) -> Iterator[None]:
    with Writing(graph):
        yield


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Put it in the place of CUDA's; the graphs that are captured from now on."""
    made: list[Graph] = []

    def graph() -> Graph:
        made.append(Graph())
        return made[-1]

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", _capture)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(loop, "captures", lambda device: True)
    return made
