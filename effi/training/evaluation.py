"""What a trained model is worth: loss, hits, the usual metrics, calibration, and its loss without over-confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effi.data import Dataset, Examples, TextDataset
from effi.errors import TrainingError
from effi.training import metrics
from effi.training.history import PLACES
from effi.training.objectives import Classification, Objective, fitting
from effi.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from effi.training.history import History

EVALUATION_BATCH = 250
MOST_LOGITS = 2**26  # a quarter of a gigabyte in float32
CLASSES = Classification()


@dataclass
class Tally:
    """Loss and hits summed over batches, so that no logits need to be kept."""

    loss: float = 0.0
    hits: int | None = 0
    counted: int = 0

    def add(self, outputs: Tensor, labels: Tensor, objective: Objective = CLASSES) -> None:
        """One batch, (B, ..., classes) and (B, ...)."""
        labels = fitting(labels, outputs, objective)
        hits = objective.hits(outputs, labels)
        self.loss += objective.losses(outputs, labels).sum().item()
        self.hits = None if hits is None or self.hits is None else self.hits + int(hits.sum())
        self.counted += int(objective.counted(labels).sum())

    def of_all(self, ranks: Ranks) -> Tally:
        """The tallies of all processes as one."""
        hits = math.nan if self.hits is None else self.hits
        sums = ranks.total(torch.tensor([self.loss, hits, self.counted], dtype=torch.float64))
        loss, hits, counted = sums.tolist()
        return Tally(loss, None if math.isnan(hits) else int(hits), int(counted))

    def means(self) -> dict[str, float]:
        """Mean loss, and where labels can be met accuracy in [0, 1], per counted label; TrainingError without any."""
        if not self.counted:
            raise TrainingError("no label of these examples counts: evaluate on more of them")
        accuracy = {} if self.hits is None else {"accuracy": self.hits / self.counted}
        return {"loss": self.loss / self.counted, **accuracy}


def rows_at_once(x_BT: Tensor, data: Dataset | TextDataset, replicas: int = 1) -> Iterator[slice]:
    """The rows of a batch of ids in spans of MOST_LOGITS logits, or one row at a time where a row has more."""
    rows = max(1, MOST_LOGITS // (replicas * x_BT.shape[-1] * getattr(data, "vocabulary", 1)))
    return (slice(start, start + rows) for start in range(0, len(x_BT), rows))


def pieces(
    model: nn.Module, x_BT: Tensor, data: Dataset | TextDataset
) -> Iterator[tuple[Callable[[], Tensor], slice, slice]]:
    """How to make the logits of a batch a piece at a time, in float32, with the rows and the tokens each is of.

    No more than MOST_LOGITS live at once when each is used up before the next is made. Where a row alone has more, a
    model with `hidden` and `head` makes it in pieces; of any other, a row is the smallest piece.
    """
    hidden, head = (getattr(model, name, None) for name in ("hidden", "head"))
    most = max(1, MOST_LOGITS // getattr(data, "vocabulary", 1))
    for rows in rows_at_once(x_BT, data):
        if hidden is None or head is None or x_BT.shape[-1] <= most:
            yield partial(_float, model, x_BT[rows]), rows, slice(None)
            continue
        hidden_BTN = hidden(x_BT[rows])
        for start in range(0, hidden_BTN.shape[1], most):
            tokens = slice(start, start + most)
            yield partial(_float, head, hidden_BTN[:, tokens]), rows, tokens


def _float(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x).float()


def batches(examples: Examples) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels, EVALUATION_BATCH at a time."""
    parts = (each.split(EVALUATION_BATCH) for each in (examples.inputs, examples.labels))
    return zip(*parts, strict=True)


@torch.no_grad()
def tally(
    model: nn.Module,
    examples: Examples,
    data: Dataset | TextDataset,
    objective: Objective,
    ranks: Ranks = ALONE,
) -> Tally:
    """Loss and hits of a model in the mode it is in; nothing larger than a batch's outputs is held.

    Processes take batches by turns, and each has the sums of all.
    """
    found = Tally()
    for inputs, labels in ranks.turns(batches(examples)):
        if not objective.per_token:
            found.add(model(data.prepare(inputs)).float(), labels, objective)
            continue
        for make, rows, tokens in pieces(model, data.prepare(inputs), data):
            found.add(make(), labels[rows][:, tokens], objective)
    return found.of_all(ranks)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode, and afterwards in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.no_grad()
def predict(model: nn.Module, examples: Examples, data: Dataset | TextDataset) -> Tensor:
    """Outputs (n, ...) in evaluation mode, float32, of inputs as `data` prepares them."""
    with evaluating(model):
        return torch.cat([model(data.prepare(chunk)).float() for chunk in examples.inputs.split(EVALUATION_BATCH)])


