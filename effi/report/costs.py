"""What an arm costs beside its baseline: search included, paired by seed, and at matched budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from effi.claims import Pair, Results, measures, stats
from effi.claims.papers import NOT_AVAILABLE
from effi.cost import money
from effi.errors import RecordError
from effi.report.arms import shown
from effi.report.tables import Table

if TYPE_CHECKING:
    from effi.records import Record

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
RUNNING = ("train", "evaluate")
LOST = "lost"


def scaled(value: float, unit: str) -> str:
    """Three significant digits with an SI prefix: 1.23e12 FLOP -> "1.23 TFLOP"."""
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}{unit}"


def _guarded(write: Callable[[Sequence[Pair]], str]) -> Callable[[Sequence[Pair]], str]:
    """The cell, or "not available" without pairs, without the measurement or beside a baseline of zero."""

    def cell(pairs: Sequence[Pair]) -> str:
        try:
            return write(pairs) if pairs else NOT_AVAILABLE
        except (RecordError, ZeroDivisionError):
            return NOT_AVAILABLE

    return cell


def _relative(metric: str, unit: str) -> Callable[[Sequence[Pair]], str]:
    """% of the baseline; the baseline itself in absolute terms."""

    def cell(pairs: Sequence[Pair]) -> str:
        values = [(measures.value(p.arm, metric), measures.value(p.baseline, metric)) for p in pairs]
        if pairs[0].arm is pairs[0].baseline:
            return scaled(sum(ours for ours, _ in values) / len(values), unit)
        return shown([100 * ours / theirs for ours, theirs in values], "%", 1)

    return _guarded(cell)


def differences(pairs: Sequence[Pair], metric: str) -> list[float]:
    """Arm minus baseline at each seed, in the shown unit. Raises RecordError when one does not hold the metric."""
    factor = measures.unit(metric).factor
    return [factor * (measures.value(p.arm, metric) - measures.value(p.baseline, metric)) for p in pairs]


def _kept(metric: str) -> Callable[[Sequence[Pair]], str]:
    """The score, and its difference to the baseline."""
    own, gap = measures.unit(metric), measures.unit(metric, difference=True)

    def cell(pairs: Sequence[Pair]) -> str:
        scores = [own.factor * measures.value(pair.arm, metric) for pair in pairs]
        if pairs[0].arm is pairs[0].baseline:
            return shown(scores, own.name, own.digits)
        mean = f"{stats.number(sum(scores) / len(scores), own.digits)} {own.name}".strip()
        return f"{mean}: {shown(differences(pairs, metric), gap.name, gap.digits)}"

    return _guarded(cell)


def _money(price: float) -> Callable[[Sequence[Pair]], str]:
    return _guarded(lambda pairs: shown([money(measures.value(p.arm, "cost.seconds"), price) for p in pairs]))


def spent(record: Record, phase: str, key: str) -> float:
    """Cost of one phase; 0 where the record has none of that name."""
    return record["cost"].get("phases", {}).get(phase, {}).get(key) or 0.0


def running(record: Record, key: str) -> float:
    """Cost that grows with the epochs: training and its validation."""
    return sum(spent(record, phase, key) for phase in RUNNING)


def lost(record: Record, key: str) -> float:
    """Cost of steps that an interruption threw away: of no method, so neither search nor in a matched budget."""
    return spent(record, LOST, key)


def before(record: Record, key: str) -> float:
    """Cost that was paid before training, as search: all that neither grows with the epochs nor was lost."""
    return measures.value(record, f"cost.{key}") - running(record, key) - lost(record, key)


def _share(record: Record, key: str, part: Callable[[Record, str], float]) -> float:
    """A part of an arm's cost in %; none where its training is no phase of its own."""
    total = record["cost"].get(key)
    return 100 * part(record, key) / total if total and "train" in record["cost"].get("phases", {}) else 0.0


