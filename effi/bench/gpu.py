"""The training steps, masks and layers again on a GPU, timed by its events; nothing without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from effi.bench import gpts, growth, replays, schedules, soups, suites, tickets
from effi.bench.blocks import layers
from effi.bench.load import needed_bytes
from effi.bench.patterns import patterns
from effi.bench.rounds import Case, Competitor, repeated
from effi.bench.slimming import steps_after_removal, steps_by_share
from effi.models.language import TextSize
from effi.models.vision import cifar_vit
from effi.models.vit import ViT, ViTShape

CALLS, PART_CALLS = 10, 2  # of a competitor in a call that is timed: of small steps, of layers and attention
WAIT_CYCLES = 40_000_000  # about 20 ms, in which a call of such parts is launched
LENGTH = 128  # of a text that a growth step learns from

Clock = Callable[[Callable[[], object]], float]


@dataclass(frozen=True)
class Sizes:
    """What is timed, how large, and where: small ViTs in batches of 64, and the first paper's as it trains.

    `masked` are the numbers of tensors and their sides under one mask; `tokens` are those of a batch of text, `lengths`
    of a text under attention, `widths` the ends of a layer of live blocks, `blocks` their sides.
    """

    device: str = "cuda"
    image: ViTShape = suites.SHAPE
    heads: int = suites.HEADS
    model: Callable[[], ViT] = cifar_vit
    batch: int = 512
    weak: ViTShape = soups.SMALL
    masked: tuple[tuple[int, tuple[int, int]], ...] = ((100, (50, 1000)), (tickets.TENSORS, tickets.SIDES))
    text: gpts.Shape = gpts.GPT2
    machine: schedules.Machine = schedules.GPU
    parts: int = schedules.PARTS
    grown: tuple[TextSize, TextSize] = (growth.SMALL, growth.BASE)
    vocabulary: int = growth.VOCABULARY
    tokens: int = 16_384
    lengths: tuple[int, ...] = (512, 1024, 2048, 4096, 8192, 16_384)
    shape: tuple[int, int] = (12, 64)  # heads, and the width of one
    window: int = 128
    widths: tuple[tuple[int, int], ...] = ((768, 3072), (2048, 8192), (4096, 16_384))
    sparsities: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 0.95)
    blocks: tuple[int, ...] = (64, 128)


FULL = Sizes()


def small(sizes: Sizes = FULL) -> list[Case]:
    """What a GPU reaches at most; small models of two papers, where launches weigh; the first paper's ViT; masks."""
    device, batch = sizes.device, sizes.batch
    vits = (suites.vit(sizes.image, sizes.heads, device=device, compiled=how) for how in (False, True))
    minima = suites.minimal(sizes.image, sizes.heads, device=device)
    trained: dict[str, Any] = {"batch": batch, "precision": "bf16", "device": device}
    return [
        ceilings(device),
        *(_titled(case, "ViT") for both in vits for case in both),
        *(_titled(case, "paper 4") for case in minima),
        replays.steps(sizes.image, sizes.heads, device=device),
        *(make(sizes.model(), **trained) for make in (tickets.held, steps_after_removal, steps_by_share)),
        *(tickets.selection(tensors, sides, device) for tensors, sides in sizes.masked),
    ]


def parts(sizes: Sizes = FULL) -> list[Case]:
    """Attention under patterns, and layers of live blocks: forward and backward, then forward alone."""
    return [*attention(sizes), *sparse_layers(sizes)]


