"""Trainings inside an arm's work: what a search cost stands in the arm's ledger, under a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from effi.cost import Ledger

LOOK_AHEAD, PRUNE, SEARCH = "look-ahead", "prune", "search"


@contextmanager
def inside(ledger: Ledger, name: str, skipped: Callable[[int], int] | None = None) -> Iterator[Ledger]:
    """A ledger for trainings within a phase `name` of another, also while one of its trainings is under way.

    They have no checkpoints. Their FLOPs and peak are the phase's, whose seconds are those of the whole block.
    `skipped(executed)` counts their FLOPs as a machine would that skips pruned weights; None: as their own ledger.
    """
    with ledger.phase(name) as phase:
        own = Ledger(str(ledger.device), side_by_side=ledger.side_by_side)
        yield own
        spent = own.total()
        ledger.add_flops(spent["flops"], skipped(spent["flops"]) if skipped else spent["paper_flops"])
        phase.peak_bytes = max(phase.peak_bytes or 0, spent["peak_bytes"] or 0) or None


@contextmanager
def before(ledger: Ledger, name: str = SEARCH) -> Iterator[Ledger]:
    """A ledger for a training that comes before the arm's own, and may go on from a checkpoint; charged as `name`.

    In a dry run it is the arm's ledger itself, whose forecast then counts the steps of both.
    """
    if ledger.dry_run:
        yield ledger
        return
    own = Ledger(str(ledger.device), side_by_side=ledger.side_by_side)
    own.checkpoints = ledger.checkpoints
    yield own
    spent = own.total()
    ledger.charge(name, spent["flops"], spent["seconds"], spent["joules"], paper_flops=spent["paper_flops"])


def beside(checkpoint: Path | None, name: str) -> Path | None:
    """The files of another training of the same arm."""
    return None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{name}")
