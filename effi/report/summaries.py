"""Tables drawn from records: claims, tests, arms, costs; what is missing reads "not available"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from effi import measures, papers, paths, stats
from effi.claims import ClaimRow, Judgement, judge
from effi.cost import money
from effi.errors import ParameterError, RecordError
from effi.measures import Record, Runs
from effi.papers import KINDS, NOT_AVAILABLE, Kind
from effi.records import records as read_records
from effi.report.tables import STATE_MARKS, Table
from effi.stats import Interval

KIND_WORDS: dict[Kind, str] = {"as_in_the_paper": "as in the paper", "fair": "fair"}
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def shown(values: Sequence[float], unit: str = "", digits: int = 3) -> str:
    """Mean, unit and t interval of the values as text."""
    return stats.measured(stats.interval(values), len(values), unit, digits)


def _verdict_cell(judgement: Judgement) -> str:
    cell = f"{STATE_MARKS[judgement.state]} {judgement.state}"
    if not judgement.ran:
        return f"{cell} (not run)"
    if judgement.state == "inconclusive" and judgement.direction != "open":
        return f"{cell} (points {judgement.direction})"
    return cell


def _ours(judgement: Judgement) -> str:
    outcome = judgement.deciding
    if outcome is None or not outcome.ran:
        return NOT_AVAILABLE
    verdict = outcome.verdict
    span = Interval(verdict.mean, verdict.low, verdict.high)
    return f"{stats.measured(span, verdict.n, outcome.unit.name, outcome.unit.digits)}, n={verdict.n}"


def _why(row: ClaimRow) -> str:
    parts = [row.as_in_the_paper.why]
    if row.fair.why != parts[0]:
        parts.append(f"fair: {row.fair.why}")
    return ". ".join([*parts, *(f"Note: {note}" for note in row.claim.notes)])


def claims_table(rows: Sequence[ClaimRow]) -> Table:
    """Paper against ours; our value is that of the test which decides the verdict as in the paper."""
    scale = rows[0].scale if rows else "no"
    heads = (f"{KIND_WORDS[kind]} ({scale} scale)" for kind in KINDS)
    columns = ("claim", "place", "paper", "ours: mean [95 % interval], n", *heads, "why")
    cells = (
        (
            f"{row.claim.id}: {row.claim.text}",
            row.claim.place,
            row.claim.paper,
            _ours(row.as_in_the_paper),
            *(_verdict_cell(row.judgement(kind)) for kind in KINDS),
            _why(row),
        )
        for row in rows
    )
    return Table("Paper against ours", columns, tuple(cells))


def tests_table(rows: Sequence[ClaimRow]) -> Table:
    """Every single test behind the verdicts."""
    cells = (
        (
            row.claim.id,
            KIND_WORDS[kind],
            outcome.label,
            f"{STATE_MARKS[outcome.verdict.state]} {outcome.verdict.state}",
            outcome.verdict.why,
        )
        for row in rows
        for kind in KINDS
        for outcome in row.judgement(kind).outcomes
    )
    return Table("Every test", ("claim", "verdict", "test", "state", "why"), tuple(cells))


def _cell(seeds: Mapping[int, Record], metric: str) -> str:
    try:
        return shown(measures.values(seeds, metric), digits=measures.unit(metric).digits)
    except RecordError:
        return NOT_AVAILABLE


def arms_table(records: Iterable[Record], metrics: Sequence[str], arms: Sequence[str] | None = None) -> Table:
    """Mean and 95 % interval of metrics, a row per arm (of all that hold the first metric, unless listed).

    Raises ParameterError for a listed arm without a finished record.
    """
    runs = select(records, metrics[0], arms)
    rows = ((arm, str(len(runs[arm])), *(_cell(runs[arm], metric) for metric in metrics)) for arm in runs)
    columns = ("arm", "n", *map(measures.title, metrics))
    return Table("Every arm: mean [95 % interval] over seeds", columns, tuple(rows))


def select(records: Iterable[Record], metric: str, arms: Sequence[str] | None = None) -> Runs:
    """Finished runs of the listed arms in that order, or of all arms that hold the metric.

    Raises ParameterError for a listed arm without a finished record.
    """
    runs = measures.by_arm(records)
    if arms is None:
        return {arm: seeds for arm, seeds in runs.items() if all(_holds(r, metric) for r in seeds.values())}
    for arm in arms:
        if arm not in runs:
            raise ParameterError(f"Unknown arm {arm!r}: finished ones are {', '.join(runs) or 'none'}.")
    return {arm: runs[arm] for arm in arms}


def _holds(record: Record, metric: str) -> bool:
    try:
        measures.value(record, metric)
    except RecordError:
        return False
    return True


def scaled(value: float, unit: str) -> str:
    """Three significant digits with an SI prefix: 1.23e12 FLOP -> "1.23 TFLOP"."""
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}{unit}"


def _pairs(seeds: Mapping[int, Record], base: Mapping[int, Record], metric: str) -> list[tuple[float, float]]:
    """(arm, baseline) at each seed that both have."""
    both = sorted(set(seeds) & set(base))
    return [(measures.value(seeds[s], metric), measures.value(base[s], metric)) for s in both]


def _share(pairs: Sequence[tuple[float, float]]) -> str:
    return shown([100 * ours / theirs for ours, theirs in pairs], "%", 1)


def _relative(metric: str, absolute: Callable[[float], str]) -> Callable[[Runs, str, str], str]:
    """Cell writer: % of the baseline, paired by seed; the baseline itself in absolute terms."""

    def cell(runs: Runs, arm: str, baseline: str) -> str:
        try:
            pairs = _pairs(runs[arm], runs[baseline], metric)
        except RecordError:
            return NOT_AVAILABLE
        if not pairs or not all(theirs for _, theirs in pairs):
            return NOT_AVAILABLE
        return absolute(sum(p[0] for p in pairs) / len(pairs)) if arm == baseline else _share(pairs)

    return cell


def _kept(metric: str) -> Callable[[Runs, str, str], str]:
    """Cell writer: the score, and its paired difference to the baseline."""
    own, gap = measures.unit(metric), measures.unit(metric, difference=True)

    def cell(runs: Runs, arm: str, baseline: str) -> str:
        try:
            pairs = _pairs(runs[arm], runs[baseline], metric)
        except RecordError:
            return NOT_AVAILABLE
        if not pairs:
            return NOT_AVAILABLE
        scores = [own.factor * ours for ours, _ in pairs]
        if arm == baseline:
            return shown(scores, own.name, own.digits)
        mean = stats.number(sum(scores) / len(scores), own.digits) + f" {own.name}".rstrip()
        return f"{mean}: {shown([gap.factor * (a - b) for a, b in pairs], gap.name, gap.digits)}"

    return cell


def _money(price: float) -> Callable[[Runs, str, str], str]:
    def cell(runs: Runs, arm: str, _: str) -> str:
        return shown([money(measures.value(r, "cost.seconds"), price) for r in runs[arm].values()])

    return cell


def _search_notes(runs: Runs) -> tuple[str, ...]:
    """What share of an arm's FLOPs is spent outside the phase "train"."""
    notes = []
    for arm, seeds in runs.items():
        costs = [record["cost"] for record in seeds.values() if record["cost"].get("flops")]
        shares = [1 - c["phases"].get("train", {"flops": 0})["flops"] / c["flops"] for c in costs if c["phases"]]
        if any(shares):
            notes.append(f"{arm}: {shown([100 * share for share in shares], '%', 1)} of its FLOPs are search.")
    return tuple(notes)


