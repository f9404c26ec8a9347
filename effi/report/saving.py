"""Files of a report written whole, and a disk that refuses one told with its path and the mend."""

from __future__ import annotations

from pathlib import Path

from effi import paths
from effi.errors import RecordError


def save(path: Path, content: str | bytes) -> None:
    """Put a file in the place of its older version; RecordError when the disk refuses, and the older one stays."""
    try:
        paths.replace(path, content)
    except OSError as error:
        raise RecordError(
            f"{path} could not be written ({error.strerror}); free space or make it writable, then run again: finished "
            "arms are kept"
        ) from error
