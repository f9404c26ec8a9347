"""Our parts timed beside their alternatives, on the machine at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from effi.bench import suites, tickets
from effi.bench.rounds import Case, save, table, timed
from effi.errors import ParameterError, did_you_mean

BENCHES: Mapping[str, Callable[[], list[Case]]] = {
    "vit": suites.vit,
    "minimal": suites.minimal,
    "loop": suites.loop,
    "import": suites.imports,
    "early_bird": tickets.early_bird,
    "gpu": suites.gpu,
}
NOTHING = "No GPU: torch sees no CUDA device, so that there was nothing to measure."


def main(name: str | None = None, *, results_dir: str | Path = "results", budget_s: float = 20.0) -> None:
    """Print one benchmark as a table, or all of them, and append its rows to results/bench/<name>.jsonl.

    `budget_s` is the time for one case of a benchmark. ParameterError for an unknown name.
    """
    if name is not None and name not in BENCHES:
        raise ParameterError(f'there is no benchmark "{name}"{did_you_mean(name, BENCHES)}')
    for each in [name] if name else BENCHES:
        rows = [row for case in BENCHES[each]() for row in timed(case, budget_s)]
        if not rows:
            print(NOTHING)
            continue
        save(each, rows, results_dir)
        print(table(each, rows).text(), end="\n\n")
