"""Instant Soup Pruning: one training, in which growing segments end in denoised prunes (Algorithm 1)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn

from effi import masks
from effi.cost import Ledger
from effi.instant_soup.accounts import LOOK_AHEAD, PRUNE, inside
from effi.instant_soup.denoise import Denoiser, Weights, denoised_prune, lands, perturbed, size_of
from effi.instant_soup.noise import Noise, Protocol, draw
from effi.instant_soup.pruned import Pruned, chosen, obey
from effi.instant_soup.rounds import Rounds
from effi.instant_soup.weak_nets import Data, Look, Way, fastest, look_ahead, moments_of, seconds_of_ways
from effi.seeds import derive, generator
from effi.training import Objective, Step, Training, fit
from effi.training.evaluation import CLASSES
from effi.training.loop import PaperFlops

TOLD = ("step", "before", "nominal", "after", "moved", "decided", "final")
STALLED = 0.1  # of the rate of a round whose masks agree


def instant_soup(
    model: nn.Module,
    data: Data,
    training: Training,
    rounds: Rounds,
    denoiser: Denoiser,
    *,
    seed: int,
    ledger: Ledger,
    objective: Objective = CLASSES,
    names: Sequence[str] | None = None,
    fresh: bool = False,
    paper_flops: PaperFlops | None = None,
    checkpoint: Path | None = None,
) -> Pruned:
    """Train a model once and prune it on the way to exactly the target; weights are never rewound.

    `names` are the weights to prune (by default all prunable ones). With `fresh` the optimiser forgets its moments at
    every prune. Weak nets are trained and cast votes in the ledger's phase "look-ahead", of which "prune" makes a mask.
    ParameterError, before anything is trained, where the rounds cannot reach the target in the training's steps.
    """
    counted: dict[str, Any] = {"objective": objective, "paper_flops": paper_flops}
    soup = InstantSoup(model, data, training, rounds, denoiser, seed=seed, names=names, fresh=fresh, **counted)
    options = counted | {"ledger": ledger, "checkpoint": checkpoint}
    (history,) = fit(model, data, training, seeds=[seed], after_step=[soup], **options)
    if ledger.dry_run:
        # A step of a weak net costs what one of the main model does.
        ledger.planned_steps = (ledger.planned_steps or 0) + soup.planned_steps
        return Pruned(history, soup.mask)
    obey(history, model, soup.mask, soup.per_epoch)
    return Pruned(history, soup.mask, soup.told)


class InstantSoup:
    """The method as a listener after each step; `mask` is what it holds, `told` has a value per prune and name.

    Beside the facts of `denoised_prune`: `step`, and `final`, the share of the target that a last magnitude cut made;
    such a cut alone has no votes.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        training: Training,
        rounds: Rounds,
        denoiser: Denoiser,
        *,
        seed: int,
        objective: Objective = CLASSES,
        names: Sequence[str] | None = None,
        fresh: bool = False,
        paper_flops: PaperFlops | None = None,
    ) -> None:
        self.per_epoch, steps = training.steps_of_epoch(len(data.train)), training.all_steps(len(data.train))
        rounds.check(self.per_epoch, steps, denoiser.left)
        self.ends = rounds.ends(self.per_epoch, steps)
        self.model, self.training, self.rounds, self.denoiser = model, training, rounds, denoiser
        self.data, self.objective, self.seed, self.fresh = data, objective, seed, fresh
        self.paper_flops = paper_flops
        self.weights = chosen(model, names)
        self.mask = masks.everything(self.weights)
        self.told: dict[str, list[float]] = {name: [] for name in (*TOLD, *denoiser.counts)}
        self.warned = False
        self.way = denoiser.way

    @property
    def planned_steps(self) -> int:
        """Steps of all weak nets when the masks of every round agree; a last magnitude cut asks none."""
        trained = self.denoiser.nets if self.denoiser.gaussian is None else 0
        return trained * self.denoiser.steps * self.rounds.asked(self.denoiser.left)

    def __call__(self, step: Step) -> None:
        """Prune, where a segment ends."""
        if step.ledger.dry_run or step.index not in self.ends or self._landed():
            return
        with step.ledger.phase(PRUNE):
            facts = self._prune(step, self.ends.index(step.index))
        facts["step"] = step.index
        for name, values in self.told.items():
            values.append(facts.get(name, 0.0))
        step.hold(self.mask)
        if self.fresh:
            step.optimizer.state.clear()

    def _landed(self) -> bool:
        return lands(self.mask, self.rounds.target, self.denoiser.scope)

    def _prune(self, step: Step, index: int) -> dict[str, float]:
        before = masks.sparsity(self.mask)
        if self.rounds.target - before < self.denoiser.left:
            return self._last_cut(before) | {"before": before, "nominal": self.rounds.target}
        with closing(self._weak(step, index)) as weak:
            self.mask, facts = denoised_prune(self.weights, weak, self.mask, self.rounds, self.denoiser)
        self._warn(index, facts)
        last = step.index == self.ends[-1] and not self._landed()
        return facts | (self._last_cut(facts["after"]) if last else {})

    def _last_cut(self, before: float) -> dict[str, float]:
        target, scope = self.rounds.target, self.denoiser.scope
        self.mask = masks.magnitude(self.weights, target, scope=scope, within=self.mask)
        after = masks.sparsity(self.mask)
        return {"after": after, "final": (after - before) / after}

    def _weak(self, step: Step, index: int) -> Generator[Weights]:
        """Weights of the weak nets of a round."""
        how, seed = self.denoiser, derive(self.seed, f"round {index}")
        if how.gaussian is not None:
            size, stream = how.gaussian * size_of(self.weights, self.mask), generator(seed, "gaussian")
            yield from (perturbed(self.weights, self.mask, size, stream) for _ in range(how.nets))
        elif how.nets:
            moments = moments_of(self.model, step.optimizer) if how.inherit else None
            look = Look(self.model, self.data, self.objective, moments)
            sizes = {"steps": how.steps, "examples": len(self.data.train), "nets": how.nets}
            protocols = draw(cast(Noise, how.noise), self.training, rate=step.rate, seed=seed, **sizes)
            options: dict[str, Any] = {"way": self._chosen_way(step, look, protocols), "memory": how.memory}
            with inside(step.ledger, LOOK_AHEAD, self._skipped(step)) as own:
                for net in look_ahead(look, protocols, [self.mask] * how.nets, ledger=own, **options):
                    yield {name: net.get_parameter(name) for name in self.weights}

    def _skipped(self, step: Step) -> Callable[[int], int] | None:
        """Weak nets obey the mask of the main model, and so count as a step of it does."""
        return None if self.paper_flops is None else partial(self.paper_flops, step)

    def _chosen_way(self, step: Step, look: Look, protocols: Sequence[Protocol]) -> Way:
        """What was asked for, or what is found fastest at the first look-ahead."""
        if self.way == "fastest":
            held = [self.mask] * len(protocols)
            with step.ledger.phase("measure", aside=True):
                self.way = fastest(seconds_of_ways(look, protocols, held, memory=self.denoiser.memory))
        return self.way

    def _warn(self, index: int, facts: Mapping[str, float]) -> None:
        alive = 1 - facts["before"]
        pruned, asked = (facts["after"] - facts["before"]) / alive, (facts["nominal"] - facts["before"]) / alive
        if pruned < STALLED * asked and not self.warned:
            self.warned = True
            warnings.warn(
                f"round {index + 1} pruned {pruned:.3%} of the weights alive, less than a tenth of the {asked:.1%} "
                "asked for, as its masks hardly agree; the last cut will make the rest. Give the denoiser fewer steps, "
                'a noise of smaller rates, or merge="vote"',
                stacklevel=3,
            )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"mask": masks.pack(self.mask), "told": self.told, "way": self.way, "warned": self.warned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.mask = masks.unpack(state["mask"], self.weights)
        self.told, self.way, self.warned = state["told"], state["way"], state["warned"]
