"""A workbook of its own for each test, and a server in place of the official sources."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from effi import paths
from tests.data import tiny_glue
from tests.data.packing import tar_of
from tests.data.tiny import House, Server, cifar_files, mnist_files, tiny_manifest
from tests.data.tiny_text import served


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            content = state.content.get(self.path.strip("/"))
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(state.spoil(self, content))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        state.url = f"http://127.0.0.1:{http_server.server_port}/"
        threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True).start()
        yield state
        http_server.shutdown()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> House:
    """Tiny mnist and cifar10 under their own names, served on request, and the real digits."""
    archive = tar_of({f"cifar-10-batches-py/{name}": content for name, content in cifar_files().items()})
    server.content = {**mnist_files(), **served(), **tiny_glue.served(), "cifar.tar.gz": archive}
    house = House(tmp_path / "data", tmp_path / "shelf")
    house.data.mkdir()
    house.shelf.mkdir()
    (house.data / "manifest.toml").write_text(tiny_manifest(server.url, archive), encoding="utf-8")
    monkeypatch.setattr(paths, "data_dir", lambda: house.data)
    monkeypatch.setenv("EFFI_DATA", str(house.shelf))
    return house
