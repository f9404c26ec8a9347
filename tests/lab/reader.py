"""What a reader does in JupyterLab, and what stands on the page then."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page

from tests.lab.server import Server

PATIENCE_MS = 900_000  # a busy machine is no fault of a page
BUSY = ".jp-InputPrompt:text-is('[*]:')"
STANDING = """panel => [...panel.querySelectorAll(".jp-OutputArea img")].filter(each => each.naturalWidth > 0).length"""
HEIGHT = """panel => panel.querySelector(".jp-WindowedPanel-outer").scrollHeight"""


class Reader:
    """A browser's page of a server."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server

    @property
    def notebook(self) -> Locator:
        """The notebook in front."""
        return self.page.locator(".jp-NotebookPanel:visible")

    def begin(self) -> None:
        """Open what `make lab` opens."""
        self.page.goto(self.server.page("START.md"))
        self.page.get_by_role("heading", name="Where to start").wait_for()

    def open(self, title: str) -> None:
        """Follow the link of START.md, which is in front, to a notebook."""
        self.page.get_by_role("tab", name="START.md").click()
        self.page.get_by_role("link", name=title, exact=True).click()
        self.ready()

    def ready(self) -> None:
        """Wait for a notebook and its kernel."""
        self.notebook.locator(".jp-Cell").first.wait_for()
        self.page.get_by_text(re.compile(r"\| (Idle|Busy|Unknown)$")).wait_for()  # a kernel at work does not answer

    def choose(self, menu: str, entry: str) -> None:
        """Choose an entry of the menu bar, behind which its keys may stand."""
        self.page.get_by_role("menubar").get_by_role("menuitem", name=menu, exact=True).click()
        self.page.get_by_role("menu").get_by_role("menuitem", name=re.compile(f"^{entry}")).click()

    def run_all(self) -> None:
        """Run all cells, without waiting for any."""
        self.choose("Run", "Run All Cells")
        self.notebook.locator(BUSY).first.wait_for()

    def wait(self) -> None:
        """Until no cell waits or runs, those under a heading that is not opened among them."""
        self.until(lambda: not self.notebook.locator(BUSY).count())

    def until(self, condition: Callable[[], object]) -> None:
        """Until a condition holds; TimeoutError where it does not in time. The page goes on meanwhile."""
        ends = time.monotonic() + PATIENCE_MS / 1000
        while not condition():
            if time.monotonic() > ends:
                raise TimeoutError("what was waited for did not come")
            self.page.wait_for_timeout(100)

    def bar(self) -> str:
        """The words beside the bar, once there is one."""
        shown = self.notebook.locator(".jp-OutputArea-output:has(progress)").last
        shown.wait_for()
        return shown.inner_text()

    def close(self) -> None:
        """Close the notebook's tab without saving; its kernel goes on."""
        self.page.locator(".lm-TabBar-tab.jp-mod-current .lm-TabBar-tabCloseIcon").click()
        self.page.get_by_role("button", name="Discard").click()
        self.notebook.wait_for(state="hidden")

    def dated(self) -> str:
        """Of which run the page says that its outputs are."""
        return self.notebook.get_by_text("Outputs on this page are of the run that").inner_text()

    def errors(self) -> list[str]:
        """Tracebacks, and what was said on standard error."""
        kind = "application/vnd.jupyter."
        shown = self.notebook.locator(f"[data-mime-type='{kind}error'], [data-mime-type='{kind}stderr']")
        return shown.all_inner_texts()

    def pictures(self) -> int:
        """Pictures that were drawn."""
        return int(self.notebook.evaluate(STANDING))

    def height(self) -> int:
        """Of the notebook from its first to its last cell, in pixels."""
        return int(self.notebook.evaluate(HEIGHT))


@contextmanager
def reading(browser: Browser, server: Server, width: int = 1280) -> Iterator[Reader]:
    """A fresh page of a browser, `width` pixels wide with its sidebars, closed afterwards."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    try:
        yield Reader(page, server)
    finally:
        page.close()


def drawn(notebook: Path) -> int:
    """Pictures among the stored outputs of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
