"""A paper's file data/papers/<paper>.toml: claims as declarative tests, printed numbers, other sources."""

from __future__ import annotations

import itertools
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

Reading = Literal["as_in_the_paper", "fair"]
READINGS: tuple[Reading, ...] = ("as_in_the_paper", "fair")
Kind = Literal["arithmetic", "timing", "trained"]
KINDS: tuple[Kind, ...] = ("arithmetic", "timing", "trained")
NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Comparison:
    """One declarative test. Values, one per seed that all its arms have:

    `a` alone: its metric; `a` and `b`: their difference, ratio (%) or relative difference (%), of several `b` from the
    one that does best at that seed; `over`: Kendall's tau or slope of `y` on `x` over arms, or how many pairs of them
    both rank apart; `a` and `over`: the same over parts of one record, which holds a metric "x/part" of each. `printed`
    are the paper's numbers for the arms of `over`, in place of `x`. `metric` may be a name in [scores], where each data
    set has its own.
    A "{name}" in an arm or a metric stands for each value of `each`, all of which must run, and of `among`, of which
    those count that ran; "{dataset}" for the paper's data sets. Where none of the values ran, stand-ins do.
    Values of the placeholders in `pool` make no test each, but cells of one, of equal weight: the mean over them, of
    `over` each arm's mean, or by the `statistic` "slope" what 0.1 more of an arm's ratio changes within a data set and
    model. Of values in `among` those cells count whose arms all ran.
    `margin` and `target` are numbers or names in [margins] and [numbers]; `limits` belong to "within", `refuted` is the
    second line of a bound or an ordering, `full` the protocol below which nothing is said of the paper's own, and
    `beside` says why a test is beside that protocol at any scale. Elsewhere than at `scales` it is not judged. A
    `condition` must hold before a claim can, and says nothing for it by itself.
    """

    rule: Rule
    metric: str = ""
    a: str = ""
    b: tuple[str, ...] = ()
    compare: Literal["difference", "ratio", "relative"] = "difference"
    over: tuple[str, ...] = ()
    statistic: Literal["", "kendall", "slope"] = ""
    x: str = ""
    y: str = ""
    printed: tuple[float, ...] = ()
    direction: Side = "higher"
    margin: float | str = 0.0
    target: float | str = 0.0
    limits: Sequence[float] = (0.0, 0.0)
    refuted: float | None = None
    each: Mapping[str, Sequence[str]] = field(default_factory=dict)
    among: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pool: tuple[str, ...] = ()
    full: Mapping[str, float | bool] = field(default_factory=dict)
    beside: str = ""
    scales: tuple[str, ...] = ()
    condition: bool = False

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that the test reads."""
        single = tuple(dict.fromkeys(filter(None, (self.a, *self.b))))
        return single if self.a else self.over

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that the test reads."""
        named = tuple(filter(None, (self.metric, self.x, self.y)))
        return tuple(f"{name}/{part}" for name in named for part in self.over) if self.a and self.over else named

    @property
    def placeholders(self) -> set[str]:
        """Names in braces among its arms and metrics."""
        parts = (part for text in (*self.arms, *self.metrics) for part in string.Formatter().parse(text))
        return {name for _, name, _, _ in parts if name}


@dataclass(frozen=True)
class PaperClaim:
    """One claim with the paper's value and place, what settles it, and the tests of both readings."""

    id: str
    kinds: Mapping[Reading, Kind]
    text: str
    place: str
    paper: str
    notes: tuple[str, ...]
    tests: Mapping[Reading, tuple[Comparison, ...]]

    @property
    def kind(self) -> str:
        """What settles it, in a word, or in one for each reading."""
        own, fair = (self.kinds[reading] for reading in READINGS)
        return own if own == fair else f"{own}; fair: {fair}"


@dataclass(frozen=True)
class Finding:
    """What was learned, and the tests that carry it; told of runs at `scales`, of any without them.

    `short` is its gist in one plain sentence, for who reads nothing else; empty for one that leads no page.
    """

    id: str
    text: str
    tests: tuple[Comparison, ...]
    scales: tuple[str, ...] = ()
    short: str = ""


