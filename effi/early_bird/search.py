"""The search for a ticket: it reads the masks of a model in training and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from effi import masks
from effi.errors import TrainingError
from effi.masks import RULES, Mask, Rule, Scope, TicketDetector, first_draw
from effi.training import Step
from effi.training.checkpoint import under


@dataclass
class Search:
    """Watches a model: one mask per snapshot and ratio, kept as bits; a listener after each step.

    `per_epoch` snapshots are spread evenly over the `steps` of an epoch (no more than there are steps), the last at its
    end; snapshot 0 is taken at once. `weights` are those of the model that count, by name. Where `rule` draws, the
    model's whole state is kept, from which a ticket can inherit. The ledger has what looking took after snapshot 0 as
    the phase "watch", which is aside.
    """

    model: nn.Module
    weights: Mapping[str, Tensor]
    ratios: Sequence[float]
    steps: int
    per_epoch: int
    threshold: float
    rule: Rule = "consecutive"
    scope: Scope = "global"
    rows: dict[float, list[Tensor]] = field(default_factory=dict)
    states: dict[float, dict[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = {ratio: [] for ratio in self.ratios}
        self.detectors = {r: TicketDetector(r, threshold=self.threshold, rule=self.rule) for r in self.ratios}
        self.per_epoch = min(self.per_epoch, self.steps)
        self.look()

    def __call__(self, step: Step) -> None:
        """Look, where a snapshot is due; the training does not pay for it. TrainingError for weights not a number."""
        if step.index * self.per_epoch // self.steps > (step.index - 1) * self.per_epoch // self.steps:
            with step.ledger.phase("watch", aside=True):
                self._check(step)
                self.look()

    def _check(self, step: Step) -> None:
        broken = [name for name, weight in self.weights.items() if not weight.isfinite().all()]
        if broken:
            raise TrainingError(
                f"{broken[0]} is not a number in epoch {step.epoch}; lower the learning rate, or warm up"
            )

    def look(self) -> None:
        """Take a snapshot."""
        for ratio, detector in self.detectors.items():
            drawn = detector.update(masks.magnitude(self.weights, ratio, scope=self.scope))
            self.rows[ratio].append(detector.newest.cpu())
            if drawn:
                state = self.model.state_dict().items()
                self.states[ratio] = {name: value.detach().cpu().clone() for name, value in state}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint: the detectors look at the masks kept once more."""
        found = Found(state, self.weights)
        for ratio in self.ratios:
            self.rows[ratio] = list(state[f"bits/{ratio:g}"])
            detector = TicketDetector(ratio, threshold=self.threshold, rule=self.rule)
            for place in range(len(self.rows[ratio])):
                detector.update(found.mask(ratio, place))
            self.detectors[ratio] = detector
            if kept := found.state(ratio):
                self.states[ratio] = kept

    def state_dict(self) -> dict[str, Tensor]:
        """Everything found so far, as flat named tensors for a file: bits (T, bytes) per ratio, and the states kept."""
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
        return under(self.tensors, f"state/{ratio:g}/")

    def distances(self, ratio: float) -> Tensor:
        """(T, T) distances of all snapshots, in [0, 1]."""
        count = sum(weight.numel() for weight in self.like.values())
        return masks.distance_matrix(self.tensors[f"bits/{ratio:g}"], count)


EARLY = 3  # epochs over which masks one epoch apart are compared: language models are fine-tuned for no more


def summary(distances: Tensor, ratio: float, threshold: float, snapshots_per_epoch: int) -> dict[str, float]:
    """Where each rule draws, as snapshot (-1: never) and as share of the training (2: never), and how close it came.

    `share_epochs` is the share at which R1 draws with one snapshot an epoch, as in the paper; `epoch_distance` the mean
    distance of masks one epoch apart over the first EARLY epochs, whatever the interval between snapshots.
    """
    last, by_epoch = len(distances) - 1, distances[::snapshots_per_epoch, ::snapshots_per_epoch]
    drawn = {rule: first_draw(distances, rule, threshold) for rule in RULES}
    return {
        **{f"found_{rule}_{ratio:g}": -1 if t is None else t for rule, t in drawn.items()},
        **{f"share_{rule}_{ratio:g}": _share(t, last) for rule, t in drawn.items()},
        f"share_epochs_{ratio:g}": _share(first_draw(by_epoch, "consecutive", threshold), len(by_epoch) - 1),
        f"closest_{ratio:g}": distances.diagonal(1).min().item(),
        f"epoch_distance_{ratio:g}": by_epoch.diagonal(1)[:EARLY].mean().item(),
    }


def _share(snapshot: int | None, last: int) -> float:
    return 2.0 if snapshot is None else snapshot / last


def reading(
    found: Found, ratios: Sequence[float], threshold: float, snapshots_per_epoch: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """What a search saw, as metrics and histories of a record.

    Histories: `distance_P` of consecutive masks, `final_distance_P` to the last one, `heat_P` of all pairs row by row,
    `layer_sparsity_P` of each matrix in the mask that R1 draws (in the last one when it never does), and
    `snapshot`, their places in epochs.
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
