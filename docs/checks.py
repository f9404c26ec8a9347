"""Faults of built pages: links that lead nowhere, anything loaded from elsewhere, pictures without words or size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself, and what a reader must ask for.
_LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
_STYLED = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)")


class Page(HTMLParser):
    """The names that a page can be entered by, its links, what it loads, and its pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.pictures = path, list[dict[str, str]]()
        self.names, self.links, self.loaded = set[str](), list[str](), list[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag brings."""
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in _LOADED and _LOADED[tag] in given:
            self.loaded.append(given[_LOADED[tag]])
        if tag == "img":
            self.pictures.append(given)


def faults(site: Path) -> list[str]:
    """A sentence for each fault of the pages and style sheets below a folder."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    found = [f"{path.relative_to(site)}: {fault}" for path in pages for fault in _faults(path, pages)]
    for path in sorted(site.rglob("*.css")):
        outside = _STYLED.findall(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: loads {address} from outside" for address in outside]
    return found


def _faults(path: Path, pages: dict[Path, Page]) -> Iterator[str]:
    page = pages[path]
    for address in [*page.links, *page.loaded]:
        if urlsplit(address).scheme in ("data", "mailto"):
            continue
        if urlsplit(address).netloc:
            if address in page.loaded:
                yield f"loads {address} from outside"
        elif not _leads(path, address, pages):
            yield f"{address!r} leads nowhere"
    for picture in page.pictures:
        for name in ("alt", "width", "height"):
            if not picture.get(name):
                yield f"the picture {picture.get('src')} has no {name}"


def _leads(path: Path, address: str, pages: dict[Path, Page]) -> bool:
    """Whether a relative address meets a file, and a name in it."""
    parts = urlsplit(address)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return False
    return not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].names
