"""What `effi advise` tries on whose data: of each paper the arms that are on offer, beside its baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from effi.errors import ParameterError, did_you_mean

Data = Literal["folder", "csv", "text"]
# What a prediction takes beside the baseline's, where it was not measured: the same sums, sums with zeros, or those of
# a smaller model.
Model = Literal["same", "masked", "smaller"]
INFERENCE: Mapping[Model, str] = {
    "same": "none: the same model",
    "masked": "none: zeros are multiplied, too",
    "smaller": "not measured: a smaller model",
}


@dataclass(frozen=True, eq=False)
class Method:
    """One way to save: the arms of a paper's notebook that are run, its baseline among them, and what is offered."""

    paper: str
    name: str
    baseline: str
    offered: tuple[str, ...]
    asks: str
    model: Model
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def arms(self) -> list[str]:
        """What the notebook is asked for."""
        return [self.baseline, *self.offered]


def _tickets(**parameters: object) -> Method:
    asks = "a search of an epoch; heads and neurons cut out"
    return Method("early_bird", "structured early-bird ticket", "dense", ("structured",), asks, "smaller", parameters)


def _soup(**parameters: object) -> Method:
    asks = "a pretrained model; weak nets trained beside it"
    given = {"sparsities": [0.5], **parameters}
    return Method("instant_soup", "Instant Soup, 50 % pruned", "dense", ("isp-0.5",), asks, "masked", given)


def _growth(kind: str, *arms: str, **parameters: object) -> Method:
    asks = "a small model first; its training is charged"
    return Method("ligo", "growth", "scratch", arms, asks, "same", {"kinds": [kind], **parameters})


MINIMAL = ("mlp-small", "nomlp-h1", "nomlp-symmetric-h1", "minimum")
METHODS: Mapping[Data, tuple[Method, ...]] = {
    "folder": (
        Method("minimal", "smaller or without MLP", "mlp-h1", MINIMAL, "another architecture", "smaller"),
        _tickets(models=["vit"]),
        _growth("vit", "copy", "fpi", "ligo-0", "ligo"),
        _soup(),
    ),
    "csv": (_tickets(models=["roberta"]), _soup()),
    "text": (
        Method(
            "mixed_sparsity",
            "Mixed Sparsity Training, or dense for shorter",
            "dense",
            ("dense-half", "mst"),
            "a schedule of masks",
            "same",
        ),
        _growth("gpt", "stack", "copy", "ligo-0", "ligo"),
    ),
}


def data_of(dataset: str) -> tuple[Data, str]:
    """Kind and path of `folder:PATH`, `csv:PATH` or `text:PATH`; ParameterError for anything else."""
    kind, colon, path = dataset.partition(":")
    for known in METHODS:
        if kind == known and colon and path:
            return known, path
    close = did_you_mean(kind, METHODS) if colon else ": put folder:, csv: or text: before its path."
    raise ParameterError(f"{dataset!r} names no data of yours{close}")
