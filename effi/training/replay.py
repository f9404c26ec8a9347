"""A step replayed whole: on a GPU, what a small model's step asks for takes longer to launch than to compute."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

# Steps of a shape made as usual before one is captured: what is compiled, tuned and made once comes into being.
USUAL = 3
Work = Callable[..., tuple[Tensor, ...]]


def captures(device: torch.device) -> bool:
    """Whether a device can replay what it was asked for."""
    return device.type == "cuda"


class Captured(NamedTuple):
    """A CUDA graph, the tensors that it reads, and those that it leaves."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Replay:
    """Work on a GPU that after a few calls is one CUDA graph for each shape of its inputs.

    The work reads nothing back from the device, and everything else that it reads and writes stays where it is.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self.forget()

    def forget(self) -> None:
        """Capture anew: what the work reads or does is another from now on."""
        self._made: dict[Hashable, int] = {}
        self._captured: dict[Hashable, Captured] = {}

    def __call__(self, *inputs: Tensor, version: Hashable = None) -> tuple[Tensor, ...]:
        """What the work gives for inputs, until the next call; `version` names what it does if that may change."""
        key = (version, *(each.shape for each in inputs))
        if self._made.setdefault(key, 0) < USUAL:
            self._made[key] += 1
            return self._aside(inputs)
        if key not in self._captured:
            self._captured[key] = self._capture(inputs)
        graph, places, outputs = self._captured[key]
        for place, value in zip(places, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        return outputs

    def _aside(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As usual, but on a stream of its own: autograd remembers that on which it first met a weight."""
        here, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            outputs = self._work(*inputs)
        here.wait_stream(stream)
        return outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> Captured:
        places, graph = tuple(each.clone() for each in inputs), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._work(*places)
        return Captured(graph, places, outputs)
