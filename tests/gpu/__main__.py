"""`make gpu`: what only a GPU can show, in calls of a few minutes: the next one goes on where the last one stopped."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from effi import paths
from effi.errors import did_you_mean
from effi.records.provenance import provenance
from effi.workbook.notebook import SCALES

# By what a reader with little time on a device gains from each.
PAPERS = ("minimal", "early_bird", "mixed_sparsity", "ligo", "instant_soup")
BENCHES = ("gpu", "gpu_gpt")
TESTS = Path(__file__).parents[1]
# Of each of some 330 competitors; nine rounds of steps of milliseconds take less. With what torch compiles first both
# benchmarks are estimated at half an hour, four calls, of which the second begins with attention and layers.
BUDGET = "1s"
GRACE_S = 30.0  # in which a run that is told to end writes its checkpoint
FAILED = "failed "  # before what a stamp says of a step that was done: source, GPU and command
MORE, NO_GPU = 3, 2  # exit status where the time was over first, and where there is nothing to run on

Steps = Mapping[str, Sequence[str]]


def main(words: Sequence[str] | None = None) -> int:
    """0 when all is done, 3 when the time was over first, else the status of what failed first."""
    asked = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    asked.add_argument("only", nargs="*", help="tests, bench or a paper; all of them in the order of their worth")
    asked.add_argument("--minutes", type=float, default=9.0)
    asked.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    asked.add_argument("--scale", default="gpu", choices=SCALES)
    asked.add_argument("--results-dir", default="results")
    asked.add_argument("--done", type=Path, default=paths.ROOT / "build" / "gpu", help="folder of what is done")
    given = asked.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("No GPU: torch sees no CUDA device. `effi doctor` says more; --device cpu --scale smoke rehearses")
        return NO_GPU
    chosen = steps(given.device, given.scale, given.results_dir)
    known = {name.partition(" ")[0] for name in chosen}
    for each in set(given.only) - known:
        asked.error(f"there is no step {each!r}{did_you_mean(each, known)}")
    if given.only:
        chosen = {name: step for name, step in chosen.items() if name.partition(" ")[0] in given.only}
    return in_turn(chosen, given.done, 60 * given.minutes)


def steps(device: str, scale: str, results_dir: str) -> dict[str, list[str]]:
    """Name -> command: tests that ask for CUDA, benchmarks, the five papers; each goes on from what it has kept."""
    effi = [str(Path(sys.executable).with_name("effi"))]
    timed = ["--resume", "--budget", BUDGET, "--results-dir", results_dir]
    benches = {f"bench {name}": [*effi, "bench", name, *timed] for name in BENCHES}
    run = ["--scale", scale, "-p", f"device={device}", "--results-dir", results_dir]
    papers = {name: [*effi, "run", name, *run] for name in PAPERS}
    return {"tests": [sys.executable, "-m", "pytest", "-q", *map(str, asking_for_cuda())], **benches, **papers}


def asking_for_cuda() -> list[Path]:
    """Files of tests of which some ask whether there is a GPU."""
    return [path for path in sorted(TESTS.rglob("test_*.py")) if "torch.cuda.is_available()" in path.read_text()]


def in_turn(chosen: Steps, done: Path, seconds: float) -> int:
    """Run each step that this source has not done on this GPU, until the time is over; a failed one stops no other."""
    here = f"{provenance()['effi_source']} {provenance()['gpu']}"
    done_as = {name: " ".join([here, *command]) for name, command in chosen.items()}
    end, failed = time.monotonic() + seconds, 0
    stamps = {name: done / name.replace(" ", "_") for name in chosen}
    known = {name: stamp.read_text() for name, stamp in stamps.items() if stamp.exists()}
    # What failed before comes last.
    for name in sorted(chosen, key=lambda name: known.get(name) == FAILED + done_as[name]):
        if known.get(name) == done_as[name]:
            print(f"{name}: done before", flush=True)
            continue
        print(f"{name}: {' '.join(chosen[name])}", flush=True)
        status = _within(chosen[name], end - time.monotonic())
        if status is None:
            print(f"{name}: the time is over; the same command goes on {'anew' if name == 'tests' else 'from here'}")
            return MORE
        if status:
            print(f"{name}: failed with exit status {status}", flush=True)
        failed = failed or status
        paths.replace(stamps[name], FAILED * bool(status) + done_as[name])
    print("all but what failed is done" if failed else "all done", flush=True)
    return failed


def _within(command: Sequence[str], seconds: float) -> int | None:
    """Exit status of a command; None where it was told to end, as its time was over."""
    if seconds <= 0:
        return None
    child = subprocess.Popen(command, cwd=paths.ROOT)
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.terminate()  # a shell's background job, and what it starts, never hears of SIGINT
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    return None


if __name__ == "__main__":
    sys.exit(main())