@dataclass(frozen=True)
class Paper:
    """One paper's file: claims, findings, printed numbers, tables of other sources, margins and the full protocol.

    `stand_ins` lists for a data set or a model those that may take its place, the first that ran counts; of data sets
    any other may. `words` are names of the metrics that only this paper records; "*" in one stands for a number or a
    name. `names` are data sets, models and variants in words, for sentences. `scores` are metrics by data set.
    """

    id: str
    title: str
    citation: str
    datasets: tuple[str, ...]
    full: Mapping[str, float | bool]
    margins: Mapping[str, Mapping[str, float]]
    scores: Mapping[str, Mapping[str, str]]
    stand_ins: Mapping[str, Sequence[str]]
    numbers: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, Mapping[str, Any]]
    words: Mapping[str, str]
    names: Mapping[str, str]
    report: Mapping[str, Any]
    claims: tuple[PaperClaim, ...]
    findings: tuple[Finding, ...]

    def margin(self, name: str, dataset: str) -> float:
        """The margin for a data set, else that of every other one."""
        return self.margins[name].get(dataset, self.margins[name]["other"])

    def score(self, metric: str, dataset: str) -> str:
        """The metric for a data set where this is a name in [scores], else the metric itself."""
        return self.scores[metric].get(dataset, self.scores[metric]["other"]) if metric in self.scores else metric


