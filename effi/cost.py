"""What training costs: FLOPs, seconds, bytes, joules and money, the search for a ticket included.

FLOPs count 2 per multiply-add of matrix products and convolutions. Closed forms of the models are the record; torch's
counter is the cross-check and the fallback. The counter sees scaled dot-product attention on a CPU only with the
MATH backend (the default one counts 0 there), so it always runs with that.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from effi.errors import ParameterError, RecordError

PACE = "EFFI_PACE"


@dataclass
class Phase:
    """Account of one named part of a training run; None is what the machine cannot measure, never an estimate.

    `flops` are those executed here, `paper_flops` those that the paper counts for the same work. A phase set `aside`
    is in no total: watching that a method would not pay for.
    """

    flops: int = 0
    paper_flops: int = 0
    seconds: float = 0.0
    peak_bytes: int | None = None
    joules: float | None = None
    aside: bool = False

    def book(self, seconds: float, joules: float | None) -> None:
        """Add what was measured; joules stay unknown once a part of them is."""
        self.joules = joules if not self.seconds else _sum([self.joules, joules])
        self.seconds += seconds


class Ledger:
    """The running account of one arm.

    `side_by_side` is the number of trainings that shared the machine: above 1, seconds are those of a busy machine.
    A training loop that sees `dry_run` measures one step, which stands for all (`rehearsed`); `steps` is how many these
    are, `planned_steps` their number and that of others as dear. With a `pace`, FLOPs a second that who starts a dry
    run gives in EFFI_PACE, it makes no step and counts its FLOPs. `checkpoints` are those that its trainings go on
    from. `keep` is called with the models of a training that has ended and their data, where somebody wants them.
    """

    def __init__(self, device: str = "cpu", *, dry_run: bool = False, side_by_side: int = 1) -> None:
        self.device = torch.device(device)
        self.dry_run = dry_run
        self.pace = pace() if dry_run else None
        self.side_by_side = side_by_side
        self.steps = 0
        self.planned_steps: int | None = None
        self.phases: dict[str, Phase] = {}
        self._open: list[str] = []
        self._meter: _Meter | None = None
        self._measured = 0.0
        self.checkpoints: set[Path] = set()
        self.keep: Callable[[Sequence[nn.Module], Any], None] | None = None

    @contextmanager
    def phase(self, name: str, *, aside: bool = False) -> Iterator[Phase]:
        """Add seconds, peak bytes and joules of the block to a phase, also when the block fails.

        Phases reopen and nest; what passes inside an inner phase belongs to that one alone. RecordError for a phase
        inside itself.
        """
        if name in self._open:
            raise RecordError(f'phase "{name}" was opened inside itself; close it first')
        phase = self.phases.setdefault(name, Phase(aside=aside))
        self._book()
        self._open.append(name)
        self._meter = _Meter(self.device)
        try:
            yield phase
        finally:
            self._book()
            self._open.pop()
            self._meter = _Meter(self.device) if self._open else None

    @contextmanager
    def rehearsed(self, steps: int) -> Iterator[Phase]:
        """A block whose share of the phase "train" stands for that of so many steps."""
        before = replace(self.phases.get("train", Phase()))
        with self.phase("train") as train:
            yield train
        for name in ("flops", "paper_flops", "seconds", "joules"):
            was, now = getattr(before, name) or 0, getattr(train, name)
            setattr(train, name, None if now is None else was + steps * (now - was))
        self.steps += steps

    def _book(self) -> None:
        """What has passed belongs to the innermost phase."""
        if self._meter is not None:
            seconds, peak, joules = self._meter.read()
            phase = self.phases[self._open[-1]]
            phase.book(seconds, joules)
            phase.peak_bytes = most(phase.peak_bytes, peak)
            self._measured += 0.0 if phase.aside else seconds

    def add_flops(self, flops: int, paper_flops: int | None = None) -> None:
        """Count operations into the innermost open phase, or into "train"; the paper counts the same unless given."""
        phase = self.phases.setdefault(self._open[-1] if self._open else "train", Phase())
        phase.flops += flops
        phase.paper_flops += flops if paper_flops is None else paper_flops

    def charge(
        self, name: str, flops: int, seconds: float, joules: float | None = None, *, paper_flops: int | None = None
    ) -> None:
        """Add what was spent on this arm's behalf elsewhere, such as a search that several arms share.

        RecordError for a negative amount: what is not to be paid is set aside while it is measured.
        """
        if min(flops, seconds, joules or 0.0) < 0:
            raise RecordError(f'phase "{name}" was charged less than nothing; open it with aside=True instead')
        phase = self.phases.setdefault(name, Phase())
        phase.book(seconds, joules)
        phase.flops += flops
        phase.paper_flops += flops if paper_flops is None else paper_flops

    def spent(self) -> tuple[int, float]:
        """FLOPs and seconds so far, up to now also of phases that are open; those aside left out."""
        if self._meter is not None:
            self._book()
            self._meter = _Meter(self.device)
        paid = [phase for phase in self.phases.values() if not phase.aside]
        return sum(phase.flops for phase in paid), sum(phase.seconds for phase in paid)

    def total(self) -> dict[str, Any]:
        """Sum over phases (peak: the highest), the phases, those aside, side_by_side; RecordError while one is open."""
        if self._open:
            raise RecordError(f'phase "{self._open[-1]}" is still open; record after its block')
        parts = [phase for phase in self.phases.values() if not phase.aside]
        return {
            "flops": sum(part.flops for part in parts),
            "paper_flops": sum(part.paper_flops for part in parts),
            "seconds": sum(part.seconds for part in parts),
            "peak_bytes": most(*(part.peak_bytes for part in parts)),
            "joules": _sum([part.joules for part in parts]),
            "phases": self._accounts(aside=False),
            "aside": self._accounts(aside=True),
            "side_by_side": self.side_by_side,
        }

    def _accounts(self, *, aside: bool) -> dict[str, dict[str, Any]]:
        accounts = {name: asdict(phase) for name, phase in self.phases.items() if phase.aside == aside}
        return {name: {key: value for key, value in each.items() if key != "aside"} for name, each in accounts.items()}

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint must keep, up to now, as plain JSON."""
        self.spent()
        return {name: asdict(phase) for name, phase in self.phases.items()}

    def restore(self, state: Mapping[str, Mapping[str, Any]], lost_seconds: float = 0.0) -> None:
        """Go on from a checkpoint's accounts: they replace this run's, whose charges are among them.

        `lost_seconds` are those of steps since the checkpoint; with what was measured here until now they are "lost".
        """
        self.spent()
        opened = {name: Phase(aside=self.phases[name].aside) for name in self._open}
        self.phases = opened | {name: Phase(**account) for name, account in state.items()}
        if lost_seconds + self._measured:
            self.phases.setdefault("lost", Phase()).book(lost_seconds + self._measured, None)
        self._measured = 0.0

    def forecast(self, trainings: int = 1) -> dict[str, Any]:
        """Cost of a whole training from its measured steps; hours are those of all trainings in a row.

        The phase "train" is scaled from `steps` to `planned_steps`, others count as they are. Steps and
        seconds_per_step are None when no steps were counted. With a `pace` all seconds are FLOPs by it.
        """
        total, train = self.total(), self.phases.get("train", Phase())
        planned = self.planned_steps or self.steps
        more = planned / self.steps - 1 if self.steps else 0.0
        flops, seconds = total["flops"] + round(train.flops * more), total["seconds"] + train.seconds * more
        of_steps = train.seconds if self.pace is None else train.flops / self.pace
        return {
            "steps": planned or None,
            "flops": flops,
            "peak_bytes": total["peak_bytes"] if self.pace is None else None,
            "seconds_per_step": of_steps / self.steps if self.steps else None,
            "hours": (seconds if self.pace is None else flops / self.pace) * trainings / 3600,
        }


