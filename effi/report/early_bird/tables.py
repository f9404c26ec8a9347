"""Tables of paper 1: where tickets are drawn, what they weigh, and what looking for them costs.

All but the table of bytes read the arms that searched, such as the dense ones: give `results.where(variant="dense")`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from effi.claims import Results, stats, uncertainty
from effi.errors import RecordError
from effi.report.early_bird.snapshots import NEVER, RULES, chance, drawn_shares
from effi.report.tables import Table

TIMED = "check/C9"


def draws_table(results: Results, ratios: Sequence[float]) -> Table:
    """When each rule draws, as share of the training over the seeds that drew, and how close masks came.

    A note names where R1 draws at its first check. Ratios that an arm was not searched at are passed over.
    """
    rows, first = [], []
    for arm, ratio in _searched(results, ratios):
        seeds = len(results.seeds(arm))
        shares = [_draws(drawn_shares(results, arm, rule, ratio), seeds) for rule in (*RULES, "epochs")]
        near = [mean(results.values(arm, f"{what}_{ratio:g}")) for what in ("closest", "epoch_distance")]
        rows.append((results.group(arm), f"{ratio:g}", *shares, *near, f"{chance(ratio):.2f}"))
        if set(results.values(arm, f"found_consecutive_{ratio:g}")) == {1}:
            first.append(f"{results.group(arm)} at p = {ratio:g}")
    columns = ("group", "p", *(f"{name} at share" for name in RULES.values()), "R1 by epoch")
    distances = ("closest", "one epoch apart", "independent masks")
    note = f"R1 draws at its first check, so that it does not discriminate: {', '.join(first) or 'nowhere'}."
    return Table("Where the ticket is drawn", (*columns, *distances), tuple(rows), (note,))


def thresholds_table(results: Results, ratios: Sequence[float], thresholds: Sequence[float]) -> Table:
    """Share of the training at which R1 would draw by threshold, with the untrained net's mask and without it."""
    rows = [
        (results.group(arm), words, f"{ratio:g}", *(mean(_first(results, arm, ratio, eps, skip)) for eps in thresholds))
        for arm, ratio in _searched(results, ratios)
        for skip, words in ((0, "with epoch 0"), (1, "without"))
    ]
    columns = ("group", "snapshots", "p", *(f"ε = {threshold:g}" for threshold in thresholds))
    return Table("R1: share of the training at the draw", columns, tuple(rows))


def seeds_table(results: Results, ratios: Sequence[float], rule: str = "consecutive") -> Table:
    """The snapshot at which a rule draws, seed by seed: whether the drawing is stable."""
    seeds = sorted({seed for arm in results.arms for seed in results.seeds(arm)})
    rows = []
    for arm, ratio in _searched(results, ratios):
        metric = f"found_{rule}_{ratio:g}"
        found = dict(zip(results.seeds(arm), map(int, results.values(arm, metric)), strict=True))
        drawn = (NEVER if found.get(seed, -1) < 0 else str(found[seed]) for seed in seeds)
        rows.append((results.group(arm), f"{ratio:g}", *drawn))
    columns = ("group", "p", *(f"seed {seed}" for seed in seeds))
    return Table(f"Snapshot at which {RULES[rule]} draws", columns, tuple(rows))


def bytes_table(results: Results, variants: Sequence[str], *, baseline: str) -> Table:
    """What training holds and what files weigh, relative to the baseline of each group; variants as labels ("eb-0.3").

    Files against the prunable weights in fp32. Raises RecordError when no baseline holds its bytes.
    """
    held = results.holding("training_bytes")
    rows = []
    for arm in (arm for arm in held.arms if held.label(arm) in variants):
        base = held.baseline(arm, baseline)
        if base is None:
            raise RecordError(f"{baseline} of {held.group(arm)} holds no bytes of its training: run it.")
        whole, dense = held.values(base, "training_bytes")[0], 4 * held.values(base, "prunable")[0]
        files = (_shares(held, arm, f"file_{kind}", dense) for kind in ("dense", "dense+mask", "csr", "bitmap"))
        rows.append((arm, _shares(held, arm, "training_bytes", whole), *files))
    columns = ("arm", "held in training", "file, dense format", "dense and mask", "CSR", "bitmap")
    return Table(f"Bytes relative to {baseline}", columns, tuple(rows))


def looking_table(results: Results) -> Table:
    """What the search itself takes: share of the training's seconds, and the bytes of all masks kept."""
    found = results.holding("tracking_share", "tracking_bytes", "snapshots")
    rows = (
        (
            found.group(arm),
            f"{found.values(arm, 'snapshots')[0]:.0f}",
            f"{100 * sum(found.values(arm, 'tracking_share')) / len(found.seeds(arm)):.1f} %",
            f"{found.values(arm, 'tracking_bytes')[0] / 1e6:.2f} MB",
        )
        for arm in found.arms
    )
    return Table("What looking costs", ("group", "snapshots", "share of training time", "kept"), tuple(rows))


def mean(values: Sequence[float]) -> str:
    """Mean of some values as text, "never" without any."""
    return f"{sum(values) / len(values):.2f}" if values else NEVER


def _searched(results: Results, ratios: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Every arm with the ratios that it was searched at."""
    for arm in results.arms:
        yield from ((arm, ratio) for ratio in ratios if results.holds(arm, f"found_consecutive_{ratio:g}"))


def _draws(shares: Sequence[float], seeds: int) -> str:
    """Mean share at the draw, and how many seeds drew."""
    return f"{mean(shares)} ({len(shares)} of {seeds})"


def _first(results: Results, arm: str, ratio: float, threshold: float, skip: int) -> list[float]:
    """Share of the training at which R1 draws, without the first `skip` masks, for each seed that draws."""
    shares = []
    for steps in results.history(arm, f"distance_{ratio:g}"):
        at = next((t for t, distance in enumerate(steps, start=1) if distance < threshold and t > skip), None)
        shares += [] if at is None else [at / len(steps)]
    return shares


def _shares(results: Results, arm: str, metric: str, whole: float) -> str:
    """Mean of a metric relative to a number; a dash where an arm has no such file."""
    if not results.holds(arm, metric):
        return "-"
    return mean([value / whole for value in results.values(arm, metric)])


def time_table(results: Results) -> Table:
    """C9: search and training over dense training, by steps timed alone; geometric mean, 95 % interval over repeats.

    Arms whose ticket some repeat never drew are left out. Raises ParameterError when nothing was timed.
    """
    timed = [record["metrics"] for record in results.seeds(TIMED).values()]
    names = [name for name in timed[0] if name.startswith("time_ratio/") and all(name in own for own in timed)]
    spans = {name.removeprefix("time_ratio/"): uncertainty.positive([own[name] for own in timed]) for name in names}
    rows = ((name, stats.measured(span, len(timed), digits=2)) for name, span in spans.items())
    title = "Search and training over dense training, by steps timed alone"
    return Table(title, ("arm", f"times dense, n={len(timed)}"), tuple(rows))