def score(
    outputs: Tensor, labels: Tensor, objective: Objective = CLASSES, more: Sequence[str] = ()
) -> dict[str, float]:
    """Mean loss, accuracy in [0, 1] where labels can be met, and `more` of the usual metrics by name."""
    found = Tally()
    found.add(outputs, labels, objective)
    return found.means() | metrics.compute(more, outputs, labels)


def evaluate(
    model: nn.Module,
    examples: Examples,
    data: Dataset | TextDataset,
    objective: Objective = CLASSES,
    more: Sequence[str] = (),
) -> dict[str, float]:
    """Mean loss and accuracy of a model on examples, and `more` of the usual metrics by name.

    Objectives of tokens or of whole batches are streamed, those of tokens give the perplexity, too; ParameterError for
    more metrics of theirs.
    """
    if not objective.per_token and not objective.whole:
        return score(predict(model, examples, data), examples.labels, objective, more)
    metrics.refuse(more)
    with evaluating(model):
        means = tally(model, examples, data, objective).means()
    return means | ({"perplexity": math.exp(min(means["loss"], 700.0))} if objective.per_token else {})


class Outcome(NamedTuple):
    """What a training is worth: metrics by name, and of each accuracy on the test split which examples are hits."""

    metrics: dict[str, float]
    marks: dict[str, Tensor]


def outcome(
    model: nn.Module,
    history: History,
    data: Dataset | TextDataset,
    objective: Objective = CLASSES,
    more: Sequence[str] = (),
) -> Outcome:
    """Losses and metrics of the last evaluation, and on the test split also with the weights of the best one.

    For classes `scaled_test_loss` is the last loss at the temperature that suits the validation split: what of the
    loss is not mere over-confidence; and there are marks, bool (n,), of "test_accuracy" and "best_test_accuracy". The
    model leaves with its last weights.
    """
    last_state = {name: value.clone() for name, value in model.state_dict().items()}
    last = _tested(model, data, objective, more)
    calibration = _calibration(model, last.logits, data, objective)
    model.load_state_dict(history.best_state)
    best = _tested(model, data, objective, more)
    model.load_state_dict(last_state)
    metrics = {
        **{name: curve[-1] for name, curve in history.curves.items() if name not in PLACES},
        **{f"test_{name}": value for name, value in last.scores.items()},
        **{f"best_test_{name}": value for name, value in best.scores.items()},
        "best_epoch": history.best_epoch,
        **calibration,
    }
    marks = {"test_accuracy": last.hits, "best_test_accuracy": best.hits}
    return Outcome(metrics, {name: hits for name, hits in marks.items() if hits is not None})


class _Tested(NamedTuple):
    """Scores on the test split, and for classes the logits that they are of and which of its examples are hits."""

    scores: dict[str, float]
    logits: Tensor | None = None
    hits: Tensor | None = None


def _tested(model: nn.Module, data: Dataset | TextDataset, objective: Objective, more: Sequence[str]) -> _Tested:
    if not _of_examples(objective):
        return _Tested(evaluate(model, data.test, data, objective, more))
    logits, labels = predict(model, data.test, data), data.test.labels
    return _Tested(score(logits, labels, objective, more), logits, objective.hits(logits, labels))


def _calibration(
    model: nn.Module, logits: Tensor | None, data: Dataset | TextDataset, objective: Objective
) -> dict[str, float]:
    """What calibration takes out of the loss of these logits on the test split; nothing where there are none."""
    if logits is None:
        return {}
    labels = data.test.labels
    heat = temperature(predict(model, data.validation, data), data.validation.labels)
    scaled = score(logits / heat, labels, objective)["loss"]
    return {"scaled_test_loss": scaled, "calibration_error": calibration_error(logits, labels)}


def _of_examples(objective: Objective) -> bool:
    """Whether every example has one class."""
    return isinstance(objective, Classification) and not objective.per_token


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The T > 0 that minimises the cross-entropy of logits / T (Guo et al. 2017), between 0.01 and 100."""
    from scipy.optimize import minimize_scalar  # half a second of import that no training needs

    logits = logits.double()
    fitted = minimize_scalar(
        lambda log_t: F.cross_entropy(logits / 10**log_t, labels).item(), bounds=(-2, 2), method="bounded"
    )
    return float(10**fitted.x)


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error in [0, 1]: mean |confidence - accuracy| over equal-width bins of confidence."""
    confidence, guess = logits.softmax(-1).max(-1)
    hit = (guess == labels).float()
    place = (confidence * bins).long().clamp_max(bins - 1)
    gaps = torch.zeros(bins, device=logits.device).index_add_(0, place, confidence - hit)
    return (gaps.abs().sum() / len(labels)).item()
