"""Finding and downloading: what arrives is checked, what breaks leaves nothing, and each failure says so."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pooch
import pytest

from effi import data
from effi.data import files
from effi.errors import DataError
from tests.data.packing import sha256, tar_of
from tests.data.tiny import House, Server, mnist_files

MNIST = Path("MNIST/raw")


def left_in(house: House) -> set[str]:
    """What lies in data/downloads, lock files aside."""
    return {path.name for path in files.downloads().iterdir() if path.suffix != ".lock"}


def failure(name: str) -> str:
    """The one line that a reader sees when the set cannot be had."""
    with pytest.raises(DataError) as caught:
        data.load(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_search_order(house: House) -> None:
    entry = files.manifest()["mnist"]
    assert files.find(entry) is None
    for root in (house.data / "downloads", house.data, house.shelf):
        place = root / MNIST
        place.mkdir(parents=True)
        for name, content in mnist_files().items():
            (place / name).write_bytes(content)
        assert files.find(entry) == place


def test_an_incomplete_folder_is_passed_over(house: House, server: Server) -> None:
    (house.put_mnist() / "t10k-labels-idx1-ubyte.gz").unlink()
    assert data.fetch("mnist") == house.data / "downloads" / MNIST
    assert len(server.asked) == 4


def test_effi_data_must_be_a_folder(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFI_DATA", str(house.shelf / "typo"))
    for call in (lambda: data.load("mnist"), lambda: data.resolve("auto", ["mnist"])):
        with pytest.raises(DataError, match=r"EFFI_DATA names .*typo, which is no folder: correct it or unset it"):
            call()


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("cifar10", "cifar-10-batches-py")])
def test_a_download_is_kept_and_used_again(house: House, server: Server, name: str, folder: str) -> None:
    first = data.load(name)
    asked = len(server.asked)
    assert left_in(house) == {folder}
    assert data.load(name).checksum == first.checksum
    assert len(server.asked) == asked


def test_two_at_once_download_once(house: House, server: Server) -> None:
    entry = files.manifest()["mnist"]
    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(lambda _: files.download(entry), range(4)))
    assert set(places) == {house.data / "downloads" / MNIST}
    assert sorted(server.asked) == sorted(f"/{name}" for name in mnist_files())


def test_nothing_there_and_nobody_answering(house: House, server: Server) -> None:
    manifest = house.data / "manifest.toml"
    manifest.write_text(manifest.read_text().replace(server.url, "http://127.0.0.1:9/"))
    message = failure("mnist")
    assert "no connection" in message
    assert str(house.shelf) in message
    assert "set EFFI_DATA to a folder that holds MNIST/raw" in message


def test_a_source_that_moved(house: House, server: Server) -> None:
    del server.content["t10k-labels-idx1-ubyte.gz"]
    assert "404" in failure("mnist")
    assert left_in(house) == set()


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_wrong_checksum_is_refused(house: House, server: Server, name: str) -> None:
    server.spoil = lambda _, content: content[:-1] + bytes([content[-1] ^ 1])
    assert "does not have the checksum" in failure(name)
    assert left_in(house) == set()


def test_a_connection_that_breaks_off_and_the_next_try(house: House, server: Server) -> None:
    server.spoil = lambda _, content: content[: len(content) // 2]
    assert "broke off" in failure("mnist")
    assert left_in(house) == set()
    server.spoil = lambda _, content: content
    assert data.load("mnist").variant == "official"


def test_a_source_that_falls_silent(house: House, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "TIMEOUT_S", 0.1)
    wake = threading.Event()

    def stall(handler: BaseHTTPRequestHandler, content: bytes) -> bytes:
        handler.wfile.flush()
        wake.wait(5)
        return content

    server.spoil = stall
    assert "broke off" in failure("mnist")
    wake.set()


@pytest.mark.slow
def test_a_killed_download_is_cleared_and_its_lock_is_free(house: House, server: Server) -> None:
    wake = threading.Event()

    def stall(handler: BaseHTTPRequestHandler, content: bytes) -> bytes:
        handler.wfile.write(content[:10])
        handler.wfile.flush()
        wake.wait(20)
        return content[10:]

    server.spoil = stall
    code = (
        "from pathlib import Path; from effi import paths; from effi.data import files\n"
        f"paths.data_dir = lambda: Path({str(house.data)!r})\n"
        "files.download(files.manifest()['mnist'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    while not server.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left_in(house) == {"mnist.part"}
    wake.set()
    server.spoil = lambda _, content: content
    assert data.load("mnist").variant == "official"
    assert left_in(house) == {"MNIST"}
    assert {path.name for path in (files.downloads() / MNIST).iterdir()} == mnist_files().keys()


def test_a_full_disk(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pooch, "retrieve", full)
    said = failure("mnist")
    assert f"could not be written to {files.downloads()} (No space left on device): free space" in said
    assert "connection" not in said


def test_a_folder_that_cannot_be_made(house: House) -> None:
    (house.data / "downloads").write_text("in the way")
    said = failure("mnist")
    assert f"could not be written to {house.data / 'downloads'} (File exists)" in said and "connection" not in said


@pytest.mark.parametrize("member", ["../../escaped", "/tmp/effi-escaped"])
def test_an_archive_cannot_write_outside_its_folder(house: House, server: Server, member: str) -> None:
    evil = tar_of({"cifar-10-batches-py/data_batch_1": b"", member: b"x"})
    manifest = house.data / "manifest.toml"
    manifest.write_text(manifest.read_text().replace(sha256(server.content["cifar.tar.gz"]), sha256(evil)))
    server.content["cifar.tar.gz"] = evil
    failure("cifar10")
    assert not list(house.data.parent.rglob("*escaped*"))
    assert not Path("/tmp/effi-escaped").exists()


def test_a_bar_on_a_terminal_only(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    data.load("mnist")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_bar_on_a_terminal(house: House, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    data.load("mnist")
    assert "100%" in capfd.readouterr().err


def test_a_package_that_lost_its_file(house: House) -> None:
    manifest = house.data / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("digits.csv.gz", "digits.gone.gz"))
    assert failure("digits") == "digits should come with scikit-learn but is not there: install that again"
