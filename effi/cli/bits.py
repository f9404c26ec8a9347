"""Two sets of records held against each other bit by bit: the gate of a refactoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from effi.errors import RecordError
from effi.records import adoption, store
from effi.records.identity import agree
from effi.records.store import Record

KINDS = ("metrics", "history")


class Place(NamedTuple):
    """What two records share that are held against each other."""

    paper: str
    scale: str
    arm: str
    seed: int


@dataclass(frozen=True)
class Comparison:
    """Records and values that were compared, what only one side has, and every difference in a sentence."""

    records: int
    values: int
    keys_aside: int
    records_aside: int
    other_settings: int
    differences: tuple[str, ...]

    def __str__(self) -> str:
        found = f"{len(self.differences)} differ" if self.differences else "all of the same bits"
        counts = f"{self.records} records and {self.values:,} values compared, {found}"
        aside = f"only on one side and passed over: keys {self.keys_aside}, records {self.records_aside}"
        told = [f"of other settings, so that other bits are no wonder: records {self.other_settings}"]
        return "\n".join([*self.differences, counts, aside, *(told if self.other_settings else [])])


def compare(a: Path, b: Path) -> Comparison:
    """Metrics and histories of records of the same paper, scale, arm and seed; what a clock measured is passed over.

    A record that is finished on one side and failed on the other differs, as does a finished one of A that B, which
    holds its paper at its scale, lacks. RecordError for a place without records, and when none is on both sides.
    """
    old, new = read(a), read(b)
    pairs = [tuple(_trimmed(old[place], new[place])) for place in old if place in new]
    if not pairs:
        raise RecordError(f"{a} and {b} share no paper, scale, arm and seed; compare other results.")
    lacking = [old[place] for place in _lacking(old, new)]
    found = [*map(adoption.missing, lacking), *(text for pair in pairs for text in adoption.differences(*pair))]
    return Comparison(
        records=len(pairs),
        values=sum(_size(one) for one, _ in pairs if one["status"] == "done"),
        keys_aside=len({key for place in old if place in new for key in _keys(old[place]) ^ _keys(new[place])}),
        records_aside=len(old.keys() ^ new.keys()) - len(lacking),
        other_settings=sum(not agree(*map(_asked, pair)) for pair in pairs),
        differences=tuple(found),
    )


def read(place: Path) -> dict[Place, Record]:
    """The newest record of every arm and seed, of any version, at or below `place`; RecordError without any."""
    found = store.latest(store.below(place)).values()
    if not found:
        raise RecordError(f"{place} holds no records; name a folder of results or a file of records.")
    return {Place(*(record[name] for name in Place._fields)): record for record in found}


def _asked(record: Record) -> dict[str, Any]:
    """What a run was given; an option that only one of two versions knows is none of their difference."""
    return {name: record.get(name, {}) for name in ("settings", "parameters")}


def _lacking(old: Mapping[Place, Record], new: Mapping[Place, Record]) -> Iterator[Place]:
    """Finished records of papers and scales that the new side holds, too, without these."""
    held = {place[:2] for place in new}
    return (place for place in old if place not in new and place[:2] in held and old[place]["status"] == "done")


def _trimmed(*pair: Record) -> Iterator[Record]:
    """Both records without the metrics and histories that only one of them has; if one failed, as they are."""
    one, other = pair
    both = _keys(one) & _keys(other)
    for record in pair:
        kept = {kind: {name: record[kind][name] for name in record[kind] if (kind, name) in both} for kind in KINDS}
        yield {**record, **kept}


def _keys(record: Record) -> set[tuple[str, str]]:
    return {(kind, name) for kind in KINDS for name in record[kind] if not adoption.TIMED.search(name)}


def _size(record: Record) -> int:
    """Numbers of a record that are compared."""
    return sum(len(value) if isinstance(value, list) else 1 for kind in KINDS for value in record[kind].values())
