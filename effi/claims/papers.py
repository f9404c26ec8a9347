"""A paper's file data/papers/<paper>.toml: claims as declarative tests, printed numbers, other sources."""

from __future__ import annotations

import string
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from effi import paths
from effi.claims import measures
from effi.claims.stats import Rule, Side
from effi.errors import ParameterError, did_you_mean

Kind = Literal["as_in_the_paper", "fair"]
KINDS: tuple[Kind, ...] = ("as_in_the_paper", "fair")
NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Comparison:
    """One declarative test. Values, one per seed that all its arms have:

    `a` alone: its metric; `a` and `b`: their difference, ratio (%) or relative difference (%), where several
    `b` count as the lowest or highest of them; `over`: Kendall's tau or slope of `y` on `x` over arms.
    A "{name}" in an arm stands for each value of `each`; "{dataset}" for the paper's data sets. Where an arm begins
    with it ("{text}/gpt2/dense"), other sets stand in when none of its values ran. `margin` and `target` are numbers
    or names in [margins] and [numbers]; `refuted` is the second line of a bound, `full`
    the protocol below which it is capped.
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
    refuted: float | None = None
    each: Mapping[str, Sequence[str]] = field(default_factory=dict)
    full: Mapping[str, float | bool] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that the test reads."""
        return (*((self.a,) if self.a else ()), *self.b, *self.over)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that the test reads."""
        return tuple(filter(None, (self.metric, self.x, self.y)))

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
    """One paper's file: claims, printed numbers, tables of other sources, margins and the full protocol.

    `stand_ins` lists for a data set those that may take its place, the first that ran counts; any other may. `words`
    are names of the metrics that only this paper records; "*" in one stands for a number or a name.
    """

    id: str
    title: str
    citation: str
    datasets: tuple[str, ...]
    full: Mapping[str, float | bool]
    margins: Mapping[str, Mapping[str, float]]
    stand_ins: Mapping[str, Sequence[str]]
    numbers: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, Mapping[str, Any]]
    words: Mapping[str, str]
    report: Mapping[str, Any]
    claims: tuple[PaperClaim, ...]

    def margin(self, name: str, dataset: str) -> float:
        """The margin for a data set, else that of every other one."""
        return self.margins[name].get(dataset, self.margins[name]["other"])


def _listed(value: str | Sequence[str], groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(groups.get(value, (value,)))
    return tuple(value)


def _misspelt(test: Comparison) -> Iterator[str]:
    """Words that are none of those the test knows."""
    for key, kind in get_type_hints(Comparison).items():
        if get_origin(kind) is Literal and getattr(test, key) not in get_args(kind):
            yield f"has {key} {getattr(test, key)!r}{did_you_mean(getattr(test, key), filter(None, get_args(kind)))}"
    # Arms have a data set or "check" before a slash, groups have not.
    for key in ("b", "over"):
        if len(getattr(test, key)) == 1 and "/" not in getattr(test, key)[0]:
            yield f"names {getattr(test, key)[0]!r}, which is no arm and which [groups] does not list"


def _mistakes(test: Comparison, content: Mapping[str, Any]) -> Iterator[str]:
    yield from _misspelt(test)
    if bool(test.a) == bool(test.over):
        yield "wants either a or over"
    if test.over and not (test.statistic and test.x and test.y):
        yield "wants statistic, x and y beside over"
    if test.a and not test.metric:
        yield "wants a metric"
    for metric in test.metrics:
        yield from _unknown(metric, content)
    if len(test.b) > 1 and not test.pick:
        yield "wants pick beside several arms b"
    for name in sorted(test.placeholders - set(test.each) - {"dataset"}):
        yield f"names {{{name}}}, which each does not list"
    for name in sorted(set(test.each) - test.placeholders):
        yield f"lists {name} in each, which none of its arms names"
    for name, values in test.each.items():
        if not values:
            yield f"lists no values of {name} in each"
    if isinstance(test.target, str) and test.target not in content.get("numbers", {}):
        yield f"names {test.target!r}, which [numbers] does not list"
    if isinstance(test.margin, str):
        yield from _unusable(test.margin, content)


def _unknown(metric: str, content: Mapping[str, Any]) -> Iterator[str]:
    own = content.get("words", {})
    if not measures.is_known(metric, own):
        guess = did_you_mean(metric, [*measures.COMMON, *own])
        yield f"reads {metric!r}, which no arm of effi records and [words] does not list{guess}"


def _unusable(margin: str, content: Mapping[str, Any]) -> Iterator[str]:
    margins = content.get("margins", {})
    if margin not in margins:
        yield f"names {margin!r}, which [margins] does not list"
    elif "other" not in margins[margin]:
        yield f"names {margin!r}, which in [margins] has no entry other for the data sets that it does not list"


def _values(name: str, value: str | Sequence[str], claim: str, groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Values of a placeholder, listed or as a group's name."""
    if isinstance(value, str) and value not in groups:
        raise ParameterError(f"A test of {claim} has each {name} {value!r}, which [groups] does not list: add it.")
    return _listed(value, groups)


