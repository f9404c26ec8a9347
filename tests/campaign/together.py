"""Several commands at once on one folder of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from effi.records import store
from tests.campaign.bed import PAPER, Bed, same_bits, whole
from tests.campaign.rows import Fault, expect

NOTE = (
    "Runs of the small notebook on the same folder at the same time, and a run beside commands that read or write what "
    "it leaves. No row may stand twice, none be torn, and the bits must be those of one run alone."
)


def faults(bed: Bed) -> Iterator[Fault]:
    """One row each."""
    for number, word in ((2, "two"), (4, "four")):
        yield Fault(f"{word} runs on one folder of results", lambda number=number: _runs(bed, number))
    yield Fault("a run and effi verify, again and again", lambda: _beside(bed, "verified", "smoke", "verify"))
    yield Fault("a run and effi report, again and again", lambda: _beside(bed, "results", "cpu", "report"))


def _runs(bed: Bed, number: int) -> str:
    undisturbed, name = bed.undisturbed(), f"shared-{number}"
    with ExitStack() as all_of_them:
        commands = [all_of_them.enter_context(bed.start(*bed.small(name))) for _ in range(number)]
        ended = [command.wait(900) for command in commands]
    said = [f"{each.status}: {each.sentences}" for each in ended if each.status]
    expect(not said, f"{len(said)} runs ended badly: {said}")
    file = bed.records(name)
    wrong = whole(file) or same_bits(undisturbed, bed.root / name)
    expect(not wrong, wrong)
    verified = bed.effi("verify", "--results-dir", str(bed.root / name), seconds=300)
    expect(verified.status == 0, f"effi verify: {verified.err}")
    processes = len({row["written"] for row in store.records(file)})
    return f"{number} runs ended well; every training stands once ({processes} different seconds), bits and tables hold"


def _beside(bed: Bed, name: str, scale: str, command: str) -> str:
    undisturbed = bed.undisturbed()
    words = ["run", PAPER, "--scale", scale, "--results-dir", str(bed.root / name), "--quiet"]
    words += ["-p", "seeds=0,1,2,3", "-p", "rest_s=0.1"]
    more = ["--results-dir", str(bed.root / name)] if command == "verify" else []
    heard: dict[int, int] = {}
    with bed.start(*words) as run:
        while run.process.poll() is None:
            run.measure()
            ended = bed.effi(command, *more, seconds=300)
            heard[ended.status] = heard.get(ended.status, 0) + 1
            said = " / ".join(ended.sentences)
            expect("Traceback" not in said and "torn" not in said, f"effi {command}: {said}")
        finished = run.wait(900)
    expect(finished.status == 0, f"the run ended with {finished.status}: {finished.err}")
    file = bed.root / name / scale / PAPER / "records.jsonl"
    wrong = whole(file) or (same_bits(undisturbed, bed.root / name) if scale == "smoke" else "")
    expect(not wrong, wrong)
    last = bed.effi(command, *more, seconds=300)
    expect(last.status == 0, f"effi {command} afterwards: {last.err}")
    told = ", ".join(f"{count} with status {status}" for status, count in sorted(heard.items()))
    return f"effi {command} ended {told}, each in a sentence; afterwards it holds, and every training stands once"
