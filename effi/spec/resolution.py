"""What one run of a notebook does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from effi import data
from effi.spec.options import choose
from effi.spec.rules import check, data_sets


@dataclass(frozen=True)
class Spec:
    """What one run of a notebook does. `row` is the scale's own row of the notebook's table of scales."""

    scale: str
    seeds: tuple[int, ...]
    device: str
    datasets: tuple[str, ...]
    row: Mapping[str, Any]
    notices: tuple[str, ...]

    @property
    def together(self) -> int:
        """Seeds trained side by side in one process: all on a GPU, which small models do not fill; one on a CPU."""
        return 1 if self.device == "cpu" else len(self.seeds)


def resolve(
    scale: str, seeds: Sequence[int], device: str, dataset: str, scales: Mapping[str, Mapping[str, Any]]
) -> Spec:
    """The parameters all notebooks share, resolved against the notebook's own table of scales.

    Each row of `scales` holds `seeds` and `datasets` for when none are given; `dataset` may name several, joined by
    commas. On a CPU torch is set to one thread, so
    that the same machine computes the same bits. Raises ParameterError and DataError.
    """
    row = choose("scale", scale, scales)
    wanted = seeds or row["seeds"]
    check({}, {"seeds": wanted, "device": device})
    found = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if found == "cpu":
        torch.set_num_threads(1)
    resolved = [data.resolve(each, row["datasets"]) for each in data_sets(dataset)]
    names = dict.fromkeys(name for names, _ in resolved for name in names)
    notices = tuple(notice for _, notice in resolved if notice)
    return Spec(scale, tuple(wanted), found, tuple(names), row, notices)
