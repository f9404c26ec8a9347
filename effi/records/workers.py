"""Processes that train arms side by side: warm over the arms, one thread each, and each may die alone.

joblib's own Parallel gives up all its workers when one is killed, and with them the arms they were training; here
every worker is an executor of one process (joblib's loky, so a function written in a notebook travels), which is
replaced when it breaks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from joblib.externals.loky import process_executor
from joblib.externals.loky.backend.reduction import dumps, loads

from effi.errors import ParameterError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
Item = TypeVar("Item")


class Workers(Generic[Item]):
    """`jobs` processes that call `work(function, item)`; the function, with the data it holds, travels once."""

    def __init__(self, jobs: int, work: Callable[[Any, Item], Any], function: Callable[..., Any]) -> None:
        self.work = work
        self.waiting: list[Item] = []
        self.running: dict[Future[Any], tuple[Item, process_executor.ProcessPoolExecutor]] = {}
        self._folder = TemporaryDirectory()
        self._parcel = Path(self._folder.name) / "function"
        self._parcel.write_bytes(_packed(function))
        self._idle = [_executor() for _ in range(jobs)]

    def __enter__(self) -> Workers[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def run(self, items: Sequence[Item]) -> Iterator[tuple[Item, Future[Any]]]:
        """Items and their results as they finish, started in the order given; a killed worker breaks one result."""
        self.waiting = list(items)
        while self.waiting or self.running:
            while self.waiting and self._idle:
                self._start(self.waiting.pop(0), self._idle.pop())
            finished, _ = wait(self.running, return_when=FIRST_COMPLETED)
            for future in finished:
                item, executor = self.running.pop(future)
                self._idle.append(_executor() if isinstance(future.exception(), BrokenExecutor) else executor)
                yield item, future

    def stop(self) -> None:
        """Start nothing more; what runs goes on to its end."""
        self.waiting.clear()

    def kill(self) -> list[Item]:
        """End all processes; the items that they had not finished."""
        unfinished = [item for item, _ in self.running.values()]
        for executor in [*self._idle, *(executor for _, executor in self.running.values())]:
            executor.shutdown(kill_workers=True)
        return unfinished

    def _start(self, item: Item, executor: process_executor.ProcessPoolExecutor) -> None:
        self.running[executor.submit(_call, self.work, self._parcel, item)] = item, executor


def _executor() -> process_executor.ProcessPoolExecutor:
    return process_executor.ProcessPoolExecutor(
        max_workers=1, env=ONE_THREAD, initializer=_prepare, initargs=(os.getpid(),)
    )


def _prepare(parent: int) -> None:
    torch.set_num_threads(1)
    process_executor._USE_PSUTIL = False  # else loky takes 300 MB more than at first for a leak and starts anew
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Leave when the main process is gone: loky's workers would stay, with their memory and their arm's lock."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _packed(function: Callable[..., Any]) -> bytes:
    try:
        return bytes(dumps(function, reducers={type(_unpacked): _reduce_cached}))
    except Exception as error:  # whatever an object inside raises when it is pickled
        raise ParameterError(
            f"{function.__name__} cannot travel to another process ({error}); make what it needs inside it, "
            "or set jobs=1"
        ) from error


def _reduce_cached(cached: Any) -> str | tuple[Any, ...]:
    """Send a notebook's function under @cache by value, as any other of its functions; the pickler sends its name."""
    if cached.__module__ != "__main__":
        return cached.__reduce__()
    return _cached_again, (cached.__wrapped__, cached.cache_parameters())


def _cached_again(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return lru_cache(**parameters)(function)


def _call(work: Callable[[Any, Item], Any], parcel: Path, item: Item) -> Any:
    try:
        return work(_unpacked(parcel), item)
    except Exception as error:
        raise _portable(error) from error


def _portable(error: Exception) -> Exception:
    """The error, or its text when it would break on its way to the main process."""
    try:
        loads(dumps(error))
    except Exception:  # whatever its constructor raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@lru_cache(maxsize=1)
def _unpacked(parcel: Path) -> Callable[..., Any]:
    return loads(parcel.read_bytes())
