"""The denoised prune: weak nets vote on what to prune, and the votes are merged and cut (Algorithm 2).

Extra memory is that of a byte per weight for votes, four for mean magnitudes where they are asked for, and of a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from effi import masks
from effi.errors import ParameterError
from effi.instant_soup.noise import Noise, noise_of
from effi.instant_soup.rounds import Rounds
from effi.instant_soup.weak_nets import Way
from effi.masks import Mask, Scope

Merge = Literal["union", "intersection", "vote", "mean_magnitude", "mean_weight", "votes"]
Adjust = Literal["none", "literal", "votes", "density"]
Weights = Mapping[str, Tensor]
Choice = Literal[Way, "fastest"]


@dataclass(frozen=True)
class Denoiser:
    """How a round prunes; every choice that the paper leaves open is one here.

    `nets` weak nets train for `steps` with `noise` drawn for each, or with `gaussian` are not trained but moved by
    normal noise of so many times the root mean square of the weights alive. Each keeps by magnitude what the round asks
    for, and so does the main model where `include_main`.
    `merge`: keep what any net keeps ("union"), all ("intersection") or `at_least` of them do ("vote", by default most),
    or rank by the mean of |w| over the weak nets ("mean_magnitude"), by |mean of w| ("mean_weight"), or by votes and
    then |w| of the main model ("votes").
    `adjust` of the merged mask: "none" (A: one magnitude cut at the end, from where less than `closing` is missing),
    "literal" (B: to the round's sparsity by |w| of the main model), "votes" (C: ranks by votes and then the mean of |w|
    over the weak nets instead of merging) or "density" (D: as B, but to what pruning the share `cut` leaves).
    `inherit`: weak nets start with the main optimiser's moments. `way` and `memory` as in look_ahead; with "fastest"
    all ways are measured before the first round, set aside in the ledger, and the winner is kept to: results are then
    the same up to rounding alone, but for models with dropout, whose stacked nets share a stream of it.
    """

    nets: int = 5
    steps: int = 50
    merge: Merge = "union"
    adjust: Adjust = "none"
    include_main: bool = True
    at_least: int | None = None
    cut: float | None = None
    closing: float = 0.05
    scope: Scope = "global"
    noise: Noise | Mapping[str, Any] = field(default_factory=Noise)
    gaussian: float | None = None
    inherit: bool = False
    way: Choice = "in_turn"
    memory: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.noise, Mapping):
            object.__setattr__(self, "noise", noise_of(self.noise))
        for name, known in (("merge", Merge), ("adjust", Adjust), ("scope", Scope), ("way", Choice)):
            if getattr(self, name) not in get_args(known):
                raise ParameterError(
                    f"{name} {getattr(self, name)!r} of a denoiser is unknown; use {', '.join(get_args(known))}"
                )
        if not 0 <= self.nets < 255:
            raise ParameterError(f"nets={self.nets} of a denoiser: give 0 to 254 weak nets")
        if not 0 <= self.closing < 1:
            raise ParameterError(f"closing={self.closing:g} of a denoiser: give a share of all weights below 1")
        if self.gaussian is not None and self.gaussian <= 0:
            raise ParameterError(
                f"gaussian={self.gaussian:g} of a denoiser moves no net: give a size above 0, or nets=0"
            )
        if self.nets and self.steps < 1 and self.gaussian is None:
            raise ParameterError(
                f"{self.nets} weak nets that train for {self.steps} steps are the main model: give steps, or nets=0"
            )
        if not self.voters:
            raise ParameterError("a denoiser of no nets prunes by the main model: leave include_main at True")
        if self.at_least is not None and self.merge != "vote":
            raise ParameterError(f'at_least={self.at_least} votes are asked for by merge="vote", not by {self.merge!r}')
        if self.at_least is not None and not 1 <= self.at_least <= self.voters:
            raise ParameterError(f"at_least={self.at_least} of {self.voters} masks: ask for 1 to {self.voters} votes")
        if self.adjust == "votes" and self.merge != "union":
            raise ParameterError(
                f'adjust="votes" of a denoiser ranks instead of merging: leave merge={self.merge!r} out, or adjust'
            )
        if (self.adjust == "density") != (self.cut is not None) or not 0 < (self.cut or 0.5) < 1:
            raise ParameterError(f'cut={self.cut} is the share, within (0, 1), that adjust="density" prunes at least')

    @property
    def voters(self) -> int:
        """Masks that are merged."""
        return self.nets + self.include_main

    @property
    def counts(self) -> list[str]:
        """Names of the facts that say how many weights got 0, 1, ... votes."""
        return [f"votes/{votes}" for votes in range(self.voters + 1)]

    @property
    def exact(self) -> bool:
        """Whether a round lands on its own sparsity, whatever the weak nets say."""
        ranked = self.adjust == "votes" or self.merge in ("mean_magnitude", "mean_weight", "votes")
        return ranked or (self.adjust == "literal" and self.merge == "union")

    @property
    def left(self) -> float:
        """Missing sparsity from which the rest is one magnitude cut: none where rounds land whatever weak nets say.

        But for "literal", whose rounds are magnitude cuts themselves, and so are the same without weak nets.
        """
        return 0.0 if self.exact and self.adjust != "literal" else self.closing


class Denoised(NamedTuple):
    """The mask after a round, and what is to be told of it."""

    mask: Mask
    facts: dict[str, float]


def denoised_prune(
    weights: Weights, weak: Iterable[Weights], mask: Mask, rounds: Rounds, denoiser: Denoiser
) -> Denoised:
    """Prune one round within `mask`, by weights of the main model and of the weak nets, each of which is seen once.

    Facts: `before`, `nominal` (where all masks agree) and `after` are sparsities; `votes/K` the share of the weights
    alive before that K masks keep; `decided` the share of this round's prunes that magnitude alone would not make;
    `moved` how far weak nets are from the main model, in units of the root mean square of the weights alive.
    ParameterError where the mask prunes more than the target.
    """
    before = masks.sparsity(mask)
    if before > rounds.target:
        raise ParameterError(
            f"a mask of sparsity {before:.4f} cannot be pruned to {rounds.target:g}; give a target above what is pruned"
        )
    ballots = [_Ballot(group, weights, mask, rounds, denoiser) for group in groups(mask, denoiser.scope)]
    for net in weak:
        for ballot in ballots:
            ballot.add(net)
    found = {name: kept for ballot in ballots for name, kept in ballot.settle().items()}
    found = {name: found[name] for name in mask}
    return Denoised(found, _facts(ballots, weights, mask, found))


def groups(mask: Mask, scope: Scope) -> list[list[str]]:
    """Names of the tensors that are ranked together."""
    return [list(mask)] if scope == "global" else [[name] for name in mask]


def lands(mask: Mask, sparsity: float, scope: Scope = "global") -> bool:
    """Whether exactly floor(sparsity N) weights are pruned, of all tensors together or of each."""
    parts = ({name: mask[name] for name in group} for group in groups(mask, scope))
    return all(_size(part) - _kept(part) == masks.pruned_count(sparsity, _size(part)) for part in parts)


class _Ballot:
    """Votes and magnitudes of one group of tensors."""

    def __init__(self, names: list[str], weights: Weights, mask: Mask, rounds: Rounds, denoiser: Denoiser) -> None:
        self.how, self.target = denoiser, rounds.target
        self.weights = {name: weights[name].detach() for name in names}
        self.mask = {name: mask[name] for name in names}
        self.before = masks.sparsity(self.mask)
        self.goal = rounds.after(self.before)
        self.nets, self.moved = 0, 0.0
        self.votes = {name: torch.zeros_like(kept, dtype=torch.uint8) for name, kept in self.mask.items()}
        self.sums: dict[str, Tensor] | None = None
        if denoiser.include_main:
            self._vote(self.weights)

    def add(self, net: Weights) -> None:
        """Count what a weak net keeps, and its weights."""
        own = {name: net[name].detach() for name in self.mask}
        self._vote(own)
        self.nets += 1
        apart = [torch.linalg.vector_norm(own[name] - weight).square() for name, weight in self.weights.items()]
        self.moved += float(torch.stack(apart).sum())
        if self.how.adjust == "votes" or self.how.merge in ("mean_magnitude", "mean_weight"):
            self._sum(own)

    def _vote(self, weights: Weights) -> None:
        for name, kept in self.ranked(weights).items():
            self.votes[name] += kept.view(torch.uint8)  # several times as fast as adding truth values

    def _sum(self, own: Weights) -> None:
        signed = self.how.merge == "mean_weight"
        if self.sums is None:
            self.sums = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in own.items()}
        for name, weight in own.items():
            self.sums[name] += weight if signed else weight.abs()

    def settle(self) -> Mask:
        """The merged and adjusted mask, which never prunes more than the target."""
        found = _ADJUST[self.how.adjust](self)
        if masks.sparsity(found) <= self.target:
            return found
        levels = {name: kept.byte() for name, kept in found.items()}
        return by_level(levels, self.weights, self.target, within=self.mask)

    def at_least(self, votes: int) -> Mask:
        """Keep what so many masks keep."""
        return {name: count >= votes for name, count in self.votes.items()}

    def ranked(self, scores: Weights) -> Mask:
        """Prune the lowest scores, to the round's sparsity."""
        return masks.magnitude(scores, self.goal, within=self.mask)

    def ranked_by_votes(self, scores: Weights) -> Mask:
        """Prune what has the fewest votes, then the lowest scores, to the round's sparsity."""
        return by_level(self.votes, scores, self.goal, within=self.mask)

    @property
    def mean(self) -> Weights:
        """What sums rank as their mean does; without weak nets the main model's weights."""
        return self.weights if self.sums is None else self.sums

    def merged(self) -> Mask:
        """One mask of all, of whatever sparsity."""
        return _MERGE[self.how.merge](self)

    def cut_to(self, sparsity: float) -> Mask:
        """The merged mask, and where it keeps more a magnitude cut of the main model's weights within it."""
        merged = self.merged()
        if masks.sparsity(merged) >= sparsity:
            return merged
        return masks.magnitude(self.weights, sparsity, within=merged)


