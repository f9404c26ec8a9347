"""A JupyterLab of the test's own: a free port, a token, and nothing of the user's settings."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from effi import paths

STARTS_S, ENDS_S, LOOKS_S = 120, 30, 0.2
# Every cell stands in the page, those out of sight, too: each is found, and the page has its whole height. Nothing is
# saved but on demand: a slow machine would save what a test closes without saving.
TESTED = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}


@dataclass(frozen=True)
class Server:
    """A running JupyterLab: the folder that it serves, where it listens, and the word that it asks for."""

    root: Path
    port: int
    token: str

    def page(self, file: str) -> str:
        """Where a browser finds a file, with no tab but its own."""
        return f"http://127.0.0.1:{self.port}/lab/tree/{file}?reset&token={self.token}"

    def kernels(self) -> list[Mapping[str, str]]:
        """What the server says of each kernel that runs: its id and execution_state."""
        address = f"http://127.0.0.1:{self.port}/api/kernels"
        asked = urllib.request.Request(address, headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            found: list[Mapping[str, str]] = json.load(answer)
        return found


@contextmanager
def serving(root: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """A server of the folder `root`, which ends with its kernels; RuntimeError where it does not start."""
    server = Server(root, _free_port(), secrets.token_hex(16))
    log = root / "lab.log"
    with log.open("wb") as words:
        command = [sys.executable, "-m", "jupyterlab", *_options(server)]
        process = subprocess.Popen(command, cwd=root, env=_own(root, environment), stdout=words, stderr=words)
    try:
        if not _answers(server, process):
            raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _options(server: Server) -> list[str]:
    """No browser of its own, no other port than the one asked for; root is what a container has."""
    own = {"ServerApp.root_dir": server.root, "ServerApp.port": server.port, "ServerApp.port_retries": 0}
    own |= {"IdentityProvider.token": server.token}
    return ["--no-browser", "--allow-root", *(f"--{name}={value}" for name, value in own.items())]


def _own(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of `make setup`, and Jupyter's own files beside the workbook, not in the user's home."""
    given = json.loads((paths.data_dir() / "lab_overrides.json").read_text())
    for name in given | TESTED:
        file = root / "settings" / f"{name.replace(':', '/')}.jupyterlab-settings"
        paths.replace(file, json.dumps(given.get(name, {}) | TESTED.get(name, {})))
    return {**environment, "HOME": str(root / "home"), "JUPYTERLAB_SETTINGS_DIR": str(root / "settings")}


def _answers(server: Server, process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + STARTS_S
    while process.poll() is None and time.monotonic() < until:
        try:
            server.kernels()
        except OSError:
            time.sleep(LOOKS_S)
        else:
            return True
    return False
