"""The training steps and masks again on a GPU, timed by its events; nothing without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from effi.bench import gpts, growth, replays, schedules, soups, suites, tickets
from effi.bench.blocks import layers
from effi.bench.patterns import patterns
from effi.bench.rounds import Case, Competitor, repeated
from effi.bench.slimming import steps_after_removal, steps_by_share

CALLS, BATCH = 10, 512  # the batch that the first paper's ViT is trained with
LENGTHS, TOKENS = (1024, 2048, 4096, 8192), 16_384  # of a text, of a batch


def gpu() -> list[Case]:
    """Small models of two papers, where launches weigh; then the first paper's ViT as it trains, and its masks."""
    if not torch.cuda.is_available():
        return []
    return [
        *(_titled(case, "ViT") for how in (False, True) for case in suites.vit(device="cuda", compiled=how)),
        *(_titled(case, "paper 4") for case in suites.minimal(device="cuda")),
        replays.steps(device="cuda"),
        tickets.held(batch=BATCH, precision="bf16", device="cuda"),
        steps_after_removal(batch=BATCH, precision="bf16", device="cuda"),
        steps_by_share(batch=BATCH, precision="bf16", device="cuda"),
        *(tickets.selection(sides=sides, device="cuda") for sides in ((50, 1000), tickets.SIDES)),
    ]


def gpt() -> list[Case]:
    """GPT-2 small, dense and masked; a growth step; layers of live blocks; attention under patterns as texts grow."""
    if not torch.cuda.is_available():
        return []
    return [
        *gpts.gpt(gpts.GPT2, precisions=("bf16",), device="cuda"),
        gpts.masked(gpts.GPT2, precision="bf16", device="cuda"),
        growth.step(growth.SMALL, growth.BASE, batch=256, precision="bf16", device="cuda"),
        *(layers(size, tokens=TOKENS, dtype=torch.bfloat16, device="cuda") for size in (64, 128)),
        *schedules.steps(gpts.GPT2, 8, machine=schedules.GPU),
        *(patterns((TOKENS // tokens, 12, tokens, 64), device="cuda") for tokens in LENGTHS),
    ]


def rounds_of_votes() -> list[Case]:
    """What a round of the second paper's method does, many steps long."""
    if not torch.cuda.is_available():
        return []
    return [soups.votes(device="cuda"), soups.weak_nets(device="cuda")]


def timed_by_events() -> list[Case]:
    """`gpu` and `rounds_of_votes` by a GPU's own clock."""
    return _often(gpu()) + [replace(case, clock=seconds) for case in rounds_of_votes()]


def gpt_by_events() -> list[Case]:
    """`gpt` by a GPU's own clock."""
    return _often(gpt())


def _often(cases: Sequence[Case]) -> list[Case]:
    """Each competitor CALLS times in a call, so that events time work, not launches."""
    return [replace(case, competitors=_repeated(case), calls=CALLS * case.calls, clock=seconds) for case in cases]


def _titled(case: Case, of: str) -> Case:
    return replace(case, title=f"{of}, {case.title}, batch {suites.BATCH}")


def _repeated(case: Case) -> dict[str, Callable[[], Competitor]]:
    def often(make: Callable[[], Competitor]) -> Competitor:
        made = make()
        return replace(made, step=repeated(made.step, CALLS))

    return {name: partial(often, make) for name, make in case.competitors.items()}


def seconds(step: Callable[[], object]) -> float:
    """Seconds of a call by CUDA events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3