def _notes(pairs: Mapping[str, Sequence[Pair]]) -> tuple[str, ...]:
    told = (
        ("flops", before, "of its FLOPs are spent on search."),
        ("seconds", lost, "of its seconds were lost by interruptions."),
    )
    notes = [
        f"{arm}: {shown(shares, '%', 1)} {words}"
        for key, part, words in told
        for arm, ps in pairs.items()
        if any(shares := [_share(pair.arm, key, part) for pair in ps])
    ]
    most = max((p.arm["cost"].get("side_by_side", 1) for ps in pairs.values() for p in ps), default=1)
    if most > 1:
        notes.append(f"Seconds, joules and money were measured with up to {most} trainings side by side.")
    return tuple(notes)


def cost_table(results: Results, *, baseline: str, price: float, metric: str = "test_accuracy") -> Table:
    """What each arm keeps and costs beside the baseline variant of its data set, search included.

    `price` is money per GPU hour. Raises ParameterError when no arm is the baseline.
    """
    pairs = results.pairs(baseline)
    writers = {
        f"{measures.words(metric)} kept": _kept(metric),
        "training FLOPs": _relative("cost.flops", "FLOP"),
        "seconds": _relative("cost.seconds", "s"),
        "peak memory": _relative("cost.peak_bytes", "B"),
        "joules": _relative("cost.joules", "J"),
        f"money at {price:g} per GPU hour": _money(price),
    }
    rows = ((arm, *(write(pairs[arm]) for write in writers.values())) for arm in pairs)
    title = f"Cost in % of {baseline}, search included: mean [95 % interval] over seeds"
    return Table(title, ("arm", *writers), tuple(rows), _notes(pairs))


def _affordable(record: Record, epochs: int, key: str, budget: float) -> int:
    """Epochs that fit the budget when the search is paid first."""
    if "train" not in record["cost"]["phases"]:
        raise RecordError(f'{record["arm"]} holds no phase "train": open one around its training.')
    return int(epochs * (budget - before(record, key)) / running(record, key) + 1e-9)


def _matched_gap(pair: Pair, metric: str, key: str | None) -> float:
    """Difference at an equal number of epochs, or at the smaller cost of the two. Raises RecordError without it."""
    histories = [record["history"].get(metric) for record in pair]
    if not all(histories):
        raise RecordError(f"{pair.arm['arm']} holds no history of {metric}: record one while training.")
    lengths = [len(history) for history in histories]
    if key is None:
        lengths = [min(lengths)] * 2
    elif any(record["cost"].get(key) is None for record in pair):
        raise RecordError(f"{pair.arm['arm']} holds no cost {key!r}: measure it.")
    else:
        budget = min(record["cost"][key] - lost(record, key) for record in pair)
        lengths = [_affordable(r, n, key, budget) for r, n in zip(pair, lengths, strict=True)]
    if min(lengths) < 1:
        raise RecordError(f"{pair.arm['arm']}: the budget does not reach one epoch.")
    ours, theirs = (history[n - 1] for history, n in zip(histories, lengths, strict=True))
    return measures.unit(metric).factor * (ours - theirs)


def _matched(metric: str, key: str | None) -> Callable[[Sequence[Pair]], str]:
    gap = measures.unit(metric, difference=True)
    return _guarded(lambda ps: shown([_matched_gap(p, metric, key) for p in ps], gap.name, gap.digits))


def matched_table(results: Results, *, baseline: str, metric: str = "validation_accuracy") -> Table:
    """Difference to the baseline at equal epochs, equal FLOPs and equal time, read off the histories.

    Of each pair the dearer training is cut at the other's whole cost. Raises ParameterError when no arm is the
    baseline.
    """
    pairs = {arm: ps for arm, ps in results.pairs(baseline).items() if ps and ps[0].arm is not ps[0].baseline}
    budgets = {"equal epochs": None, "equal FLOPs": "flops", "equal time": "seconds"}
    writers = [_matched(metric, key) for key in budgets.values()]
    rows = ((arm, *(write(pairs[arm]) for write in writers)) for arm in pairs)
    title = f"{measures.title(metric)} minus {baseline} at matched budgets: mean [95 % interval] over seeds"
    note = "Histories are cut, not trained anew: a decaying learning rate favours the arm that reaches its end."
    return Table(title, ("arm", *budgets), tuple(rows), (note,))
