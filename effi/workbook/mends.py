"""What to do where the system refuses memory or disk: its own words name neither."""

from __future__ import annotations

DISK = ("No space left on device", "Disk quota exceeded", "File too large", "Read-only file system")
MEMORY = ("failed to map segment", "an't allocate memory", "annot allocate memory", "MemoryError", "std::bad_alloc")


def mend(words: str) -> str:
    """The end of a sentence that holds the system's `words`; empty where they are of neither kind."""
    if any(each in words for each in DISK):
        return "; free space on the disk, then run again: finished arms are kept"
    if any(each in words for each in MEMORY):
        return "; there is too little memory: end other programs or raise the limit (ulimit -v), then run again"
    return ""