def _listed(value: str | Sequence[str], groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(groups.get(value, (value,)))
    return tuple(value)


def _misspelt(test: Comparison) -> Iterator[str]:
    """Words that are none of those the test knows."""
    for key, kind in get_type_hints(Comparison).items():
        if get_origin(kind) is Literal and getattr(test, key) not in get_args(kind):
            yield f"has {key} {getattr(test, key)!r}{did_you_mean(getattr(test, key), filter(None, get_args(kind)))}"
    # Arms have a data set before a slash, groups have not.
    if len(test.over) == 1 and "/" not in test.over[0]:
        yield f"names {test.over[0]!r}, which is no arm and which [groups] does not list"


def _mistakes(test: Comparison, content: Mapping[str, Any]) -> Iterator[str]:
    yield from _misspelt(test)
    if not (test.a or test.over):
        yield "wants a or over"
    if test.over and not ((test.x or test.printed) and test.y and (test.statistic or test.rule == "discordance")):
        yield "wants statistic, x and y beside over"
    if test.printed and len(test.printed) != len(test.over):
        yield f"has {len(test.printed)} numbers printed for {len(test.over)} arms"
    if test.statistic and not test.over and not (test.pool and test.statistic == "slope"):
        yield f"has the statistic {test.statistic} without over: give that, or pool for a slope"
    if test.rule == "discordance" and (test.a or not test.over):
        yield "counts pairs of arms: it wants over, and no a"
    if not test.over and not test.metric:
        yield "wants a metric"
    listed = {**test.each, **test.among}
    for metric in _filled(test.metrics, listed):
        yield from _unread(metric, content)
    for name in sorted(test.placeholders - set(listed) - {"dataset"}):
        yield f"names {{{name}}}, which neither each nor among lists"
    for name in sorted(set(test.pool) - test.placeholders):
        yield f"pools {name}, which none of its arms and metrics names"
    for name in sorted(set(listed) - test.placeholders):
        yield f"lists {name}, which none of its arms and metrics names"
    for name in (name for name, values in listed.items() if not values):
        yield f"lists no values of {name}"
    if isinstance(test.target, str) and test.target not in content.get("numbers", {}):
        yield f"names {test.target!r}, which [numbers] does not list"
    if isinstance(test.margin, str):
        yield from _unusable(test.margin, content)


def _filled(metrics: Sequence[str], listed: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Metrics with every value of their placeholders."""
    for metric in metrics:
        for filling in fillings({name: values for name, values in listed.items() if f"{{{name}}}" in metric}):
            yield metric.format(**{"dataset": "", **filling})


def fillings(choices: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Every combination of the placeholders' values."""
    for combination in itertools.product(*choices.values()):
        yield dict(zip(choices, combination, strict=True))


def _unknown(metric: str, content: Mapping[str, Any]) -> Iterator[str]:
    own = content.get("words", {})
    if not measures.is_known(metric, own):
        guess = did_you_mean(metric, [*measures.COMMON, *own])
        yield f"reads {metric!r}, which no arm of effi records and [words] does not list{guess}"


def _unread(metric: str, content: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a metric, or with those that [scores] lists under this name."""
    scores = content.get("scores", {})
    if metric not in scores:
        yield from _unknown(metric, content)
        return
    yield from _unusable(metric, content, "scores")
    for each in scores[metric].values():
        yield from _unknown(each, content)


def _unusable(name: str, content: Mapping[str, Any], table: str = "margins") -> Iterator[str]:
    listed = content.get(table, {})
    if name not in listed:
        yield f"names {name!r}, which [{table}] does not list"
    elif "other" not in listed[name]:
        yield f"names {name!r}, which in [{table}] has no entry other for the data sets that it does not list"


def _values(name: str, value: str | Sequence[str], of: str, groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Values of a placeholder, listed or as a group's name."""
    if isinstance(value, str) and value not in groups:
        raise ParameterError(f"A test of {of} has for {name} {value!r}, which [groups] does not list: add it.")
    return _listed(value, groups)


def _comparison(entry: Mapping[str, Any], of: str, content: Mapping[str, Any]) -> Comparison:
    unknown = set(entry) - {each.name for each in fields(Comparison)}
    if unknown or "rule" not in entry:
        raise ParameterError(f"A test of {of} wants a rule and only known keys, not {sorted(unknown)}.")
    groups = content.get("groups", {})
    lists = {key: _listed(entry[key], groups) for key in ("over", "b", "pool") if entry.get(key)}
    choices = {
        key: {name: _values(name, value, of, groups) for name, value in entry.get(key, {}).items()}
        for key in ("each", "among")
    }
    # A bound is settled by arithmetic, so it asks for no protocol unless the file says so.
    full = entry.get("full", {} if entry["rule"] == "bound" else content["full"])
    tuples = {name: tuple(entry.get(name, ())) for name in ("printed", "scales")}
    test = Comparison(**{**entry, "b": (), **lists, **choices, **tuples, "full": full})
    for mistake in _mistakes(test, content):
        raise ParameterError(f"A test of {of} {mistake.rstrip('.')}.")
    return test


def _claim(entry: Mapping[str, Any], content: Mapping[str, Any]) -> PaperClaim:
    given = entry["kind"]
    kinds = {name: given[name] for name in READINGS} if isinstance(given, Mapping) else dict.fromkeys(READINGS, given)
    for kind in kinds.values():
        if kind not in KINDS:
            raise ParameterError(f"{entry['id']} is of the kind {kind!r}{did_you_mean(kind, KINDS)}")
    same = {name: entry["as_in_the_paper"] if entry[name] == "the same" else entry[name] for name in READINGS}
    tests = {name: tuple(_comparison(test, entry["id"], content) for test in same[name]) for name in READINGS}
    texts = {key: entry[key] for key in ("id", "text", "place", "paper")}
    return PaperClaim(**texts, kinds=kinds, notes=tuple(entry.get("notes", ())), tests=tests)


def _finding(entry: Mapping[str, Any], content: Mapping[str, Any]) -> Finding:
    tests = tuple(_comparison(test, entry["id"], content) for test in entry["tests"])
    if not tests:
        raise ParameterError(f"{entry['id']} lists no tests: give those that carry it.")
    return Finding(entry["id"], entry["text"], tests, tuple(entry.get("scales", ())), entry.get("short", ""))


_REPORT = ("baseline", "method", "headline", "score", "margin", "metrics", "price_per_gpu_hour")


def _display(content: Mapping[str, Any]) -> dict[str, Any]:
    """What derived tables and the front page need; the rest as it is."""
    entry = content["report"]
    report = {**entry, **{key: entry[key] for key in _REPORT}}
    for mistake in _unusable(report["margin"], content):
        raise ParameterError(f"The margin of [report] {mistake}: add it.")
    for name in sorted(set(report["headline"]) - {finding["id"] for finding in content.get("findings", ())}):
        raise ParameterError(f"The headline of [report] names {name}, which is none of the findings: use one of them.")
    for metric in (report["score"], *report["metrics"]):
        for mistake in _unknown(metric, content):
            raise ParameterError(f"[report] {mistake}")
    return report


def _once(names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise ParameterError(f"{times} claims or findings are called {name}: give each its own id.")


def parse(content: Mapping[str, Any]) -> Paper:
    """Paper from its file's content. Raises ParameterError naming the claim or finding whose test makes no sense."""
    tables = ("margins", "scores", "stand_ins", "numbers", "tables", "words", "names")
    try:
        claims = tuple(_claim(entry, content) for entry in content["claims"])
        findings = tuple(_finding(entry, content) for entry in content.get("findings", ()))
        _once([claim.id for claim in claims] + [finding.id for finding in findings])
        return Paper(
            **{key: content[key] for key in ("id", "title", "citation", "full")},
            **{key: content.get(key, {}) for key in tables},
            claims=claims,
            findings=findings,
            report=_display(content),
            datasets=tuple(content.get("datasets", ())),
        )
    except KeyError as missing:
        raise ParameterError(f"A paper's file wants the key {missing}: add it.") from None


def load(paper: str) -> Paper:
    """Paper from data/papers. Raises ParameterError when it has no file there or the file cannot be read."""
    path = paths.paper_file(paper)
    if not path.exists():
        if any(paths.notebooks_dir().glob(f"*_{paper}*.ipynb")):
            raise ParameterError(f"{path}, which holds the claims of {paper}, is missing; restore it from git.")
        known = sorted(each.stem for each in path.parent.glob("*.toml"))
        raise ParameterError(f"Unknown paper {paper!r}{did_you_mean(paper, known)}")
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"{path} is no valid TOML ({error}): mend it.") from error


def colours() -> Mapping[str, str]:
    """Variant -> colour "#rrggbb", gathered from the [colours] of every paper's file."""
    return measures.gathered("colours")