def pace() -> float | None:
    """FLOPs a second that EFFI_PACE gives, None without it; ParameterError for what is no number above 0."""
    given = os.environ.get(PACE)
    if not given:
        return None
    with suppress(ValueError):
        if 0 < float(given) < math.inf:
            return float(given)
    raise ParameterError(f"{PACE}={given!r} is no number of FLOPs a second; write {PACE}=2e14")


def share(cost: Mapping[str, Any], parts: int) -> dict[str, Any]:
    """One part's cost of seeds that were trained together, from a ledger's total."""
    split = {key: _divide(cost[key], parts) for key in ("flops", "paper_flops", "seconds", "peak_bytes", "joules")}
    accounts = {
        kind: {name: {key: _divide(value, parts) for key, value in each.items()} for name, each in cost[kind].items()}
        for kind in ("phases", "aside")
    }
    return {**split, **accounts, "side_by_side": cost["side_by_side"]}


def money(seconds: float, price_per_gpu_hour: float) -> float:
    """Price of rented time, in the currency of the price."""
    return seconds / 3600 * price_per_gpu_hour


def measure(
    steps: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    budget_s: float,
    clock: Callable[[Callable[[], object]], float] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each competitor, one list entry per round, all competitors in every round after one warm-up each.

    Rounds end after `repeats` or when `budget_s` is spent, but one is always made. Ratios of entries of one round are
    fair on a machine whose speed drifts. `clock` gives the seconds of one call; by default those of the wall.
    """
    clock = clock or _timed
    for step in steps.values():
        clock(step)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    start = time.perf_counter()
    for _ in range(repeats):
        for name, step in steps.items():
            seconds[name].append(clock(step))
        if time.perf_counter() - start >= budget_s:
            break
    return seconds


# --- FLOPs ---------------------------------------------------------------------------------------------------


def forward_flops(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Path in the model -> FLOPs of one forward of `example`; values sum to the whole.

    The model's own closed form `forward_flops` of a batch size, and of a length where the example is token ids, when
    it has one, else torch's counter.
    """
    closed: Callable[..., dict[str, int]] | None = getattr(model, "forward_flops", None)
    if closed is not None:
        return dict(closed(*_sizes(example)))
    twin = copy.deepcopy(model)
    return _by_path(_counted(lambda: twin(example)))


def train_flops(model: nn.Module, example: Tensor) -> int:
    """FLOPs of forward and backward of `example`; no gradient of the input is counted, as none is computed.

    The model's own closed form `train_flops`, as in `forward_flops`, when it has one, else torch's counter. The
    optimiser's elementwise work is not counted.
    """
    closed: Callable[..., int] | None = getattr(model, "train_flops", None)
    if closed is not None:
        return int(closed(*_sizes(example)))
    twin = copy.deepcopy(model)
    return count_flops(lambda: twin(example).sum().backward())


def _sizes(example: Tensor) -> tuple[int, ...]:
    """(batch, length) of token ids, (batch,) of images."""
    return tuple(example.shape[: 1 if example.is_floating_point() else 2])


def count_flops(function: Callable[[], object]) -> int:
    """FLOPs that torch's counter sees in a call; attention counts on every device, the random state is kept."""
    return _counted(function).get_total_flops()


def _counted(function: Callable[[], object]) -> FlopCounterMode:
    counter = FlopCounterMode(display=False)
    with torch.random.fork_rng(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        function()
    return counter


def _by_path(counter: FlopCounterMode) -> dict[str, int]:
    """The counter's totals per module, less those of the modules inside; the model itself has the empty path."""
    totals = {path: sum(counts.values()) for path, counts in counter.get_flop_counts().items() if path != "Global"}
    own = dict(totals)
    for path, total in totals.items():
        parent = path.rpartition(".")[0]
        if parent in own:
            own[parent] -= total
    return {path.partition(".")[2]: flops for path, flops in own.items() if flops}


# --- seconds, bytes, joules ----------------------------------------------------------------------------------


class _Meter:
    """Seconds, peak bytes and joules since its start."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.watched = _reset_peak(device)
        self.joules = _joules(device)
        _synchronise(device)
        self.start = time.perf_counter()

    def read(self) -> tuple[float, int | None, float | None]:
        _synchronise(self.device)
        seconds = time.perf_counter() - self.start
        joules = _joules(self.device)
        spent = None if joules is None or self.joules is None else joules - self.joules
        return seconds, _peak(self.device) if self.watched else None, spent


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reset_peak(device: torch.device) -> bool:
    """Whether the peak counts from now: CUDA's allocator, or the kernel's mark of this process on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def _peak(device: torch.device) -> int | None:
    """Bytes: allocated by CUDA tensors, or resident in the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _joules(device: torch.device) -> float | None:
    """The GPU's energy counter, found by UUID because torch and NVML may number GPUs differently."""
    if device.type != "cuda":
        return None
    try:
        import pynvml  # absent on macOS
    except ImportError:
        return None
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    return None


def _timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def most(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _sum(values: list[float | None]) -> float | None:
    """Sum; None when a part is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None


def _divide(value: float | None, parts: int) -> float | None:
    if value is None:
        return None
    return round(value / parts) if isinstance(value, int) else value / parts
