"""What methods cost in epochs by arithmetic, for masks that agree (Table 1); the ledger counts what really was."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from effi.instant_soup.rounds import Rounds


@dataclass(frozen=True)
class Bill:
    """Epochs of an ISP training and of the lottery ticket beside it; `stage` is a part of the fine-tune."""

    rounds: int
    stage: float
    look_ahead: float
    fine_tune: int
    lottery: float

    @property
    def total(self) -> float:
        """Fine-tune and look-ahead."""
        return self.fine_tune + self.look_ahead

    @property
    def ratio(self) -> float:
        """How many times as much the lottery ticket takes."""
        return self.lottery / self.total


def bill(
    rounds: Rounds, *, epochs: int, examples: int, batch_size: int, nets: int, steps: int, points: float = 0.1
) -> Bill:
    """Epochs at a linear schedule whose segments are not rounded to steps; a lottery ticket prunes `points` a round."""
    count, per_epoch = len(rounds.ladder()), ceil(examples / batch_size)
    lottery = len(Rounds(rounds.target, points, relative=False).ladder())
    return Bill(
        rounds=count,
        stage=rounds.first * count * (count + 1) / 2,
        look_ahead=nets * steps * count / per_epoch,
        fine_tune=epochs,
        lottery=(lottery + 1) * epochs,
    )
