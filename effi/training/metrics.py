"""The usual metrics by their usual names, computed by scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from effi.errors import ParameterError, did_you_mean

Metric = Callable[[np.ndarray, np.ndarray], float]


def _accuracy(guesses: np.ndarray, labels: np.ndarray) -> float:
    return float((guesses == labels).mean())


def _f1(guesses: np.ndarray, labels: np.ndarray, *, classes: int) -> float:
    """Of class 1 where there are two classes, as GLUE has it, else the mean over classes."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, guesses, average="binary" if classes == 2 else "macro", zero_division=0))


def _mcc(guesses: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, guesses))


def _pearson(values: np.ndarray, labels: np.ndarray) -> float:
    """0 where all predictions or all labels are equal, which no correlation describes."""
    from scipy.stats import pearsonr

    return float(pearsonr(values, labels).statistic) if np.ptp(values) and np.ptp(labels) else 0.0


def _spearman(values: np.ndarray, labels: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(values, labels).statistic) if np.ptp(values) and np.ptp(labels) else 0.0


def _of_classes(classes: int) -> dict[str, Metric]:
    return {"accuracy": _accuracy, "f1": partial(_f1, classes=classes), "mcc": _mcc}


OF_NUMBERS: dict[str, Metric] = {"pearson": _pearson, "spearman": _spearman}


def compute(names: Iterable[str], outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """Metrics by name: of the largest logit (n, classes) against classes, of numbers (n,) or (n, 1) against numbers.

    ParameterError for an unknown name, and for one that is not for such labels.
    """
    known = OF_NUMBERS if labels.is_floating_point() else _of_classes(outputs.shape[-1])
    found = outputs.view(labels.shape) if labels.is_floating_point() else outputs.argmax(-1)
    for name in names:
        if name not in known:
            raise ParameterError(f"no metric of these labels is called {name!r}{did_you_mean(name, list(known))}")
    return {name: known[name](found.cpu().numpy(), labels.cpu().numpy()) for name in names}


def refuse(names: Sequence[str]) -> None:
    """ParameterError when an evaluation that is streamed is asked for more than its loss, accuracy and perplexity."""
    if names:
        raise ParameterError(
            f"{', '.join(names)} cannot be computed of tokens or pairs; take loss, accuracy or perplexity"
        )
