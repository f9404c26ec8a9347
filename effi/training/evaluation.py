"""What a trained classifier is worth: loss, accuracy, calibration, and its loss once over-confidence is taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effi.data import IGNORED, Dataset, Examples, TextDataset

if TYPE_CHECKING:
    from effi.training import History

Loss = Literal["cross_entropy", "mse"]
EVALUATION_BATCH = 250


def losses(logits: Tensor, labels: Tensor, kind: Loss) -> Tensor:
    """Loss of each label, (..., classes) and (...) -> (...): cross-entropy in nats (0 where a label is IGNORED), or the
    mean squared error of softmax probabilities against the one-hot label."""
    if kind == "cross_entropy":
        return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)
    return (logits.softmax(-1) - F.one_hot(labels, logits.shape[-1])).square().mean(-1)


def fitting(labels: Tensor, logits: Tensor) -> Tensor:
    """Labels of tokens cut where the data set cut the text; labels of whole examples as they are."""
    return labels[..., : logits.shape[-2]]


@dataclass
class Tally:
    """Loss and hits summed over batches, so that no logits need to be kept."""

    loss: float = 0.0
    hits: int = 0
    counted: int = 0

    def add(self, logits: Tensor, labels: Tensor, kind: Loss = "cross_entropy") -> None:
        """One batch, (B, ..., classes) and (B, ...)."""
        labels = fitting(labels, logits)
        self.loss += losses(logits, labels, kind).sum().item()
        self.hits += int((logits.argmax(-1) == labels).sum())
        self.counted += int((labels != IGNORED).sum())

    def means(self) -> dict[str, float]:
        """Mean loss and accuracy in [0, 1] per counted label."""
        return {"loss": self.loss / self.counted, "accuracy": self.hits / self.counted}


@torch.no_grad()
def predict(model: nn.Module, examples: Examples, data: Dataset | TextDataset) -> Tensor:
    """Logits (n, classes) in evaluation mode, float32, of inputs as `data` prepares them."""
    was_training = model.training
    model.eval()
    chunks = examples.inputs.split(EVALUATION_BATCH)
    logits = torch.cat([model(data.prepare(chunk)).float() for chunk in chunks])
    model.train(was_training)
    return logits


def score(logits: Tensor, labels: Tensor, kind: Loss = "cross_entropy") -> dict[str, float]:
    """Mean loss and accuracy in [0, 1]."""
    tally = Tally()
    tally.add(logits, labels, kind)
    return tally.means()


def evaluate(
    model: nn.Module, examples: Examples, data: Dataset | TextDataset, kind: Loss = "cross_entropy"
) -> dict[str, float]:
    """Mean loss and accuracy of a model on examples."""
    return score(predict(model, examples, data), examples.labels, kind)


def outcome(
    model: nn.Module, history: History, data: Dataset | TextDataset, kind: Loss = "cross_entropy"
) -> dict[str, float]:
    """Losses and accuracies of the last epoch, and on the test split also with the weights of the best epoch.

    `scaled_test_loss` is the last epoch's loss at the temperature that suits the validation split: what of the loss is
    not mere over-confidence. The model leaves with its last weights.
    """
    last_state = {name: value.clone() for name, value in model.state_dict().items()}
    logits = predict(model, data.test, data)
    heat = temperature(predict(model, data.validation, data), data.validation.labels)
    model.load_state_dict(history.best_state)
    best = evaluate(model, data.test, data, kind)
    model.load_state_dict(last_state)
    return {
        **{name: curve[-1] for name, curve in history.curves.items()},
        **{f"test_{name}": value for name, value in score(logits, data.test.labels, kind).items()},
        **{f"best_test_{name}": value for name, value in best.items()},
        "best_epoch": history.best_epoch,
        "scaled_test_loss": score(logits / heat, data.test.labels, kind)["loss"],
        "calibration_error": calibration_error(logits, data.test.labels),
    }


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
