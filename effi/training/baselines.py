"""What a model must beat before it has learned anything: the majority class, and logistic regression."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from effi.data import Dataset, Examples, TextDataset
from effi.data.splits import shorten
from effi.data.stored import resident
from effi.errors import ParameterError, did_you_mean
from effi.training.evaluation import Outcome

if TYPE_CHECKING:
    from effi.records import Arm

KINDS = ("majority", "logistic")
# So that a fit takes seconds: pixels a side, training examples, iterations.
SIDE, EXAMPLES, ITERATIONS = 16, 5000, 100
# Inverse strengths of the penalty, of which the validation split chooses: of scaled pixels, of TF-IDF.
PIXELS, TOKENS = (1e-3, 1e-2, 1e-1), (1.0, 10.0, 100.0)


class Rows(NamedTuple):
    """Examples as scikit-learn reads them: inputs (n, features), and labels (n,)."""

    inputs: Any
    labels: torch.Tensor


def train(arm: Arm, data: Dataset | TextDataset) -> None:
    """Fit the baseline that the arm's variant names, on the seconds of its ledger, and record what it is worth.

    Raises ParameterError as `fit`.
    """
    if arm.dry_run:
        return
    with arm.ledger.phase("train"):
        found = [fit(arm.variant or arm.name, data, seed) for seed in arm.seeds]
    arm.record([each.metrics for each in found], marks=[each.marks for each in found])


def fit(kind: str, data: Dataset | TextDataset, seed: int = 0) -> Outcome:
    """What always saying the most frequent class is worth, or logistic regression, by scikit-learn.

    Logistic regression reads images pooled to SIDE pixels a side, of texts the TF-IDF of their tokens, of EXAMPLES
    training examples at most. Having no epochs, its last fit is its best. ParameterError for another kind and for data
    without classes.
    """
    if kind not in KINDS:
        raise ParameterError(f"unknown sanity baseline {kind!r}{did_you_mean(kind, KINDS)}")
    if not data.classes:
        raise ParameterError(f"{data.name} has no classes that a sanity baseline could say: leave it out")
    data = data.to("cpu")
    train = shorten(data.train, min(EXAMPLES, len(data.train)), seed, "train")
    parts = {
        name: replace(part, inputs=resident(part.inputs)) for name, part in (data.splits | {"train": train}).items()
    }
    rows = {name: Rows(_features(part, data), part.labels) for name, part in parts.items()}
    model = _majority(rows["train"]) if kind == "majority" else _logistic(rows, data)
    scores = {split: _score(model, rows[split], data) for split in ("validation", "test")}
    tested, hits = scores["test"]
    metrics = {f"{split}_{name}": value for split, (values, _) in scores.items() for name, value in values.items()}
    best = {f"best_test_{name}": value for name, value in tested.items()}
    return Outcome(metrics | best, dict.fromkeys(("test_accuracy", "best_test_accuracy"), hits))


def _majority(train: Rows) -> Any:
    return DummyClassifier(strategy="prior").fit(train.inputs, train.labels.numpy())


def _logistic(rows: Mapping[str, Rows], data: Dataset | TextDataset) -> Any:
    """The one of its penalty's strengths that does best on validation."""
    text = isinstance(data, TextDataset)
    inputs, labels = rows["train"].inputs, rows["train"].labels.numpy()
    models = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that iterations end before the last digit is settled
        for strength in TOKENS if text else PIXELS:
            scale = TfidfTransformer(sublinear_tf=True) if text else StandardScaler()
            models.append(make_pipeline(scale, LogisticRegression(C=strength, max_iter=ITERATIONS)).fit(inputs, labels))
    return max(models, key=lambda model: _score(model, rows["validation"], data)[0]["accuracy"])


def _features(examples: Examples, data: Dataset | TextDataset) -> Any:
    """Pixels (n, features) from 0 to 255, or counts of tokens (n, vocabulary), sparse, without the special ones."""
    if isinstance(data, TextDataset):
        return _counts(examples.inputs.numpy(), data)
    height, width = examples.inputs.shape[-2:]
    pooled = F.adaptive_avg_pool2d(examples.inputs.float(), (min(SIDE, height), min(SIDE, width)))
    return pooled.flatten(1).numpy()


def _counts(ids: np.ndarray, data: TextDataset) -> Any:
    special = data.tokenizer.special if data.tokenizer else (data.pad,)
    rows, columns = np.nonzero(~np.isin(ids, special))
    tokens = ids[rows, columns]
    return csr_array((np.ones(len(tokens)), (rows, tokens)), shape=(len(ids), data.vocabulary))


def _score(model: Any, rows: Rows, data: Dataset | TextDataset) -> tuple[dict[str, float], torch.Tensor]:
    """Cross-entropy and accuracy, and hits bool (n,); a class that was not trained on has the probability of none."""
    chances = torch.full((len(rows.labels), len(data.classes)), 1e-12, dtype=torch.float64)
    chances[:, model.classes_] = torch.from_numpy(model.predict_proba(rows.inputs)).double().clamp(1e-12)
    hits = chances.argmax(1) == rows.labels
    loss = F.nll_loss(chances.log(), rows.labels)
    return {"loss": loss.item(), "accuracy": hits.double().mean().item()}, hits
