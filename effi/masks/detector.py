"""When a mask has settled: the three rules by which early-bird tickets are drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from torch import Tensor

from effi.errors import ParameterError
from effi.masks.compare import sparsity
from effi.masks.fit import Mask
from effi.masks.packing import pack, packed_distance, unpack

Rule = Literal["consecutive", "queue", "code"]
LENGTH = 5  # of the queues of You et al. (ICLR 2020)


def _consecutive(steps: Sequence[float], lags: Sequence[float], threshold: float) -> bool:
    return bool(steps) and steps[-1] < threshold


def _queue(steps: Sequence[float], lags: Sequence[float], threshold: float) -> bool:
    return len(steps) >= LENGTH and max(steps[-LENGTH:]) < threshold


def _code(steps: Sequence[float], lags: Sequence[float], threshold: float) -> bool:
    return len(lags) >= LENGTH - 1 and max(lags[-LENGTH + 1 :]) <= threshold


# `steps` are the distances of consecutive masks so far, `lags` those of the newest mask to the ones before it.
RULES: Mapping[Rule, Callable[[Sequence[float], Sequence[float], float], bool]] = {
    "consecutive": _consecutive,
    "queue": _queue,
    "code": _code,
}


class TicketDetector:
    """Draws the first mask that a rule calls settled; the first mask given counts as snapshot 0.

    "consecutive" (Early Transformers, Sec. 3): distance to the mask before < threshold. "queue" (You et al. 2020,
    text): the last five such distances all < threshold, earliest at snapshot 5. "code" (You et al. 2020, main.py):
    no distance to the four masks before > threshold, earliest at snapshot 4.
    Raises ParameterError for an unknown rule, and for a sparsity or threshold outside (0, 1).
    """

    def __init__(self, sparsity: float, *, threshold: float, rule: Rule) -> None:
        if rule not in RULES:
            raise ParameterError(f"unknown rule {rule!r}: use one of {', '.join(RULES)}.")
        for name, value in (("sparsity", sparsity), ("threshold", threshold)):
            if not 0 < value < 1:
                raise ParameterError(f"{name}={value} of a ticket detector must lie between 0 and 1.")
        self.sparsity, self.threshold, self.rule = sparsity, threshold, rule
        self.distances: list[float] = []
        self.found_at: int | None = None
        self._ticket: tuple[Tensor, Mask] | None = None
        self._before: deque[Tensor] = deque(maxlen=LENGTH - 1)
        self._weights: int | None = None
        self._seen = 0

    @property
    def ticket(self) -> Mask | None:
        """The mask drawn, None as long as none is."""
        return None if self._ticket is None else unpack(*self._ticket)

    @property
    def newest(self) -> Tensor:
        """The last mask seen, as bits."""
        return self._before[-1]

    @property
    def closest(self) -> float | None:
        """The smallest distance of consecutive masks so far."""
        return min(self.distances, default=None)

    def update(self, mask: Mask) -> bool:
        """Look at the next mask; True when this one is the ticket, which happens once at most.

        Raises ParameterError when the mask has another sparsity than the detector or another size than the last.
        """
        count, bits = self._checked(mask), pack(mask)
        lags = [packed_distance(bits, older, count) for older in self._before]
        self.distances += lags[-1:]
        self._before.append(bits)
        fires = self.found_at is None and RULES[self.rule](self.distances, lags, self.threshold)
        if fires:
            self.found_at, self._ticket = self._seen, (bits, mask)
        self._seen += 1
        return fires

    def _checked(self, mask: Mask) -> int:
        """How many weights the mask is of."""
        count = sum(kept.numel() for kept in mask.values())
        if self._weights not in (None, count):
            raise ParameterError(
                f"a mask of {count} weights follows masks of {self._weights}: give masks of one model."
            )
        self._weights = count
        # Exact counts per tensor may each miss a weight.
        if abs(sparsity(mask) - self.sparsity) > (len(mask) + 1) / count:
            raise ParameterError(
                f"a mask of sparsity {sparsity(mask):.3f} was given to a detector of sparsity {self.sparsity}."
            )
        return count


def first_draw(distances: Tensor, rule: Rule, threshold: float) -> int | None:
    """Snapshot at which a rule draws, read off the (T, T) matrix of mask distances; None when it never does.

    The offline twin of TicketDetector: one heat map answers for every threshold.
    """
    rows = distances.tolist()
    steps: list[float] = []
    for t, row in enumerate(rows):
        steps += row[t - 1 : t] if t else []
        if RULES[rule](steps, row[max(0, t - LENGTH + 1) : t], threshold):
            return t
    return None
