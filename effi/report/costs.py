"""What an arm costs beside its baseline: search included, paired by seed, and at matched budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from effi.claims import Pair, Results, measures, stats, uncertainty
from effi.claims.papers import NOT_AVAILABLE
from effi.claims.results import holds
from effi.cost import money
from effi.errors import RecordError
from effi.report.arms import models, of_the_test_set, sanity
from effi.report.tables import Table

if TYPE_CHECKING:
    from effi.records import Record

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
RUNNING = ("train", "evaluate")
LOST = "lost"
UNUSED = 0.1  # of a budget; a comparison that leaves more is none at equal cost
Cell = Callable[[Sequence[Pair]], str]


def scaled(value: float, unit: str) -> str:
    """Three significant digits with an SI prefix: 1.23e12 FLOP -> "1.23 TFLOP"."""
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}{unit}"


def _guarded(write: Cell) -> Cell:
    """The cell, or "not available" without pairs, without the measurement or beside a baseline of zero."""

    def cell(pairs: Sequence[Pair]) -> str:
        try:
            return write(pairs) if pairs else NOT_AVAILABLE
        except (RecordError, ZeroDivisionError):
            return NOT_AVAILABLE

    return cell


def _relative(metric: str, unit: str) -> Cell:
    """% of the baseline; the baseline itself in absolute terms."""

    def cell(pairs: Sequence[Pair]) -> str:
        values = [(measures.value(p.arm, metric), measures.value(p.baseline, metric)) for p in pairs]
        if pairs[0].arm is pairs[0].baseline:
            return scaled(uncertainty.positive([ours for ours, _ in values]).mean, unit)
        return _share([100 * ours / theirs for ours, theirs in values])

    return _guarded(cell)


def _share(values: Sequence[float]) -> str:
    """Ratios in %."""
    return stats.measured(uncertainty.positive(values), len(values), "%", 1)


def _kept(metric: str) -> Cell:
    """The score, and its difference to the baseline."""

    def cell(pairs: Sequence[Pair]) -> str:
        score = uncertainty.score([pair.arm for pair in pairs], metric)
        if pairs[0].arm is pairs[0].baseline:
            return uncertainty.shown(score, metric)
        unit = measures.unit(metric)
        mean = f"{stats.number(score.mean, unit.digits)} {unit.name}".strip()
        return f"{mean}: {uncertainty.shown(uncertainty.change(pairs, metric), metric, difference=True)}"

    return _guarded(cell)


def _money(price: float) -> Cell:
    """Three digits that count, however little it is."""

    def cell(pairs: Sequence[Pair]) -> str:
        spans = uncertainty.positive([money(_device_seconds(pair.arm), price) for pair in pairs])
        mean, low, high = (f"{value:,.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".") for value in spans)
        return mean if len(pairs) == 1 or low == high else f"{mean} [{low}, {high}]"

    return _guarded(cell) if price else lambda pairs: "0"


def _device_seconds(record: Record) -> float:
    """Seconds of an arm times the devices that shared it."""
    return measures.value(record, "cost.seconds") * int(record.get("provenance", {}).get("processes", 1))


def _search(pairs: Sequence[Pair]) -> str:
    """What part of its own FLOPs an arm spends on search."""
    shares = [_part(pair.arm, "flops", before) for pair in pairs]
    return _share(shares) if all(shares) else stats.number(sum(shares) / len(shares), 1) + " %"


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


def _part(record: Record, key: str, part: Callable[[Record, str], float]) -> float:
    """A part of an arm's cost in %; none where its training is no phase of its own."""
    total = record["cost"].get(key)
    return 100 * part(record, key) / total if total and "train" in record["cost"].get("phases", {}) else 0.0


def _notes(pairs: Mapping[str, Sequence[Pair]], metric: str, alone: bool) -> tuple[str, ...]:
    """Whether accuracies know of the test set, what interruptions took, and how many trainings ran side by side."""
    tested = (uncertainty.change(own, metric) for own in pairs.values() if own and _both_hold(own, metric))
    if alone:
        return (*of_the_test_set(tested), "Trainings shared the machine: time is that of their steps, timed alone.")
    wasted = {arm: [_part(pair.arm, "seconds", lost) for pair in own] for arm, own in pairs.items()}
    shares = [f"{arm} {sum(own) / len(own):.1f} %" for arm, own in wasted.items() if any(own)]
    notes = [f"Of its seconds an arm lost by interruptions: {', '.join(shares)}."] if shares else []
    if (most := _side_by_side(pairs)) > 1:
        notes.append(f"No seconds, joules and money: up to {most} trainings shared the machine, more or less busy.")
    return (*of_the_test_set(tested), *notes)


def _side_by_side(pairs: Mapping[str, Sequence[Pair]]) -> int:
    """The most trainings that shared the machine."""
    return max((p.arm["cost"].get("side_by_side", 1) for ps in pairs.values() for p in ps), default=1)


def _both_hold(pairs: Sequence[Pair], metric: str) -> bool:
    return all(holds(record, metric) for pair in pairs for record in pair)