def _side_by_side(runs: Runs) -> tuple[str, ...]:
    most = max(record["cost"].get("side_by_side", 1) for seeds in runs.values() for record in seeds.values())
    return (f"Seconds were measured with up to {most} arms side by side on one machine.",) if most > 1 else ()


def _with_baseline(records: Iterable[Record], baseline: str) -> tuple[Runs, dict[str, str]]:
    """Runs of every data set that has the baseline, and each arm's baseline."""
    runs = measures.by_arm(records)
    partner = {arm: f"{measures.dataset(arm)}/{baseline}".removeprefix("/") for arm in runs}
    kept = {arm: base for arm, base in partner.items() if base in runs}
    if not kept:
        raise ParameterError(f"No arm is called {baseline!r}: arms are {', '.join(runs) or 'none'}.")
    ordered = sorted(kept, key=lambda arm: (measures.dataset(arm), arm != kept[arm]))
    return {arm: runs[arm] for arm in ordered}, kept


def cost_table(records: Iterable[Record], *, baseline: str, price: float, metric: str = "test_accuracy") -> Table:
    """What each arm keeps and costs beside the baseline variant of its data set, search included.

    Shares are paired by seed; `price` is money per GPU hour. Raises ParameterError when no arm is the baseline.
    """
    runs, partner = _with_baseline(records, baseline)
    writers = {
        f"{measures.title(metric).partition(' (')[0]} kept": _kept(metric),
        "training FLOPs": _relative("cost.flops", lambda x: scaled(x, "FLOP")),
        "seconds": _relative("cost.seconds", lambda x: scaled(x, "s")),
        "peak memory": _relative("cost.peak_bytes", lambda x: scaled(x, "B")),
        "joules": _relative("cost.joules", lambda x: scaled(x, "J")),
        f"money at {price:g} per GPU hour": _money(price),
    }
    rows = ((arm, *(write(runs, arm, partner[arm]) for write in writers.values())) for arm in runs)
    title = f"Cost, search included: % of {baseline}, mean [95 % interval] over seeds"
    return Table(title, ("arm", *writers), tuple(rows), _search_notes(runs) + _side_by_side(runs))


def source_tables(paper: str) -> dict[str, Table]:
    """Numbers of other sources kept in the paper's file, each with its source and status."""
    return {
        name: Table(
            f"{table['title']} ({table['status']})",
            tuple(table["columns"]),
            tuple(tuple(map(str, row)) for row in table["rows"]),
            (f"Source: {table['source']}",),
        )
        for name, table in papers.load(paper).tables.items()
    }


def derive(results_dir: str | Path, scale: str, paper: str) -> dict[str, Table]:
    """Every table of one run, rebuilt from its records alone: claims, tests, and with finished arms arms and cost.

    The price per GPU hour is the one of the paper's file.
    """
    file = paths.records_file(results_dir, scale, paper)
    records = read_records(file) if file.exists() else []
    rows, settings = judge(paper, records), papers.load(paper).report
    tables = {"claims": claims_table(rows), "tests": tests_table(rows)}
    if any(measures.variant(arm) == settings["baseline"] for arm in measures.by_arm(records)):
        tables["arms"] = arms_table(records, settings["metrics"])
        price = settings["price_per_gpu_hour"]
        tables["cost"] = cost_table(records, baseline=settings["baseline"], price=price)
    return tables
