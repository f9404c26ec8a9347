"""The data sets of a notebook: which part of each a scale takes, opened on the device and described for the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from effi.data import catalogue
from effi.data.examples import Dataset, TextDataset
from effi.data.text import load_text
from effi.data.tokens import Tokenizer
from effi.errors import ParameterError

# Scales that take the part which a table names of a data set; all others take the whole of it.
SMALL = ("smoke", "cpu", "hours")
# Stand-ins, of which every scale takes a part.
TINY = ("digits", "grammar")
VALIDATION = 0.1


@dataclass(frozen=True)
class Opened:
    """A data set on the device, under the `name` it was asked by, and what was taken of it.

    `subset` holds the options of `load` or `load_text`, and `whole`: 1 for all of the set, 0 for a part. With `anew`
    among them every seed draws training and validation examples of its own, of which `data` are those of seed 0.
    """

    name: str
    data: Dataset | TextDataset
    subset: Mapping[str, Any]
    tokenizer: str | Path | None = None
    _drawn: dict[int, Dataset | TextDataset] = field(default_factory=dict, repr=False, compare=False)

    def of(self, *seeds: int) -> Any:
        """What seeds are trained on; ParameterError for several together where each has examples of its own."""
        if not self.subset.get("anew") or seeds == (0,):
            return self.data
        if len(seeds) != 1:
            raise ParameterError(f"seeds {list(seeds)} draw different examples of {self.name}: train one at a time")
        if seeds[0] not in self._drawn:
            self._drawn[seeds[0]] = self._read(seeds[0]).to(self.data.train.inputs.device)
        return self._drawn[seeds[0]]

    @property
    def checksum(self) -> str:
        """Of the whole set's content."""
        return self.data.checksum

    @property
    def settings(self) -> dict[str, Any]:
        """What the settings of an arm say of its data."""
        one = self.data
        return {"name": one.name, "checksum": one.checksum, "train": len(one.train), "subset": dict(self.subset)}

    def read_by(self, tokenizer: str | Path | None) -> Opened:
        """The same part of a text in the ids of a tokenizer.json; with None, which is the one trained here, itself."""
        if tokenizer is None:
            return self
        again = replace(self, tokenizer=tokenizer, _drawn={})
        return replace(again, data=again._read(0).to(self.data.train.inputs.device))

    def _read(self, draw: int) -> Dataset | TextDataset:
        # Draws of one text share their ids: a model that was pretrained on one of them is fine-tuned on the others.
        own = getattr(self.data, "tokenizer", None) if draw else None
        return _load(self.name, self.subset, self.tokenizer or own, draw)

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
    A row may say `anew` (see Opened). The reader's own data are always whole. Downloads what is absent. Raises
    DataError, ParameterError.
    """
    opened = [_open(name, *_part(name, parts, whole or {}, scale), size, device) for name in names]
    return {one.data.name: one for one in opened}


def again(name: str, subset: Mapping[str, Any], tokenizer: str | Path | None, device: str | torch.device) -> Opened:
    """The part that an Opened has, opened anew, such as in another process."""
    return Opened(name, _load(name, subset, tokenizer).to(device), subset, tokenizer)


def _part(
    name: str, parts: Mapping[str, Mapping[str, Any]], whole: Mapping[str, Mapping[str, Any]], scale: str
) -> tuple[Mapping[str, Any], bool]:
    """(options, whether they take the whole set)."""
    if name in parts and (scale in SMALL or name in TINY):
        return parts[name], False
    return {"validation": VALIDATION, **whole.get(catalogue.kind(name), {})}, True


def _open(name: str, options: Mapping[str, Any], all_of_it: bool, size: int, device: str | torch.device) -> Opened:
    sized = {"size": size} if catalogue.kind(name) == "images" else {}
    subset = {**sized, **options, "whole": int(all_of_it)}
    return Opened(name, _load(name, subset).to(device), subset)


def _load(
    name: str, subset: Mapping[str, Any], tokenizer: Tokenizer | str | Path | None = None, draw: int = 0
) -> Dataset | TextDataset:
    options = {key: value for key, value in subset.items() if key not in ("whole", "anew")}
    options |= {"draw": draw} if subset.get("anew") else {}
    if catalogue.kind(name) == "images":
        return catalogue.load(name, **options)
    return load_text(name, **options, tokenizer=tokenizer)
