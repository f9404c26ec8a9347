"""The processes that make one training together, as torchrun starts them; one process alone is the plain case.

Each holds the whole data set, weights, optimiser and masks (DDP), and makes the gradients of its rows of every batch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from effi import masks
from effi.errors import TrainingError
from effi.masks import Mask

Value = TypeVar("Value")
# An arm may wait this long for another run that is at it; a process that dies is seen at once, by torchrun.
PATIENCE = timedelta(days=1)


class Rows(NamedTuple):
    """The rows of a batch that one process takes, and how often they count: 0 where it has none and borrows one."""

    place: slice
    times: int


@dataclass(frozen=True)
class Ranks:
    """Process `rank` of `size` that make a training together. Every method is called by all of them, in one order."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def named(self, purpose: str) -> str:
        """The name of a stream of random numbers that every process has of its own; the first has the plain one."""
        return purpose if self.first else f"{purpose} of rank {self.rank}"

    # --- work shared out -----------------------------------------------------------------------------------------

    def rows(self, count: int) -> Rows:
        """This process's rows of a batch of so many, in order and as equal as can be."""
        whole, rest = divmod(count, self.size)
        start = self.rank * whole + min(self.rank, rest)
        end = start + whole + (self.rank < rest)
        # A backward pass without examples would leave the others waiting for gradients.
        return Rows(slice(start, end), 1) if end > start else Rows(slice(0, 1), 0)

    def turns(self, items: Iterable[Value]) -> Iterator[Value]:
        """Of items that are shared out by turns, those of this process."""
        return islice(iter(items), self.rank, None, self.size)

    # --- what all know -------------------------------------------------------------------------------------------

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size == 1:
            return values
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    def begin_alike(self, tensors: Iterable[Tensor]) -> None:
        """Give all the values of the first process."""
        for tensor in tensors if self.size > 1 else ():
            dist.broadcast(tensor.detach(), 0)

    def any(self, *flags: bool) -> list[bool]:
        """Each flag, whether it is set on any process."""
        if self.size == 1:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def told(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, or the error that it raises, on all."""
        if self.size == 1:
            return make()
        box: list[Any] = [_tried(make) if self.first else None]
        dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        found, error = box[0]
        if error is not None:
            raise error
        return cast(Value, found)

    def check_alike(self, mask: Mask) -> None:
        """TrainingError when processes hold different masks; eight bytes travel, no mask does."""
        if self.size == 1:
            return
        own = _fingerprint(mask)
        extremes = torch.tensor([own, -own])
        dist.all_reduce(extremes, dist.ReduceOp.MAX)
        if extremes.sum():
            raise TrainingError(
                f"the {self.size} processes of this training hold different masks; draw them from a seed, or rank by "
                "weights or by gradients of the whole batch, which all have"
            )


ALONE = Ranks()


def world() -> Ranks:
    """All processes that torchrun started; joined at the first call, over gloo on a CPU and NCCL on a GPU."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        return ALONE
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    return world()


def part() -> None:
    """From here on each process is alone, and so are those that it starts."""
    if world().size > 1:
        dist.barrier()
        dist.destroy_process_group()
    os.environ.pop("TORCHELASTIC_RUN_ID", None)


def _tried(make: Callable[[], Value]) -> tuple[Value | None, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        return None, error


def _fingerprint(mask: Mask) -> int:
    """62 bits of the SHA-256 of a mask, its names and shapes."""
    shapes = {name: list(kept.shape) for name, kept in mask.items()}
    bits = masks.pack(mask).numpy().tobytes() if mask else b""
    return int.from_bytes(hashlib.sha256(repr(shapes).encode() + bits).digest()[:8], "big") >> 2
