"""A step replayed whole: on a GPU, what a small model's step asks for takes longer to launch than to compute."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from effi.errors import ParameterError
from effi.training.settings import Training

# Steps of a shape made as usual before one is captured: what is compiled, tuned and made once comes into being.
USUAL = 3
MOST = 16  # shapes that are captured: texts have a length for each batch, and every graph holds memory
Work = Callable[..., tuple[Tensor, ...]]


def captures(device: torch.device) -> bool:
    """Whether a device can replay what it was asked for."""
    return device.type == "cuda"


def check(training: Training, before_step: Sequence[object], others: Iterable[object]) -> None:
    """ParameterError for compile="step" beside what it would silently do without.

    That are listeners between gradients and step, and what says `steady = False`: it computes with numbers of the host,
    which a graph reads only once.
    """
    unsteady = [*before_step, *(each for each in others if not getattr(each, "steady", True))]
    if training.compile == "step" and unsteady:
        raise ParameterError(
            f'compile="step" repeats a whole step as it was captured, which {type(unsteady[0]).__name__} would change: '
            'take "graphs"'
        )


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
        self._stream: torch.cuda.Stream | None = None
        self.forget()

    def forget(self) -> None:
        """Capture anew: what the work reads or does is another from now on."""
        self._made: dict[Hashable, int] = {}
        self._captured: dict[Hashable, Captured] = {}
        self._pool: Any = None

    def __call__(self, *inputs: Tensor, version: Hashable = None) -> tuple[Tensor, ...]:
        """What the work gives for inputs, until the next call; `version` names what it does if that may change."""
        key = (version, *(each.shape for each in inputs))
        self._made[key] = self._made.get(key, 0) + 1
        with torch.cuda.device(inputs[0].device):
            return self._replayed(key, inputs) if self._made[key] > USUAL else self._aside(inputs)

    def _replayed(self, key: Hashable, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if key not in self._captured:
            if len(self._captured) == MOST:
                return self._aside(inputs)
            self._captured[key] = self._capture(inputs)
        graph, places, outputs = self._captured[key]
        for place, value in zip(places, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        return outputs

    def _aside(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """As usual, but on a stream of its own: autograd remembers that on which it first met a weight."""
        here = torch.cuda.current_stream()
        stream = self._stream = self._stream or torch.cuda.Stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            outputs = self._work(*inputs)
        here.wait_stream(stream)
        return outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> Captured:
        places, graph = tuple(each.clone() for each in inputs), torch.cuda.CUDAGraph()
        # One memory for all: they are replayed one after another, and a result is read before the next.
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = self._work(*places)
        return Captured(graph, places, outputs)
