"""Processes that train arms side by side: warm over the arms, one thread each, and each may die alone.

A pool of processes gives up all its workers when one is killed, and with them the arms they were training; here
every worker is a process of its own, which is started anew when it is gone. What it works on comes through its
standard input, so that a hard kill leaves no files behind.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Generic, TypeVar

import cloudpickle
import torch

from effi.errors import ParameterError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
GRACE_S = 10.0
NOTICE = b"notice"  # no pickle begins so
_TO_MAIN: list[IO[bytes]] = []
Item = TypeVar("Item")
Reducers = Mapping[type, Callable[[Any], Any]]


class Workers(Generic[Item]):
    """`jobs` processes that call `work(function, item)`; the function, with the data it holds, travels once to each.

    What they `tell` on the way is `heard` here, in a thread of its own.
    """

    def __init__(
        self,
        jobs: int,
        work: Callable[[Any, Item], Any],
        function: Callable[..., Any],
        heard: Callable[..., None] = lambda *_: None,
    ) -> None:
        self.waiting: list[Item] = []
        self.running: dict[Future[Any], tuple[Item, _Worker]] = {}
        self.side_by_side = jobs
        parcel = packed(work, function)
        self._idle = [_Worker(parcel, heard) for _ in range(jobs)]
        self._threads = ThreadPoolExecutor(jobs)

    def __enter__(self) -> Workers[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._threads.shutdown()

    def run(self, items: Sequence[Item]) -> Iterator[tuple[Item, Future[Any]]]:
        """Items and their results as they finish, started in the order given; a killed worker breaks one result."""
        self.waiting = list(items)
        while self.waiting or self.running:
            while self.waiting and self._idle:
                item, worker = self.waiting.pop(0), self._idle.pop()
                self.running[self._threads.submit(worker.call, item)] = item, worker
            finished, _ = wait(self.running, return_when=FIRST_COMPLETED)
            for future in finished:
                item, worker = self.running.pop(future)
                self._idle.append(worker)
                yield item, future

    def stop(self) -> None:
        """Start nothing more; what runs goes on to its end."""
        self.waiting.clear()

    def kill(self) -> list[Item]:
        """End all processes, which have a moment to write a checkpoint; the items that they had not finished."""
        unfinished = [item for item, _ in self.running.values()]
        workers = [*self._idle, *(worker for _, worker in self.running.values())]
        for worker in workers:
            worker.terminate()
        end = time.monotonic() + GRACE_S
        for worker in workers:
            worker.wait(max(0.0, end - time.monotonic()))
        return unfinished


class _Worker:
    """One process, started when it is first called and again when it was killed."""

    def __init__(self, parcel: bytes, heard: Callable[..., None]) -> None:
        self._parcel, self._heard = parcel, heard
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()

    def call(self, item: Any) -> Any:
        """What the work gives for an item, or raises; BrokenExecutor when the process is gone before it answers."""
        order = cloudpickle.dumps(item)
        try:
            process = self._running()
            _send(process.stdin, order)
            while (answer := _receive(process.stdout)).startswith(NOTICE):
                self._heard(*pickle.loads(answer.removeprefix(NOTICE)))
        except (OSError, EOFError, ValueError):
            self.wait(0)  # its pipes close before it is gone
            raise BrokenExecutor from None
        failed, result = pickle.loads(answer)
        if failed:
            raise result
        return result

    def terminate(self) -> None:
        """Ask the process to end, and start it no more."""
        self._ended.set()
        if self._process:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Let the process end; after that many seconds it is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(OSError):  # what a dead process did not take is told nobody
            if self._process.stdin:
                self._process.stdin.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._ended.is_set():
            raise BrokenExecutor
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-P", "-c", f"from effi.records.workers import serve; serve({os.getpid()})"]
            # The modules that its function names must be found there as here.
            places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
            environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": places}
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            if self._ended.is_set():  # since the first look
                self._process.kill()
            _send(self._process.stdin, self._parcel)
        return self._process


def serve(parent: int) -> None:
    """What a worker does: take the function, then items one by one, until nobody sends any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the main process, which decides
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    orders = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    _TO_MAIN.append(answers)
    os.dup2(2, 1)  # what the work prints is no answer
    try:
        parcel = _receive(orders)
        while True:
            _send(answers, _answer(parcel, _receive(orders)))
    except EOFError:
        return


def tell(*said: Any) -> None:
    """Let the main process hear something while the work goes on; nothing in a process that is no worker."""
    for answers in _TO_MAIN:
        _send(answers, NOTICE + cloudpickle.dumps(said))


def _end_with(parent: int) -> None:
    """Leave when the main process is gone, with the arm's lock; a training has a moment to write its checkpoint."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _answer(parcel: bytes, order: bytes) -> bytes:
    """(whether it failed, the result or the error), or the error's text when it would break on its way."""
    try:
        work, function = unpacked(parcel)
        return bytes(cloudpickle.dumps((False, work(function, pickle.loads(order)))))
    except Exception as error:
        return bytes(cloudpickle.dumps((True, portable(error))))


def portable(error: Exception) -> Exception:
    """The error, or its text where it would break on its way to another process."""
    with suppress(Exception):  # whatever its constructor raises
        pickle.loads(cloudpickle.dumps(error))
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


@lru_cache(maxsize=1)
def unpacked(parcel: bytes) -> tuple[Callable[[Any, Any], Any], Any]:
    """What `packed` sent: the work and the function, made once per process."""
    work, function = pickle.loads(parcel)
    return work, function


def _send(stream: IO[bytes] | None, content: bytes) -> None:
    assert stream is not None
    stream.write(struct.pack("<Q", len(content)))
    stream.write(content)
    stream.flush()


def _receive(stream: IO[bytes] | None) -> bytes:
    """One message; EOFError when its sender is gone."""
    assert stream is not None
    (length,) = struct.unpack("<Q", _exactly(stream, 8))
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return content


def packed(work: Callable[..., Any], function: Callable[..., Any], reducers: Reducers = MappingProxyType({})) -> bytes:
    """The work and its function, for another process; `reducers` say by class what travels otherwise.

    ParameterError for a function that holds what cannot travel.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, reducers).dump((work, function))
    except Exception as error:  # whatever an object inside raises when it is pickled
        raise ParameterError(
            f"{getattr(function, '__name__', function)} cannot travel to another process ({error}); make what it "
            "needs inside it, or set jobs=1"
        ) from error
    return buffer.getvalue()


class _Pickler(cloudpickle.Pickler):
    """Sends a notebook's function under @cache by value, as any other of its functions; else its name would go."""

    def __init__(self, buffer: IO[bytes], reducers: Reducers) -> None:
        super().__init__(buffer)
        self._reducers = reducers

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) in self._reducers:
            return self._reducers[type(obj)](obj)
        if isinstance(obj, _CACHED) and obj.__module__ == "__main__":
            return _cached_again, (obj.__wrapped__, obj.cache_parameters())
        return super().reducer_override(obj)


def _cached_again(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return lru_cache(**parameters)(function)


_CACHED = type(lru_cache(_cached_again))
