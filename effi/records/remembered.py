"""Hashes that take seconds to compute and are the same in every process: kept in the user's cache, for the next."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from effi import paths

MOST = 500


def remembered(key: str, compute: Callable[[], str]) -> str:
    """The hash of a key, 16 hexadecimal digits: from the cache, else computed and put there; the last MOST stay.

    The key must hold all that the hash hangs on. A cache that cannot be read or written is none.
    """
    file = place()
    if file is None:
        return compute()
    known = _known(file)
    if key not in known:
        known[key] = compute()
        with suppress(OSError):
            paths.replace(file, json.dumps(dict([*known.items()][-MOST:])))
    return known[key]


def place() -> Path | None:
    """The file, where the system keeps a user's caches; None for a user without a home."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111, as it raises
    return caches / "effi" / "sources.json" if caches.is_absolute() else None


def _known(file: Path) -> dict[str, str]:
    with suppress(OSError, ValueError, TypeError):
        known = json.loads(file.read_bytes())
        if isinstance(known, dict) and all(re.fullmatch("[0-9a-f]{16}", text) for text in known.values()):
            return known
    return {}
