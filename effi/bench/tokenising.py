"""How fast, and in how much memory, a generated text becomes shards: a process of its own, watched with its workers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from effi import paths

VOCABULARY, SEED = 4000, 0
WORDS, LINES = 30_000, 20_000
SYLLABLES = ("ka", "to", "mi", "re", "su", "na", "lo", "pe", "vi", "do", "chan", "ber", "st", "ing", "er", "ly")
EVERY_S = 0.1
# The watched process imports what a training does to read its data, and no benchmark.
WATCHED = """
import json, sys, time
from pathlib import Path
from effi.data import long_text
text, out = map(Path, sys.argv[1:3])
start = time.perf_counter()
long_text.scanned([text], out)
read = time.perf_counter() - start
made = long_text.read(text.name, [text], None, int(sys.argv[3]), 0, out)
told = {"seconds": time.perf_counter() - start, "reading_seconds": read}
print(json.dumps(told | {"tokens": sum(map(len, made.ids.values()))}))
"""


@dataclass(frozen=True)
class Tokenised:
    """What it took: seconds in all and of the first reading, and the most memory of all processes together, in MB.

    `peak_mb` counts what processes share once (PSS), `peak_rss_mb` in each of them.
    """

    megabytes: float
    seconds: float
    reading_seconds: float
    tokens: int
    processes: int
    peak_mb: float
    peak_rss_mb: float

    @property
    def mb_per_s(self) -> float:
        """Text per second, import and start of the process left out."""
        return self.megabytes / self.seconds


def generate(path: Path, megabytes: float) -> None:
    """A text of so many million bytes: lines drawn from LINES different ones, of words as frequent as in English."""
    rng = np.random.default_rng(SEED)
    words = ["".join(rng.choice(SYLLABLES, rng.integers(1, 6))) for _ in range(WORDS)]
    chances = 1 / (np.arange(WORDS) + 2.7)
    drawn = rng.choice(words, (LINES, 30), p=chances / chances.sum())
    pool = [" ".join(line[:length]) + "\n" for line, length in zip(drawn, rng.integers(4, 31, LINES), strict=True)]
    left = int(megabytes * 1e6)
    with path.open("w", encoding="utf-8") as file:
        while left > 0:
            block = "".join(pool[number] for number in rng.integers(0, LINES, 10_000))[:left]
            file.write(block)
            left -= len(block)


def measure(text: Path, out: Path) -> Tokenised:
    """Tokenise a text to shards under `out`, in a process whose memory is watched."""
    command = [sys.executable, "-c", WATCHED, str(text), str(out), str(VOCABULARY)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=paths.ROOT
    ) as child:
        peaks = _watched(child)
        told = json.loads(child.communicate()[0].splitlines()[-1])
    return Tokenised(text.stat().st_size / 1e6, **told, peak_mb=peaks[0], peak_rss_mb=peaks[1], processes=peaks[2])


def _watched(child: subprocess.Popen[str]) -> tuple[float, float, int]:
    """(most PSS in MB, most RSS in MB, most processes) until it ends."""
    pss = rss = 0.0
    processes = 0
    while child.poll() is None:
        with suppress(psutil.Error):
            first = psutil.Process(child.pid)
            found = [each.memory_full_info() for each in (first, *first.children(recursive=True))]
            pss = max(pss, sum(getattr(each, "pss", each.uss) for each in found) / 1e6)
            rss = max(rss, sum(each.rss for each in found) / 1e6)
            processes = max(processes, len(found))
        time.sleep(EVERY_S)
    return pss, rss, processes