def _comparison(entry: Mapping[str, Any], claim: str, content: Mapping[str, Any]) -> Comparison:
    unknown = set(entry) - {each.name for each in fields(Comparison)}
    if unknown or "rule" not in entry:
        raise ParameterError(f"A test of {claim} wants a rule and only known keys, not {sorted(unknown)}.")
    groups = content.get("groups", {})
    lists = {key: _listed(entry[key], groups) for key in ("b", "over") if key in entry}
    # A bound is settled by arithmetic, so no protocol caps it unless the file says so.
    full = entry.get("full", {} if entry["rule"] == "bound" else content["full"])
    each = {name: _values(name, value, claim, groups) for name, value in entry.get("each", {}).items()}
    test = Comparison(**{**entry, **lists, "each": each, "full": full})
    for mistake in _mistakes(test, content):
        raise ParameterError(f"A test of {claim} {mistake.rstrip('.')}.")
    return test


def _claim(entry: Mapping[str, Any], content: Mapping[str, Any]) -> PaperClaim:
    same = {kind: entry["as_in_the_paper"] if entry[kind] == "the same" else entry[kind] for kind in KINDS}
    tests = {kind: tuple(_comparison(test, entry["id"], content) for test in same[kind]) for kind in KINDS}
    texts = {key: entry[key] for key in ("id", "text", "place", "paper")}
    return PaperClaim(**texts, notes=tuple(entry.get("notes", ())), tests=tests)


_REPORT = ("baseline", "headline", "score", "margin", "metrics", "price_per_gpu_hour")


def _display(content: Mapping[str, Any]) -> dict[str, Any]:
    """What derived tables and the front page need; the rest as it is."""
    entry = content["report"]
    report = {**entry, **{key: entry[key] for key in _REPORT}}
    for mistake in _unusable(report["margin"], content):
        raise ParameterError(f"The margin of [report] {mistake}: add it.")
    for name in sorted(set(report["headline"]) - {claim["id"] for claim in content["claims"]}):
        raise ParameterError(f"The headline of [report] names {name}, which is none of the claims: use one of them.")
    for metric in (report["score"], *report["metrics"]):
        for mistake in _unknown(metric, content):
            raise ParameterError(f"[report] {mistake}")
    return report


def _claims(content: Mapping[str, Any]) -> tuple[PaperClaim, ...]:
    found = tuple(_claim(entry, content) for entry in content["claims"])
    for name, times in Counter(claim.id for claim in found).items():
        if times > 1:
            raise ParameterError(f"{times} claims are called {name}: give each its own id.")
    return found


def parse(content: Mapping[str, Any]) -> Paper:
    """Paper from its file's content. Raises ParameterError naming the claim whose test makes no sense."""
    try:
        return Paper(
            **{key: content[key] for key in ("id", "title", "citation", "full")},
            **{key: content.get(key, {}) for key in ("margins", "stand_ins", "numbers", "tables", "words")},
            claims=_claims(content),
            report=_display(content),
            datasets=tuple(content.get("datasets", ())),
        )
    except KeyError as missing:
        raise ParameterError(f"A paper's file wants the key {missing}: add it.") from None


def load(paper: str) -> Paper:
    """Paper from data/papers. Raises ParameterError when it has no file there or the file cannot be read."""
    path = paths.paper_file(paper)
    if not path.exists():
        known = sorted(each.stem for each in path.parent.glob("*.toml"))
        raise ParameterError(f"Unknown paper {paper!r}{did_you_mean(paper, known)}")
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"{path} is no valid TOML ({error}): mend it.") from error


def colours() -> Mapping[str, str]:
    """Variant -> colour "#rrggbb", gathered from the [colours] of every paper's file."""
    return measures.gathered("colours")
