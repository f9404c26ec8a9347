"""Downloads from a local server that cuts off, stalls, lies or refuses, directly and through proxies."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.campaign.bed import Bed
from tests.campaign.rows import Fault, expect
from tests.campaign.watched import Ended

NOTE = (
    "`effi data fetch` of a set whose source is a server on this machine. Each fault must end in one sentence, leave "
    "nothing half in place, and not stand in the way of the next try, which must succeed."
)
NAME, FILE = "tinyshakespeare", "tinyshakespeare/input.txt"
CONTENT = b"To be, or not to be: that is the question.\n" * 500
STALL_S = 60.0
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """An HTTP server on a free port; `answer` is what it does to a request, `asked` counts them."""

    def __init__(self) -> None:
        self.answer: Answer = good
        self.asked = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                with suppress(OSError):
                    outer.answer(self)

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        return Handler

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Server:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def send(handler: BaseHTTPRequestHandler, content: bytes, length: int) -> None:
    """A plain answer that promises `length` bytes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(content)
    handler.wfile.flush()


def good(handler: BaseHTTPRequestHandler) -> None:
    """The file."""
    send(handler, CONTENT, len(CONTENT))


def half(handler: BaseHTTPRequestHandler) -> None:
    """Half of the file, then the end."""
    send(handler, CONTENT[: len(CONTENT) // 2], len(CONTENT))


def stalled(handler: BaseHTTPRequestHandler) -> None:
    """Half of the file, then nothing for a long time."""
    half(handler)
    time.sleep(STALL_S)


def silent(handler: BaseHTTPRequestHandler) -> None:
    """No answer for a long time."""
    time.sleep(STALL_S)


def other(handler: BaseHTTPRequestHandler) -> None:
    """A page in the place of the file, as the portals of hotels send it."""
    send(handler, b"<html>Please log in</html>", 26)


def refusing(status: int) -> Answer:
    """An answer with that status."""
    return lambda handler: handler.send_error(status)


@contextmanager
def listing(bed: Bed, address: str) -> Iterator[None]:
    """The workbook's manifest with that server as the source of one set."""
    file = bed.root / "data" / "manifest.toml"
    held = file.read_text()
    head, mark, rest = held.partition(f"[{NAME}]")
    rest = re.sub(r'source = "[^"]*"', f'source = "{address}"', rest, count=1)
    rest = re.sub(r'"sha256:\w+"', f'"sha256:{hashlib.sha256(CONTENT).hexdigest()}"', rest, count=1)
    file.write_text(head + mark + rest)
    try:
        yield
    finally:
        file.write_text(held)


def fetch(bed: Bed, **proxies: str) -> Ended:
    """`effi data fetch` of the set."""
    return bed.effi("data", "fetch", NAME, seconds=300, more=proxies)


def faults(bed: Bed) -> Iterator[Fault]:
    """One row each; a proxy that serves must be used."""
    cases: dict[str, tuple[Answer, str]] = {
        "half a download": (half, "no connection, or it broke off"),
        "a server that stalls in the middle": (stalled, "no connection, or it broke off"),
        "a server that never answers": (silent, "no connection, or it broke off"),
        "a page in the place of the file": (other, "does not have the checksum"),
        "a file that is gone": (refusing(404), "404"),
        "a server in trouble": (refusing(503), "503"),
    }
    for done, (answer, says) in cases.items():
        yield Fault(done, lambda answer=answer, says=says: _refused(bed, answer, says))
    yield Fault("a proxy that is not there", lambda: _no_proxy(bed))
    yield Fault("a proxy that serves", lambda: _through_proxy(bed))


def _refused(bed: Bed, answer: Answer, says: str) -> str:
    with Server() as server, listing(bed, server.address):
        server.answer = answer
        said = _one_sentence(bed, fetch(bed), says)
        tries, server.answer = server.asked, good
        _arrives(bed)
    return f"{said} (asked {tries} time{'s' if tries > 1 else ''}; the next try succeeded)"


def _no_proxy(bed: Bed) -> str:
    with Server() as server, listing(bed, server.address):
        said = _one_sentence(bed, fetch(bed, http_proxy="http://127.0.0.1:9/"), "no connection")
        _arrives(bed)
    return said


def _through_proxy(bed: Bed) -> str:
    with Server() as proxy, listing(bed, "http://nowhere.invalid/"):
        _arrives(bed, http_proxy=proxy.address)
        expect(proxy.asked == 1, f"the proxy was asked {proxy.asked} times")
    return "the file arrived through the proxy of http_proxy, from a host that only the proxy knows"


def _one_sentence(bed: Bed, ended: Ended, says: str) -> str:
    said = " / ".join(ended.sentences)
    told = f"status {ended.status}, {ended.seconds:.0f} s: {said}".replace(str(bed.root), "...")
    expect(ended.status == 2 and len(ended.sentences) == 1 and "Traceback" not in said, told)
    expect(says in said, f"it does not say {says!r}; {told}")
    left = [file.name for file in (bed.root / "data" / "downloads").rglob("*") if file.suffix != ".lock"]
    expect(not left, f"it left {left}; {told}")
    return told


def _arrives(bed: Bed, **proxies: str) -> None:
    """The set is fetched whole; taken away again for the next fault."""
    ended = fetch(bed, **proxies)
    file = bed.root / "data" / "downloads" / FILE
    expect(ended.status == 0, f"the next try ended with {ended.status}: {ended.err}")
    expect(file.read_bytes() == CONTENT, "another content arrived")
    shutil.rmtree(file.parent)
