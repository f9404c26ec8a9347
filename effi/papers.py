"""A paper's file data/papers/<paper>.toml: claims as declarative tests, printed numbers, other sources."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal

from effi import paths
from effi.errors import ParameterError
from effi.stats import Rule, Side

Kind = Literal["as_in_the_paper", "fair"]
KINDS: tuple[Kind, ...] = ("as_in_the_paper", "fair")
NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Comparison:
    """One declarative test. Values, one per seed that all its arms have:

    `a` alone: its metric; `a` and `b`: their difference, ratio (%) or relative difference (%), where several
    `b` count as the lowest or highest of them; `over`: Kendall's tau or slope of `y` on `x` over arms.
    A "{name}" in an arm stands for each value of `each`; "{dataset}" for the paper's data sets. `margin` and
    `target` are numbers or names in [margins] and [numbers]; `full` is the protocol below which it is capped.
    """

    rule: Rule
    metric: str = ""
    a: str = ""
    b: tuple[str, ...] = ()
    pick: Literal["", "lowest", "highest"] = ""
    compare: Literal["difference", "ratio", "relative"] = "difference"
    over: tuple[str, ...] = ()
    statistic: Literal["", "kendall", "slope"] = ""
    x: str = ""
    y: str = ""
    direction: Side = "higher"
    margin: float | str = 0.0
    target: float | str = 0.0
    each: Mapping[str, Sequence[str]] = field(default_factory=dict)
    full: Mapping[str, float] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that the test reads."""
        return (*((self.a,) if self.a else ()), *self.b, *self.over)

    @property
    def placeholders(self) -> set[str]:
        """Names in braces among its arms."""
        parts = (part for arm in self.arms for part in string.Formatter().parse(arm))
        return {name for _, name, _, _ in parts if name}


@dataclass(frozen=True)
class PaperClaim:
    """One claim with the paper's value and place, and the tests of both verdicts."""

    id: str
    text: str
    place: str
    paper: str
    notes: tuple[str, ...]
    tests: Mapping[Kind, tuple[Comparison, ...]]


@dataclass(frozen=True)
class Paper:
    """One paper's file: claims, printed numbers, tables of other sources, margins and the full protocol."""

    id: str
    title: str
    citation: str
    datasets: tuple[str, ...]
    full: Mapping[str, float]
    margins: Mapping[str, Mapping[str, float]]
    numbers: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, Mapping[str, Any]]
    report: Mapping[str, Any]
    claims: tuple[PaperClaim, ...]


def _listed(value: str | Sequence[str], groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(groups.get(value, (value,)))
    return tuple(value)


def _mistakes(test: Comparison, content: Mapping[str, Any]) -> Iterator[str]:
    if bool(test.a) == bool(test.over):
        yield "wants either a or over"
    if test.over and not (test.statistic and test.x and test.y):
        yield "wants statistic, x and y beside over"
    if test.a and not test.metric:
        yield "wants a metric"
    if len(test.b) > 1 and not test.pick:
        yield "wants pick beside several arms b"
    for name in sorted(test.placeholders - set(test.each) - {"dataset"}):
        yield f"names {{{name}}}, which each does not list"
    for table, name in (("margins", test.margin), ("numbers", test.target)):
        if isinstance(name, str) and name not in content.get(table, {}):
            yield f"names {name!r}, which [{table}] does not list"


def _comparison(entry: Mapping[str, Any], claim: str, content: Mapping[str, Any]) -> Comparison:
    unknown = set(entry) - {each.name for each in fields(Comparison)}
    if unknown or "rule" not in entry:
        raise ParameterError(f"A test of {claim} wants a rule and only known keys, not {sorted(unknown)}.")
    groups = content.get("groups", {})
    lists = {key: _listed(entry[key], groups) for key in ("b", "over") if key in entry}
    # A bound is settled by arithmetic, so no protocol caps it unless the file says so.
    full = entry.get("full", {} if entry["rule"] == "bound" else content["full"])
    test = Comparison(**{**entry, **lists, "full": full})
    for mistake in _mistakes(test, content):
        raise ParameterError(f"A test of {claim} {mistake}.")
    return test


def _claim(entry: Mapping[str, Any], content: Mapping[str, Any]) -> PaperClaim:
    same = {kind: entry["as_in_the_paper"] if entry[kind] == "the same" else entry[kind] for kind in KINDS}
    tests = {kind: tuple(_comparison(test, entry["id"], content) for test in same[kind]) for kind in KINDS}
    texts = {key: entry[key] for key in ("id", "text", "place", "paper")}
    return PaperClaim(**texts, notes=tuple(entry.get("notes", ())), tests=tests)


def _display(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What derived tables need: the arm compared with, its metrics, and money per GPU hour; the rest as it is."""
    return {**entry, **{key: entry[key] for key in ("baseline", "metrics", "price_per_gpu_hour")}}


def parse(content: Mapping[str, Any]) -> Paper:
    """Paper from its file's content. Raises ParameterError naming the claim whose test makes no sense."""
    try:
        return Paper(
            **{key: content[key] for key in ("id", "title", "citation", "full")},
            **{key: content.get(key, {}) for key in ("margins", "numbers", "tables")},
            report=_display(content["report"]),
            datasets=tuple(content.get("datasets", ())),
            claims=tuple(_claim(entry, content) for entry in content["claims"]),
        )
    except KeyError as missing:
        raise ParameterError(f"A paper's file wants the key {missing}: add it.") from None


def load(paper: str) -> Paper:
    """Paper from data/papers. Raises ParameterError when it has no file there or the file cannot be read."""
    path = paths.paper_file(paper)
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.toml")))
        raise ParameterError(f"Unknown paper {paper!r}: use one of {known}.")
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"{path} is no valid TOML ({error}): mend it.") from error


@cache
def colours() -> Mapping[str, str]:
    """Variant -> colour "#rrggbb", gathered from the [colours] of every paper's file."""
    found: dict[str, str] = {}
    for path in sorted(paths.paper_file("").parent.glob("*.toml")):
        found |= tomllib.loads(path.read_text(encoding="utf-8")).get("colours", {})
    return found
