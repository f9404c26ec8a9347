"""A stand-in for CUDA's driver: what is asked of it is written down, so that a typo needs no GPU to be found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

PEAK = 3_000_000
MILLISECONDS = 12.0


@dataclass
class Driver:
    """Calls in their order, and the one generator of the device."""

    asked: list[str] = field(default_factory=list)
    generator: torch.Generator = field(default_factory=torch.Generator)

    def synchronize(self, device: object = None) -> None:
        self.asked.append("synchronize")

    def reset_peak_memory_stats(self, device: object = None) -> None:
        self.asked.append("reset peak")

    def max_memory_allocated(self, device: object = None) -> int:
        self.asked.append("peak")
        return PEAK

    def get_rng_state(self, device: object = None) -> Tensor:
        return self.generator.get_state()

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        self.generator.set_state(state)

    def event(self, **options: Any) -> Event:
        assert options == {"enable_timing": True}
        return Event(self)


@dataclass
class Event:
    """One of two marks that lie MILLISECONDS apart."""

    driver: Driver

    def record(self) -> None:
        self.driver.asked.append("mark")

    def synchronize(self) -> None:
        self.driver.asked.append("wait")

    def elapsed_time(self, other: Event) -> float:
        assert self.driver.asked[-1] == "wait" and other.driver is self.driver
        return MILLISECONDS


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Put a driver in the place of torch.cuda's functions."""
    driver = Driver()
    for name in ("synchronize", "reset_peak_memory_stats", "max_memory_allocated", "get_rng_state", "set_rng_state"):
        monkeypatch.setattr(torch.cuda, name, getattr(driver, name))
    monkeypatch.setattr(torch.cuda, "Event", driver.event)
    monkeypatch.setattr(torch.cuda, "default_generators", (driver.generator,))
    return driver
