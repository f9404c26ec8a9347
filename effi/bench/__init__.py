"""Our parts timed beside their alternatives, on the machine at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from effi.bench import gpts, gpu, growth, scale, soups, sparsity, suites, tickets
from effi.bench.rounds import FAILED, Case, FailedError, timed
from effi.bench.shown import newest, now, save, table, timed_before
from effi.errors import ParameterError, did_you_mean

BENCHES: Mapping[str, Callable[[], list[Case]]] = {
    "vit": suites.vit,
    "minimal": suites.minimal,
    "loop": suites.loop,
    "import": suites.imports,
    "gpt": gpts.gpt,
    "early_bird": tickets.early_bird,
    "instant_soup": soups.instant_soup,
    "mixed_sparsity": sparsity.mixed_sparsity,
    "ligo": growth.ligo,
    "scale": scale.scale,
    "gpu": gpu.timed_by_events,
    "gpu_gpt": gpu.texts_by_events,
}
NOTHING = "No GPU: torch sees no CUDA device, so that there was nothing to measure."


def main(
    name: str | None = None,
    *,
    results_dir: str | Path = "results",
    stored: bool = False,
    resume: bool = False,
    budget_s: float = 20.0,
) -> None:
    """Time one benchmark, or all of them, append each case's rows to results/bench/<name>.jsonl and print them.

    `stored` only prints. `resume` passes over cases that this source has timed on this machine, and repeats those that
    were noisy, failed or lacked what is installed by now, after all others. `budget_s` is the time of one competitor
    beside the reference, but for the least number of rounds. ParameterError for an unknown name; FailedError, when all
    is printed, where a competitor failed.
    """
    if name is not None and name not in BENCHES:
        raise ParameterError(f'there is no benchmark "{name}"{did_you_mean(name, BENCHES)}')
    names = [name] if name else list(BENCHES)
    for each in names:
        print(_stored(each, results_dir) if stored else _measured(each, results_dir, budget_s, resume), end="\n\n")
    rows = [row for each in names for row in newest(each, results_dir) if (row.get("note") or "").startswith(FAILED)]
    if rows and not stored:
        raise FailedError("; ".join(f"{row['case']}, {row['competitor']}: {row['note']}" for row in rows))


def _measured(name: str, results_dir: str | Path, budget_s: float, resume: bool) -> str:
    cases, written = BENCHES[name](), now()
    known = timed_before(name, results_dir) if resume else {}
    due = [case for case in cases if known.get(case.title) != "done"]
    for case in sorted(due, key=lambda case: case.title in known):
        save(name, timed(case, budget_s), results_dir, written=written)
    return _stored(name, results_dir) if cases else NOTHING


def _stored(name: str, results_dir: str | Path) -> str:
    rows = newest(name, results_dir)
    text = table(name, rows).text() if rows else f"Benchmark {name}: no rows yet; `effi bench {name}` makes them"
    left = [case.title for case in gpu.planned()[name]] if name.startswith("gpu") else []
    left = [title for title in left if title not in {row["case"] for row in rows}]
    return f"{text}\nNot measured yet: {'; '.join(left)}" if left else text
