"""How a shard gets to disk: whole or not at all, with its checksum. Workers run this, so it imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def written(path: Path, chunks: Iterable[bytes]) -> dict[str, Any]:
    """Write a file that appears once it is whole; its name, bytes and sha256. OSError where the system refuses."""
    content, size = hashlib.sha256(), 0
    fresh = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with fresh.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                content.update(chunk)
                size += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return {"file": path.name, "bytes": size, "sha256": content.hexdigest()}