def texts(sizes: Sizes = FULL) -> list[Case]:
    """GPT-2 small, dense and masked, and by phases of a schedule; its head; growth."""
    device = sizes.device
    where: dict[str, Any] = {"precision": "bf16", "device": device}
    return [
        *schedules.steps(sizes.text, gpts.BATCH, parts=sizes.parts, machine=sizes.machine),
        growth.step(*sizes.grown, batch=sizes.tokens // LENGTH, **where),
        growth.operators(*sizes.grown, vocabulary=sizes.vocabulary, device=device),
        gpts.head(sizes.text, **where),
        *gpts.gpt(sizes.text, precisions=("bf16",), device=device),
        gpts.masked(sizes.text, **where),
    ]


def sparse_layers(sizes: Sizes) -> list[Case]:
    """Layers of live blocks by width and block, forward and backward; then forward alone, which more of others can."""

    def case(widths: tuple[int, int], size: int, *, backward: bool) -> Case:
        return layers(size, widths, sizes.tokens, sizes.sparsities, torch.bfloat16, sizes.device, backward=backward)

    whole = [case(widths, size, backward=True) for widths in sizes.widths for size in sizes.blocks]
    return [*whole, *(case(widths, sizes.blocks[0], backward=False) for widths in sizes.widths)]


def attention(sizes: Sizes) -> list[Case]:
    """Attention under patterns as texts grow longer, forward and backward, then forward alone."""
    heads, width = sizes.shape
    shapes = [(max(1, sizes.tokens // length), heads, length, width) for length in sizes.lengths]
    how: dict[str, Any] = {"window": sizes.window, "device": sizes.device}
    return [patterns(shape, **how, backward=both) for both in (True, False) for shape in shapes]


def planned() -> dict[str, list[Case]]:
    """By benchmark all cases that a GPU is to be measured in; no competitor of them is made."""
    here = Sizes("cpu")
    return {"gpu": [*small(here), *rounds_of_votes(here)], "gpu_gpt": [*parts(here), *texts(here)]}


def rounds_of_votes(sizes: Sizes = FULL) -> list[Case]:
    """What a round of the second paper's method does, many steps long."""
    device = sizes.device
    return [soups.votes(*sizes.masked[-1], device=device), soups.weak_nets(sizes.weak, device=device)]


def ceilings(device: str, side: int = 8192) -> Case:
    """What the machine reaches at most: a product of square matrices in bf16, and a copy of 32 such matrices."""

    def product() -> Competitor:
        one, other = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
        return Competitor(lambda: one @ other, flops=2 * side**3)

    def copy() -> Competitor:
        source, target = (torch.empty(32, side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
        return Competitor(lambda: target.copy_(source))

    gigabytes = 32 * 2 * side**2 / 1e9
    return Case(f"ceilings, side {side:,}", "product", {"product": product, f"copy of {gigabytes:.1f} GB": copy})


# --- by a GPU's clock ----------------------------------------------------------------------------------------


def timed_by_events() -> list[Case]:
    """`small` and `rounds_of_votes` by a GPU's own clock."""
    if not torch.cuda.is_available():
        return []
    return _often(small(), CALLS) + _often(rounds_of_votes(), 1)


def texts_by_events() -> list[Case]:
    """`parts`, whose launches are left out, and `texts` by a GPU's own clock."""
    if not torch.cuda.is_available():
        return []
    return _often(parts(), PART_CALLS, clock=queued_seconds) + _often(texts(), 1)


def _often(cases: Sequence[Case], calls: int, *, clock: Clock | None = None) -> list[Case]:
    """Each competitor so many times in a call, beside which its first launch is short; with the memory it needs."""
    counted = [(case, _repeated(case, calls), calls * case.calls) for case in cases]
    return [replace(case, competitors=made, calls=each, clock=clock or seconds) for case, made, each in counted]


def _titled(case: Case, of: str) -> Case:
    return replace(case, title=f"{of}, {case.title}, batch {suites.BATCH}")


def _repeated(case: Case, calls: int) -> dict[str, Callable[[], Competitor]]:
    def often(make: Callable[[], Competitor]) -> Competitor:
        made = make()
        return replace(made, step=repeated(made.step, calls), extra_bytes=_memory(made))

    return {name: partial(often, make) for name, make in case.competitors.items()}


def _memory(made: Competitor) -> int | None:
    """Of a call after the first, in which much is made to stay."""
    if made.extra_bytes is not None:
        return made.extra_bytes
    made.step()
    return needed_bytes(made.step, "cuda")


def queued_seconds(step: Callable[[], object]) -> float:
    """Seconds of a call that is launched while the GPU waits: of computing alone, however long launches take."""
    torch.cuda._sleep(WAIT_CYCLES)
    return seconds(step)


def seconds(step: Callable[[], object]) -> float:
    """Seconds of a call by CUDA events, launches that take longer than what they launch included."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3
