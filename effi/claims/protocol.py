"""In what a run falls short of a paper's protocol, or leaves it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from effi.claims import measures
from effi.claims.papers import Comparison

if TYPE_CHECKING:
    from effi.records.store import Record


class Shortfall(NamedTuple):
    """What is missing, in words; of several of one name the one with the least `found` is told."""

    name: str
    found: float
    text: str


# What a check records of the models that it was made on, and how it is said where they fall short.
_OF_CHECKS = {"full": "data or models not of full size", "paper_size": "models not of the paper's size"}


def shortfalls(test: Comparison, trained: Sequence[Record], seeds: int) -> Iterator[Shortfall]:
    """What the records of a test's arms lack; nothing where it asks for no protocol."""
    changed = sorted({f"{name}={value}" for record in trained for name, value in record.get("parameters", {}).items()})
    if test.full and changed:
        yield other(f"not the protocol: {', '.join(changed)}")
    if test.beside:
        yield other(test.beside)
    for path, wanted in test.full.items():
        name = path.rpartition(".")[2]
        settings = [seeds] if path == "seeds" else [measures.setting(record, path) for record in trained]
        found = [value for value in settings if value is not None]
        if len(found) < len(settings):
            yield Shortfall(name, -1, f"{'size of data and models' if path in _OF_CHECKS else name} not recorded")
        elif wanted is True and not all(found):
            yield Shortfall(path, 0, f"{path.partition('.')[0]} not {name}")
        elif path in _OF_CHECKS and min(found) < wanted:
            yield Shortfall(path, 0, _OF_CHECKS[path])
        elif min(found) < wanted:
            few = name.removesuffix("s") if min(found) == 1 else name
            yield Shortfall(name, min(found), f"{min(found):g} {few} of {wanted:g}")


def other(text: str) -> Shortfall:
    """Something else that is not as the protocol has it."""
    return Shortfall(text, 0, text)


def told(missing: Iterable[Shortfall]) -> str:
    """All that is missing, each once, at its worst."""
    worst: dict[str, Shortfall] = {}
    for each in missing:
        if each.name not in worst or each.found < worst[each.name].found:
            worst[each.name] = each
    return ", ".join(each.text for each in worst.values())
