"""A stand-in for CUDA graphs on a CPU: operations are written down as they run, and done again in the same places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from effi.training import replay

# A capture fails where the device is waited for, or numbers come from the host's memory: by these, among others.
WAITS = {
    *("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "unique_dim", "bincount"),
    *("equal", "lift_fresh", "randperm", "repeat_interleave"),
}
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
        name, named = str(func.overloadpacket).removeprefix("aten."), kwargs or {}
        # Of streams of random numbers a graph knows the device's own alone.
        waits = name in WAITS or named.get("generator") is not None or (name == "index" and _by_flags(args[1]))
        assert not waits, f"{name} in a step that is captured"
        given = func(*args, **named)
        self.graph.operations.append((func, args, named, given))
        return given


def _by_flags(places: list[Tensor | None]) -> bool:
    return any(place is not None and place.dtype == torch.bool for place in places)


def _again(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], before: Any) -> None:
    """Compute once more, and put what comes out where it lay the first time."""
    now = function(*args, **kwargs)
    for new, old in zip(tree_leaves(now), tree_leaves(before), strict=True):
        if isinstance(new, Tensor) and new.numel() and new.data_ptr() != old.data_ptr():
            old.copy_(new)


@dataclass
class Stream:
    """One of two, which write down in `asked` who waits for whom."""

    name: str
    asked: list[str]

    def wait_stream(self, other: Stream) -> None:
        self.asked.append(f"{self.name} waits for {other.name}")


@dataclass
class Captures:
    """The graphs that were captured, their memory, and what was asked of streams."""

    graphs: list[Graph] = field(default_factory=list)
    pools: list[object] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def types(self) -> tuple[type, type]:
        """A graph and a stream as CUDA has them: types, by which libraries annotate."""
        made = self

        class Listed(Graph):
            def __init__(self) -> None:
                super().__init__()
                made.graphs.append(self)

        class Aside(Stream):
            def __init__(self) -> None:
                super().__init__("aside", made.asked)

        return Listed, Aside

    @contextmanager
    def capture(self, graph: Graph, pool: object) -> Iterator[None]:
        self.pools.append(pool)
        with Writing(graph):
            yield

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.asked.append(f"on {stream.name}")
        yield


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Captures:
    """Put it in the place of CUDA's; what is captured from now on."""
    made = Captures()
    graph, aside = made.types()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", made.capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", aside)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream("here", made.asked))
    monkeypatch.setattr(torch.cuda, "stream", made.stream)
    monkeypatch.setattr(replay, "captures", lambda device: True)
    return made
