"""A large model, the small one that it may grow from, what they are trained on, and where the cost is booked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from effi.cost import Ledger, train_flops
from effi.data import Dataset, Examples, TextDataset
from effi.errors import ParameterError
from effi.ligo.flops import Sizes, sizes
from effi.training import History, Listener, Objective, Training, evaluate, fit

if TYPE_CHECKING:
    from effi.ligo.moments import Moments
    from effi.ligo.transfer import Transfer

Data = Dataset | TextDataset
GROWTH, SOURCE, EVALUATE = "growth", "source", "evaluate"


class Spent(NamedTuple):
    """What was paid so far: FLOPs executed, and as the paper counts."""

    flops: int
    paper_flops: int


@dataclass(frozen=True)
class Task:
    """A new model of its `seed` and its data; `of_depth` makes one like it with so many layers, and new weights.

    `small` is the trained model that it may grow from, `moments` are its optimiser's, and `source` holds its cost and
    losses. `transfer` are other tasks that the model is tried on.
    """

    model: nn.Module
    data: Data
    training: Training
    objective: Objective
    seed: int
    ledger: Ledger
    of_depth: Callable[[int], nn.Module]
    small: nn.Module | None = None
    source: Mapping[str, float] = field(default_factory=dict)
    moments: Moments = field(default_factory=dict)
    checkpoint: Path | None = None
    transfer: Transfer | None = None

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return self.training.all_steps(len(self.data.train))

    def need_small(self) -> nn.Module:
        """The trained small model; ParameterError without one."""
        if self.small is None:
            raise ParameterError("this arm grows from a small model, of which its settings say nothing: give a source")
        return self.small

    def sizes(self, model: nn.Module) -> Sizes:
        """Sizes of a model that reads this data, for the paper's counter."""
        return sizes(model, self.data.train.inputs.shape[-1] if isinstance(self.data, TextDataset) else None)

    def kind(self, model: nn.Module) -> str:
        """What steps of a model are called: its layers and width."""
        found = self.sizes(model)
        return f"{found.layers}x{found.width}"

    def paper_step(self, model: nn.Module) -> int:
        """FLOPs of one step of a model, as the paper counts."""
        return self.sizes(model).step(self.training.batch_size)

    def spent(self) -> Spent:
        """FLOPs so far, evaluations and the source left out."""
        paid = [phase for phase in self.ledger.phases.values() if not phase.aside]
        return Spent(sum(each.flops for each in paid), sum(each.paper_flops for each in paid))

    def fit(
        self,
        model: nn.Module,
        training: Training | None = None,
        *,
        kind: str,
        paper_step: int,
        name: str = "",
        objective: Objective | None = None,
        ledger: Ledger | None = None,
        before_step: Sequence[Listener] = (),
        after_step: Sequence[Listener] = (),
    ) -> History:
        """Train a model in steps of a `kind`, of which one takes `paper_step` FLOPs to the paper, others in proportion.

        A training beside the arm's own has a `name`. More curves: `spent_flops` and `spent_paper_flops` paid so far,
        evaluations left out, and `steps/KIND`.
        """
        before, share = self.spent(), paper_step / self.executed(model)
        (history,) = fit(
            model,
            self.data,
            training or self.training,
            objective=objective or self.objective,
            seeds=[self.seed],
            ledger=ledger or self.ledger,
            before_step=before_step,
            after_step=after_step,
            paper_flops=lambda _, executed: round(share * executed),
            checkpoint=beside(self.checkpoint, name),
        )
        curves = history.curves
        spent = curves.get("flops", [])
        paper: list[float] = [before.paper_flops + round(share * (flops - before.flops)) for flops in spent]
        history.curves |= {"spent_flops": spent, "spent_paper_flops": paper, f"steps/{kind}": curves.get("step", [])}
        return history

    def executed(self, model: nn.Module) -> int:
        """FLOPs of one step of a model."""
        batch = self.data.train.inputs[: self.training.batch_size]
        return train_flops(model, self.data.prepare(batch)) * self.training.batch_size // len(batch)

    def stand(self, model: nn.Module) -> dict[str, float]:
        """What a model is worth before a step: losses and accuracies, of training as many examples as validate."""
        train, held = self.data.train, self.data.validation
        first = Examples(train.inputs[: len(held)], train.labels[: len(held)])
        with self.ledger.phase(EVALUATE, aside=True):
            return {
                f"{split}_{name}": value
                for split, part in (("train", first), ("validation", held))
                for name, value in evaluate(model, part, self.data, self.objective).items()
                if name != "perplexity"
            }

    def transferred(self, moment: str) -> dict[str, float]:
        """Points of the model as it is now on other tasks, as "MOMENT/TASK"; nothing where none are asked for.

        Nothing in a dry run, which would not forecast it.
        """
        if self.transfer is None or self.ledger.dry_run:
            return {}
        points = self.transfer.points(self.model, self.data, self.seed, self.ledger)
        return {f"{moment}/{name}": value for name, value in points.items()}


def beside(checkpoint: Path | None, name: str) -> Path | None:
    """The files of another training of the same arm."""
    return checkpoint if checkpoint is None or not name else checkpoint.with_name(f"{checkpoint.name}.{name}")


def unwatched(ledger: Ledger) -> Ledger:
    """The same ledger with evaluations set aside: they are read often here, and a method would not pay for them."""
    with ledger.phase(EVALUATE, aside=True):
        return ledger


@contextmanager
def growing(ledger: Ledger) -> Iterator[Ledger]:
    """A ledger for a training that comes before the arm's own; charged as growth.

    In a dry run it is the arm's ledger itself, whose forecast then counts the steps of both.
    """
    if ledger.dry_run:
        yield ledger
        return
    own = unwatched(Ledger(str(ledger.device), side_by_side=ledger.side_by_side))
    own.checkpoints = ledger.checkpoints
    yield own
    spent = own.total()
    ledger.charge(GROWTH, spent["flops"], spent["seconds"], spent["joules"], paper_flops=spent["paper_flops"])
