"""What is minimised: how outputs and labels make a loss, and what counts as a hit.

Shapes: ... any leading dimensions (replicas, batch), C classes, B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from effi.data import IGNORED
from effi.errors import ParameterError

Loss = Literal["cross_entropy", "mse"]


class Objective(Protocol):
    """Losses and hits of each label; the loop takes the mean loss over the labels that count.

    `whole` tells that a batch cannot be taken in parts, `per_token` that every token has a label.
    """

    whole: ClassVar[bool]
    per_token: ClassVar[bool]

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each label, of the labels' shape; 0 where one does not count."""

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Which labels were met, bool of their shape; None where there is nothing to meet."""

    def counted(self, labels: Tensor) -> Tensor:
        """Which labels count, bool of their shape."""


class _Labelled:
    whole: ClassVar[bool] = False
    per_token: ClassVar[bool] = False

    def counted(self, labels: Tensor) -> Tensor:
        """All but the labels IGNORED."""
        return labels != IGNORED


@dataclass(frozen=True)
class Classification(_Labelled):
    """Logits (..., C) against classes: cross-entropy in nats, or the squared error of softmax probabilities."""

    loss: Loss = "cross_entropy"

    def __post_init__(self) -> None:
        if self.loss not in ("cross_entropy", "mse"):
            raise ParameterError(f"unknown loss {self.loss!r} of a classification; use cross_entropy or mse")

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, or mean squared error of the probabilities against the one-hot label."""
        if self.loss == "cross_entropy":
            flat = F.cross_entropy(outputs.flatten(0, -2), labels.flatten(), reduction="none")
            return flat.view(labels.shape)
        return (outputs.softmax(-1) - F.one_hot(labels, outputs.shape[-1])).square().mean(-1)

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Whether the largest logit is the label's."""
        return outputs.argmax(-1) == labels


@dataclass(frozen=True)
class LanguageModelling(Classification):
    """Logits (..., T, V) against tokens: the next ones (causal) or the hidden ones (masked), as the data has them."""

    per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.loss != "cross_entropy":
            raise ParameterError(f"unknown loss {self.loss!r} of a language model; use cross_entropy")


@dataclass(frozen=True)
class Regression(_Labelled):
    """Outputs (..., 1) or (...) against numbers: the squared error."""

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Squared differences."""
        return (outputs.view(labels.shape) - labels).square()

    def hits(self, outputs: Tensor, labels: Tensor) -> None:
        """Numbers are not met."""

    def counted(self, labels: Tensor) -> Tensor:
        """All labels."""
        return torch.ones_like(labels, dtype=torch.bool)


@dataclass(frozen=True)
class Contrastive(_Labelled):
    """Similarities (..., B, B) of images and their texts: cross-entropy both ways, the pair being right (CLIP, Fig. 3).

    Labels say only which pairs there are. Every pair is told from all others of its batch, which is taken whole.
    """

    whole: ClassVar[bool] = True

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean of the two cross-entropies of each pair."""
        texts, images = outputs.log_softmax(-1), outputs.log_softmax(-2)
        return -(texts + images).diagonal(dim1=-2, dim2=-1) / 2

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Whether an image is most similar to its own text."""
        return outputs.argmax(-1) == torch.arange(outputs.shape[-1], device=outputs.device)


def fitting(labels: Tensor, outputs: Tensor, objective: Objective) -> Tensor:
    """Labels of tokens cut where the data set cut the text; labels of whole examples as they are."""
    return labels[..., : outputs.shape[-2]] if objective.per_token else labels
