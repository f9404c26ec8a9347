"""Which stored outputs a fresh run can be held to: all of them on the kind of CPU that made them.

`python -m tests.notebooks.outputs made` notes this machine's as the one; `... option` prints how nbval compares here.
Another kind of CPU trains to other last digits: there nbval runs every cell, and compares those of golden checks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from effi.records.machine import cpu

MADE_ON = Path(__file__).with_name("made_on.txt")
CHECKED = "nbval-check-output"
STRICT, LAX = "--nbval", "--nbval-lax"


def option(made_on: str) -> str:
    """nbval's option: strict where a CPU like this one executed the notebooks."""
    return STRICT if made_on == cpu() else LAX


def main(word: str) -> None:
    """`made` or `option`."""
    if word == "made":
        MADE_ON.write_text(f"{cpu()}\n", encoding="utf-8")
    else:
        print(option(MADE_ON.read_text(encoding="utf-8").strip()))


if __name__ == "__main__":
    main(*sys.argv[1:])
