"""The data sets of a notebook: which part of each a scale takes, opened on the device and described for the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from effi.data import catalogue
from effi.data.examples import Dataset, TextDataset
from effi.data.text import load_text

# Scales that take the part which a table names of a data set; all others take the whole of it.
SMALL = ("smoke", "cpu")
# Stand-ins, of which every scale takes a part.
TINY = ("digits", "grammar")
VALIDATION = 0.1


@dataclass(frozen=True)
class Opened:
    """A data set on the device, under the `name` it was asked by, and what was taken of it.

    `subset` holds the options of `load` or `load_text`, and `whole`: 1 for all of the set, 0 for a part.
    """

    name: str
    data: Dataset | TextDataset
    subset: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """What the settings of an arm say of its data."""
        one = self.data
        return {"name": one.name, "checksum": one.checksum, "train": len(one.train), "subset": dict(self.subset)}

    def read_by(self, tokenizer: str | Path | None) -> Opened:
        """The same part of a text in the ids of a tokenizer.json; with None, which is the one trained here, itself."""
        if tokenizer is None:
            return self
        options = {name: value for name, value in self.subset.items() if name != "whole"}
        again = load_text(self.name, **options, tokenizer=tokenizer).to(self.data.train.inputs.device)
        return Opened(self.name, again, self.subset)

    def __str__(self) -> str:
        one, parts = self.data, ("train", "validation", "test")
        sizes = ", ".join(f"{len(getattr(one, part))} {part}" for part in parts)
        return f"{one.name}: {sizes} | {one.variant}" + (f"\n{one.notice}" if one.notice else "")


def open_parts(
    names: Iterable[str],
    parts: Mapping[str, Mapping[str, Any]],
    *,
    scale: str,
    device: str | torch.device,
    whole: Mapping[str, Mapping[str, Any]] | None = None,
    size: int = 32,
) -> dict[str, Opened]:
    """Name in records -> the data set: of named ones the part that `parts` has at small scales, else all of it.

    A row of `parts`, and of `whole` by kind ("images" or "text"), has options of `load` or `load_text`; without a
    validation split of its own a whole set gives a tenth. Images get `size` pixels a side where a row has no other.
    The reader's own data are always whole. Downloads what is absent. Raises DataError, ParameterError.
    """
    opened = [_open(name, *_part(name, parts, whole or {}, scale), size, device) for name in names]
    return {one.data.name: one for one in opened}


def _part(
    name: str, parts: Mapping[str, Mapping[str, Any]], whole: Mapping[str, Mapping[str, Any]], scale: str
) -> tuple[Mapping[str, Any], bool]:
    """(options, whether they take the whole set)."""
    if name in parts and (scale in SMALL or name in TINY):
        return parts[name], False
    return {"validation": VALIDATION, **whole.get(catalogue.kind(name), {})}, True


def _open(name: str, options: Mapping[str, Any], all_of_it: bool, size: int, device: str | torch.device) -> Opened:
    images = catalogue.kind(name) == "images"
    one = catalogue.load(name, **{"size": size, **options}) if images else load_text(name, **options)
    return Opened(name, one.to(device), {**options, "whole": int(all_of_it)})