_MERGE: Mapping[Merge, Callable[[_Ballot], Mask]] = {
    "union": lambda ballot: ballot.at_least(1),
    "intersection": lambda ballot: ballot.at_least(ballot.nets + ballot.how.include_main),
    "vote": lambda ballot: ballot.at_least(ballot.how.at_least or (ballot.nets + ballot.how.include_main) // 2 + 1),
    "mean_magnitude": lambda ballot: ballot.ranked(ballot.mean),
    "mean_weight": lambda ballot: ballot.ranked(ballot.mean),
    "votes": lambda ballot: ballot.ranked_by_votes(ballot.weights),
}
_ADJUST: Mapping[Adjust, Callable[[_Ballot], Mask]] = {
    "none": _Ballot.merged,
    "literal": lambda ballot: ballot.cut_to(ballot.goal),
    "votes": lambda ballot: ballot.ranked_by_votes(ballot.mean),
    "density": lambda ballot: ballot.cut_to(
        min(ballot.target, ballot.before + (ballot.how.cut or 0.0) * (1 - ballot.before))
    ),
}


def by_level(levels: Mapping[str, Tensor], scores: Weights, sparsity: float, *, within: Mask) -> Mask:
    """Prune the floor(sparsity N) weights with the lowest `levels` (uint8), those of one level by |score|.

    What `within` prunes stays pruned and counts.
    """
    count = _size(within)
    missing = masks.pruned_count(sparsity, count) - (count - _kept(within))
    level, held, members = -1, 0, Mask()
    while held <= missing:
        missing -= held
        level += 1
        members = {name: (levels[name] == level) & kept for name, kept in within.items()}
        held = _kept(members)
    # A quarter of a weight more, so that rounding never loses one.
    pruned = masks.magnitude(scores, (count - held + missing + 0.25) / count, within=members)
    return {name: kept.logical_or_((levels[name] > level) & within[name]) for name, kept in pruned.items()}


def _size(mask: Mask) -> int:
    return sum(kept.numel() for kept in mask.values())


def _kept(mask: Mask) -> int:
    return sum(int(kept.count_nonzero()) for kept in mask.values())


def perturbed(weights: Weights, mask: Mask, size: float, generator: torch.Generator) -> dict[str, Tensor]:
    """The weights alive, moved by normal noise of a standard deviation; what is pruned stays zero."""
    noise = {name: torch.randn(weight.shape, generator=generator) for name, weight in weights.items()}
    return {name: (weight.detach() + size * noise[name].to(weight)) * mask[name] for name, weight in weights.items()}


def size_of(weights: Weights, mask: Mask) -> float:
    """Root mean square of the weights alive, of weights that obey the mask."""
    squares = [torch.linalg.vector_norm(weight.detach()).square() for weight in weights.values()]
    return float(torch.stack(squares).sum() / _kept(mask)) ** 0.5


def _facts(ballots: list[_Ballot], weights: Weights, mask: Mask, found: Mask) -> dict[str, float]:
    alive, total = _kept(mask), _size(mask)
    before, after = masks.sparsity(mask), masks.sparsity(found)
    goals = [ballot.goal * _size(ballot.mask) for ballot in ballots]
    nets = ballots[0].nets
    moved = (sum(ballot.moved for ballot in ballots) / (nets * alive)) ** 0.5 if nets else 0.0
    size = size_of(weights, mask)
    facts = {"before": before, "nominal": sum(goals) / total, "after": after}
    facts["moved"] = moved / size if size else 0.0
    facts["decided"] = _decided(ballots, found)
    shares = (count / alive for count in _histogram(ballots, total - alive))
    return facts | dict(zip(ballots[0].how.counts, shares, strict=True))


def _histogram(ballots: list[_Ballot], pruned: int) -> list[int]:
    """How many of the weights alive got 0, 1, ... votes; pruned weights got none."""
    votes = [count for ballot in ballots for count in ballot.votes.values()]
    found = [sum(int((count == k).count_nonzero()) for count in votes) for k in range(ballots[0].how.voters + 1)]
    return [found[0] - pruned, *found[1:]]


def _decided(ballots: list[_Ballot], found: Mask) -> float:
    """Share of this round's prunes that one magnitude cut to the same sparsities does not make."""
    pruned = differing = 0
    for ballot in ballots:
        own = {name: found[name] for name in ballot.mask}
        alive, count = _kept(own), _size(own)
        new = _kept(ballot.mask) - alive
        if new:
            plain = masks.magnitude(ballot.weights, (count - alive + 0.25) / count, within=ballot.mask)
            differing += sum(int((plain[name] & ~kept).count_nonzero()) for name, kept in own.items())
            pruned += new
    return differing / pruned if pruned else 0.0
