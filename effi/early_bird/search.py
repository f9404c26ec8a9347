"""The search for a ticket: it reads the masks of a model in training and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from effi import masks
from effi.early_bird.detector import RULES, Rule, TicketDetector, first_draw
from effi.masks import Mask, Scope


@dataclass
class Search:
    """Watches a model: one mask per snapshot and ratio, kept as bits; used as a hook of `effi.training.fit`.

    `every` is the number of optimiser steps between snapshots; snapshot 0 is taken at once. `weights` are those of the
    model that count, by name. Where `rule` draws, the model's whole state is kept, from which a ticket can inherit.
    `seconds` is what looking took.
    """

    model: nn.Module
    weights: Mapping[str, Tensor]
    ratios: Sequence[float]
    every: int
    threshold: float
    rule: Rule = "consecutive"
    scope: Scope = "global"
    rows: dict[float, list[Tensor]] = field(default_factory=dict)
    states: dict[float, dict[str, Tensor]] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.rows = {ratio: [] for ratio in self.ratios}
        self.detectors = {r: TicketDetector(r, threshold=self.threshold, rule=self.rule) for r in self.ratios}
        self.look()

    def __call__(self, step: int, steps: int) -> None:
        if step % self.every == 0:
            self.look()

    def look(self) -> None:
        """Take a snapshot."""
        start = time.perf_counter()
        for ratio, detector in self.detectors.items():
            drawn = detector.update(masks.magnitude(self.weights, ratio, scope=self.scope))
            self.rows[ratio].append(detector.newest.cpu())
            if drawn:
                state = self.model.state_dict().items()
                self.states[ratio] = {name: value.detach().cpu().clone() for name, value in state}
        self.seconds += time.perf_counter() - start

    def tensors(self) -> dict[str, Tensor]:
        """Everything found, as flat named tensors for a file: bits (T, bytes) per ratio, and the states kept."""
        found = {f"bits/{ratio:g}": torch.stack(rows) for ratio, rows in self.rows.items()}
        states = {
            f"state/{ratio:g}/{name}": value for ratio, state in self.states.items() for name, value in state.items()
        }
        return found | states


@dataclass(frozen=True)
class Found:
    """What a search left behind, read from its tensors; `like` are the weights that the masks are for."""

    tensors: Mapping[str, Tensor]
    like: Mapping[str, Tensor]

    def mask(self, ratio: float, snapshot: int) -> Mask:
        """The mask of one snapshot; -1 is the last."""
        return masks.unpack(self.tensors[f"bits/{ratio:g}"][snapshot], self.like)

    def state(self, ratio: float) -> dict[str, Tensor]:
        """The model's state when the masks of this ratio were first close enough; empty when they never were."""
        prefix = f"state/{ratio:g}/"
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}

    def distances(self, ratio: float) -> Tensor:
        """(T, T) distances of all snapshots, in [0, 1]."""
        count = sum(weight.numel() for weight in self.like.values())
        return masks.distance_matrix(self.tensors[f"bits/{ratio:g}"], count)


def interval(steps_per_epoch: int, wanted: int) -> int:
    """Optimiser steps between snapshots: at most `wanted` snapshots an epoch, one of them at its end."""
    return next(n for n in range(1, steps_per_epoch + 1) if steps_per_epoch % n == 0 and steps_per_epoch // n <= wanted)


def summary(distances: Tensor, ratio: float, threshold: float, snapshots_per_epoch: int) -> dict[str, float]:
    """Where each rule draws, as snapshot (-1: never) and as share of the training (2: never), and how close it came.

    `epoch_distance` is the mean distance of masks one epoch apart, whatever the interval between snapshots.
    """
    last = len(distances) - 1
    drawn = {rule: first_draw(distances, rule, threshold) for rule in RULES}
    steps, epochs = distances.diagonal(1), distances[::snapshots_per_epoch, ::snapshots_per_epoch].diagonal(1)
    return {
        **{f"found_{rule}_{ratio:g}": -1 if t is None else t for rule, t in drawn.items()},
        **{f"share_{rule}_{ratio:g}": 2.0 if t is None else t / last for rule, t in drawn.items()},
        f"closest_{ratio:g}": steps.min().item(),
        f"epoch_distance_{ratio:g}": epochs.mean().item(),
    }


def reading(
    found: Found, ratios: Sequence[float], threshold: float, snapshots_per_epoch: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """What a search saw, as metrics and histories of a record.

    Histories: `distance_P` of consecutive masks, `final_distance_P` to the last one, `heat_P` of all pairs row by row,
    `layer_sparsity_P` of each matrix in the mask that R1 draws (in the last one when it never does).
    """
    metrics: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    for ratio in ratios:
        distances = found.distances(ratio)
        metrics |= summary(distances, ratio, threshold, snapshots_per_epoch)
        layers = masks.layer_sparsity(found.mask(ratio, int(metrics[f"found_consecutive_{ratio:g}"])))
        curves |= {
            f"distance_{ratio:g}": distances.diagonal(1).tolist(),
            f"final_distance_{ratio:g}": distances[-1].tolist(),
            # Four decimals are a ten-thousandth of all weights, and keep 200 snapshots readable as text.
            f"heat_{ratio:g}": [round(value, 4) for value in distances.flatten().tolist()],
            f"layer_sparsity_{ratio:g}": list(layers.values()),
        }
    curves["snapshot"] = [t / snapshots_per_epoch for t in range(len(distances))]
    return metrics, curves
