"""Sources to pages: sphinx, with warnings as errors; then what sphinx does not look at."""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.cmd.build import build_main

from docs import checks
from effi.errors import EffiError

SETTINGS = Path(__file__).parent


def build(source: Path, output: Path) -> None:
    """Build all pages of a folder of sources; EffiError after a warning, or where `checks` finds fault."""
    shutil.rmtree(output, ignore_errors=True)
    kept = source.with_name(f"{source.name}.read")
    shutil.rmtree(kept, ignore_errors=True)
    words = ["-q", "-W", "--keep-going", "-b", "html", "-c", SETTINGS, "-d", kept, source, output]
    if build_main([str(word) for word in words]):
        raise EffiError("The site was not built: mend what the lines above name.")
    faults = checks.faults(output)
    if faults:
        raise EffiError("\n".join(["The site is not whole:", *faults]))


def size(output: Path) -> str:
    """How many pages a built site has, and how large it is."""
    files = [path for path in output.rglob("*") if path.is_file()]
    pages = sum(path.suffix == ".html" for path in files)
    return f"{pages} pages, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
