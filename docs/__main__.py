"""`python -m docs [FOLDER]`: build the site; any warning, broken link or outside request fails it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from docs import building, pages
from effi import paths
from effi.errors import EffiError, duration


def main(folder: str = "build/site") -> None:
    """Lay the sources beside the folder, build, check, and say how long it took."""
    start, output = time.perf_counter(), paths.ROOT / Path(folder)
    source = output.with_name(f"{output.name}.source")
    pages.lay(source)
    building.build(source, output)
    print(f"{output / 'index.html'}: {building.size(output)}, built in {duration(time.perf_counter() - start)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except EffiError as error:
        sys.exit(f"{error}")