def cost_table(
    results: Results, *, baseline: str, price: float, metric: str = "test_accuracy", timing: str = ""
) -> Table:
    """What each arm keeps and costs beside the baseline variant of its data set, search included.

    Baselines stand in absolute numbers, and so do sanity baselines, which come last. `price` is money per GPU hour.
    Where trainings shared the machine, each took seconds from the others: no seconds, joules and money then, but the
    ratios of `timing`, an arm that timed steps alone, where it ran. Raises ParameterError when no arm is the baseline.
    """
    pairs = models(results, baseline)
    pairs |= {arm: [Pair(r, r) for r in results.seeds(arm).values()] for arm in sanity(results, pairs)}
    searched = any(_part(pair.arm, "flops", before) for own in pairs.values() for pair in own)
    shared = _side_by_side(pairs) > 1
    alone = shared and timing in results
    writers: dict[str, Cell] = {
        f"{measures.words(metric)} kept": _kept(metric),
        "training FLOPs": _relative("cost.flops", "FLOP"),
        **({"search, % of FLOPs": _guarded(_search)} if searched else {}),
        **_memory(pairs),
        **(_timed(results, timing) if alone else {} if shared else _clocked(price)),
    }
    rows = ((arm, *(write(pairs[arm]) for write in writers.values())) for arm in pairs)
    title = f"Cost in % of {baseline}, search included: mean, of costs the geometric one, [95 % interval] over seeds"
    return Table(title, ("arm", *writers), tuple(rows), _notes(pairs, metric, alone))


def _memory(pairs: Mapping[str, Sequence[Pair]]) -> dict[str, Cell]:
    """The peak, but bytes that were counted on a CPU, where a process keeps what it had, and on a shared machine."""
    records = [pair.arm for own in pairs.values() for pair in own]
    unclear = _side_by_side(pairs) > 1 or all(each.get("device") == "cpu" for each in records)
    if unclear and any(holds(each, "training_bytes") for each in records):
        return {"held in training": _relative("training_bytes", "B")}
    return {"peak memory": _relative("cost.peak_bytes", "B")}


def _clocked(price: float) -> dict[str, Cell]:
    money_of = {f"money at {price:g} per GPU hour": _money(price)}
    return {"seconds": _relative("cost.seconds", "s"), "joules": _relative("cost.joules", "J")} | money_of


def _timed(results: Results, timing: str) -> dict[str, Cell]:
    """Time over the baseline's, of steps that were timed with nothing beside them."""

    def cell(pairs: Sequence[Pair]) -> str:
        found = results.values(timing, f"time_ratio/{pairs[0].arm['arm']}")
        return _share([100 * ratio for ratio in found])

    return {"time, of steps alone": _guarded(cell)}


def _affordable(record: Record, epochs: int, key: str, budget: float) -> int:
    """Epochs that fit the budget when the search is paid first; RecordError where whole ones leave much of it."""
    if "train" not in record["cost"]["phases"]:
        raise RecordError(f'{record["arm"]} holds no phase "train": open one around its training.')
    spent = record["history"].get(key) or [epoch + 1 for epoch in range(epochs)]
    paid = running(record, key) / spent[-1] * (1 - 1e-9)  # a budget that an epoch meets to the last digit affords it
    after_each = (before(record, key) + paid * each for each in spent)
    found = [cost for cost in after_each if cost <= budget]
    if found and found[-1] < (1 - UNUSED) * budget:
        raise RecordError(f"{record['arm']}: whole epochs leave more than {UNUSED:.0%} of the budget unused.")
    return len(found)


def _matched_gap(pair: Pair, metric: str, key: str | None) -> float:
    """Difference, as stored, at an equal number of epochs or the smaller cost. Raises RecordError without it."""
    histories = [record["history"].get(metric) for record in pair]
    if not all(histories) or measures.of_another(pair.arm, metric):
        raise RecordError(f"{pair.arm['arm']} holds no history of its own of {metric}: record one while training.")
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
    return float(ours - theirs)


def _matched(metric: str, key: str | None) -> Cell:
    def cell(pairs: Sequence[Pair]) -> str:
        gaps = uncertainty.differences([_matched_gap(pair, metric, key) for pair in pairs], metric)
        return uncertainty.shown(gaps, metric, difference=True)

    return _guarded(cell)


def matched_table(results: Results, *, baseline: str, metric: str = "validation_accuracy") -> Table:
    """Difference to the baseline at equal epochs, equal FLOPs and equal time, read off the histories.

    Of each pair the dearer training is cut at the other's whole cost, after a whole epoch. No equal time where
    trainings shared a machine. Raises ParameterError when no arm is the baseline.
    """
    pairs = {arm: ps for arm, ps in models(results, baseline).items() if ps and ps[0].arm is not ps[0].baseline}
    budgets = {"equal epochs": None, "equal FLOPs": "flops"}
    budgets |= {"equal time": "seconds"} if _side_by_side(pairs) == 1 else {}
    writers = [_matched(metric, key) for key in budgets.values()]
    rows = ((arm, *(write(pairs[arm]) for write in writers)) for arm in pairs)
    title = f"{measures.title(metric)} minus {baseline} at matched budgets: mean [95 % interval] over seeds"
    note = "Histories are cut, not trained anew: a decaying learning rate favours the arm that reaches its end."
    whole = f"A cut falls on a whole epoch; where that leaves more than {UNUSED:.0%} of the budget, nothing is told."
    split = "They are of the validation split, whose own error is in no interval."
    notes = (note, whole, *([split] if "validation" in metric else []))
    return Table(title, ("arm", *budgets), tuple(rows), notes, folded=True)
