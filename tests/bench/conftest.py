"""A clock and a load that only what is timed moves, so that no test hangs on the machine it runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
import torch

from effi.bench import load
from effi.bench.rounds import Case, Competitor, Missing, Row, timed


class Machine:
    """Steps take on it what they are given, while others keep `busy` cores."""

    def __init__(self) -> None:
        self.now, self.taken, self.busy = 0.0, 0.0, 0.0

    def spent(self) -> tuple[float, float]:
        """As `effi.bench.load.spent`."""
        return self.taken, self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.taken += self.busy * seconds

    def takes(self, seconds: Iterable[float]) -> Callable[[], Competitor]:
        """A competitor whose calls take these seconds, one after the other."""
        each = iter(seconds)
        return lambda: Competitor(lambda: self.pass_by(next(each)), parameters=1234, flops=5 * 10**9)

    def clock(self, step: Callable[[], object]) -> float:
        """Seconds of a call."""
        start = self.now
        step()
        return self.now - start

    def a_second(self, step: Callable[[], object]) -> float:
        """A clock for real work: it is done, and counts as one second."""
        step()
        self.pass_by(1.0)
        return 1.0


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models are slower on several threads, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(load, "spent", made.spent)
    return made


def absent() -> Competitor:
    """What is not installed."""
    raise Missing("not installed: uv pip install absent")


def complete(case: Case) -> dict[str, Row]:
    """Rows by competitor of a case whose work is real and whose seconds are not, checked: each is timed, or why not."""
    made = Machine()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "spent", made.spent)
        found = {row.competitor: row for row in timed(replace(case, clock=made.a_second), budget_s=0.0)}
    assert list(found) == list(case.competitors)
    assert not [row for row in found.values() if (row.note or "").startswith(("failed", "not timed"))]
    for row in found.values():
        assert row.note or (row.ratio, set(row.seconds)) == (1.0, {1 / case.calls}), row
    return found
