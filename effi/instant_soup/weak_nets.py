"""Weak nets: copies of a model, each trained a few steps by a protocol of its own, in whichever way is fastest.

Shapes: R nets trained together, B batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from effi.cost import Ledger, measure
from effi.data import Dataset, Examples, TextDataset
from effi.errors import ParameterError
from effi.instant_soup.noise import Protocol
from effi.masks import Held, Mask, hold
from effi.training import Objective, Replicas, Single, Step, fit, optimizers
from effi.training.evaluation import CLASSES

Data = Dataset | TextDataset
Moments = Mapping[str, Mapping[str, Any]]
Way = Literal["in_turn", "stacked", "processes"]
# Copies of the weights that live while one net is trained: itself, gradient, two moments, best weights, and the net
# before it, or the stack that its net becomes a view of.
COPIES = 6
MANY = 2**31
WORTHWHILE = 0.95  # of the time that nets take in turn


@dataclass(frozen=True)
class Look:
    """What the weak nets of a round start from: a model that stays as it is, data, objective, moments to inherit."""

    model: nn.Module
    data: Data
    objective: Objective = CLASSES
    moments: Moments | None = None


def look_ahead(
    look: Look,
    protocols: Sequence[Protocol],
    masks: Sequence[Mask | None],
    *,
    ledger: Ledger,
    way: Way = "in_turn",
    memory: int | None = None,
) -> Iterator[nn.Module]:
    """The trained copies, one by one and in order; each obeys its mask.

    "stacked" nets are trained by vmap over stacked weights, which share the stream of dropout; in "processes" each has
    one thread. All ways come to the same weights up to rounding. No more than `memory` bytes of copies live at once.
    ParameterError where one copy alone is larger, or where a way cannot train these protocols.
    """
    _check(look, protocols, way)
    at_once = nets_at_once(look.model, memory)
    jobs = list(zip(protocols, masks, strict=True))
    if way == "processes":
        yield from _in_processes(look, jobs, ledger, at_once)
        return
    train = _in_turn if way == "in_turn" else _stacked
    for start in range(0, len(jobs), at_once):
        yield from train(look, jobs[start : start + at_once], ledger)


def _check(look: Look, protocols: Sequence[Protocol], way: Way) -> None:
    if way not in get_args(Way):
        raise ParameterError(f"way {way!r} to train weak nets is unknown; give one of {', '.join(get_args(Way))}")
    if way == "processes" and look.data.train.inputs.is_cuda:
        raise ParameterError("weak nets in processes share no GPU; train them in_turn or stacked")
    if way == "stacked" and any(protocol.dropout is not None for protocol in protocols):
        raise ParameterError("stacked nets share their modules, so that dropout cannot differ; train them in_turn")


def nets_at_once(model: nn.Module, memory: int | None) -> int:
    """How many nets may be trained at the same time; ParameterError when `memory` bytes are too few for one."""
    each = COPIES * sum(parameter.nbytes for parameter in model.parameters())
    if memory is not None and memory < each:
        raise ParameterError(f"a weak net takes {each:,} bytes in training, more than memory={memory:,}; give more")
    return MANY if memory is None else memory // each


# --- one after another ---------------------------------------------------------------------------------------


def _in_turn(look: Look, jobs: Sequence[tuple[Protocol, Mask | None]], ledger: Ledger) -> Iterator[nn.Module]:
    for protocol, mask in jobs:
        net = copy.deepcopy(look.model)
        _train(net, _part(look.data, protocol), look, protocol, mask, ledger)
        yield net


def _train(net: nn.Module, part: Data, look: Look, protocol: Protocol, mask: Mask | None, ledger: Ledger) -> None:
    """Train one copy on its part of the data."""
    if protocol.dropout is not None:
        _drop(net, protocol.dropout)
    start = [] if look.moments is None else [_Inherit(net, look.moments)]
    own: dict[str, Any] = {"objective": look.objective, "seeds": [protocol.seed], "mask": mask, "before_step": start}
    fit(net, part, protocol.training, ledger=ledger, **own)


def _drop(net: nn.Module, probability: float) -> None:
    layers = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    if not layers:
        raise ParameterError(f"{type(net).__name__} has no dropout that weak nets could differ in; leave it out")
    for layer in layers:
        layer.p = probability


def moments_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Moments:
    """What an optimiser keeps of each parameter, by name; the tensors are its own."""
    return {name: optimizer.state.get(parameter, {}) for name, parameter in model.named_parameters()}


@dataclass(frozen=True)
class _Inherit:
    """A listener before the first step that gives the optimiser of a net copies of another's moments."""

    net: nn.Module
    moments: Moments

    def __call__(self, step: Step) -> None:
        if step.index == 1:
            self.start(step.optimizer)

    def start(self, optimizer: torch.optim.Optimizer) -> None:
        for name, parameter in self.net.named_parameters():
            if own := self.moments[name]:
                optimizer.state[parameter] = {key: copy.deepcopy(value) for key, value in own.items()}


def _part(data: Data, protocol: Protocol) -> Data:
    """The examples that a net reads; of validation one, as nobody looks at its loss."""
    rows = protocol.rows.to(data.train.inputs.device)
    return replace(data, train=data.train.take(rows), validation=_first(data), test=_first(data))


def _first(data: Data) -> Examples:
    return Examples(data.validation.inputs[:1], data.validation.labels[:1])


# --- stacked -------------------------------------------------------------------------------------------------


def _stacked(look: Look, jobs: Sequence[tuple[Protocol, Mask | None]], ledger: Ledger) -> Iterator[nn.Module]:
    if len(jobs) == 1:
        yield from _in_turn(look, jobs, ledger)
        return
    protocols = [protocol for protocol, _ in jobs]
    nets = [copy.deepcopy(look.model) for _ in jobs]
    for net, (_, mask) in zip(nets, jobs, strict=True):
        _clear(net, mask or {})
    apart = Apart(nets, jobs, look.moments)
    settings: dict[str, Any] = {"objective": look.objective, "seeds": [protocol.seed for protocol in protocols]}
    fit(nets, _parts(look.data, protocols), protocols[0].training, ledger=ledger, before_step=[apart], **settings)
    yield from nets


@torch.no_grad()
def _clear(net: nn.Module, mask: Mask) -> None:
    """Zero what is pruned before the first gradient."""
    for name, kept in mask.items():
        net.get_parameter(name).masked_fill_(~kept, 0)


class Apart:
    """Before each step of a stack of nets: every net takes it by its own protocol and under its own mask.

    The nets' parameters become views of the stack, each with an optimiser; that of the stack is left out.
    """

    def __init__(
        self, nets: Sequence[nn.Module], jobs: Sequence[tuple[Protocol, Mask | None]], moments: Moments | None
    ) -> None:
        self.nets, self.jobs, self.moments = nets, jobs, moments
        self.optimizers: list[torch.optim.Optimizer] = []
        self.held: list[Held | None] = []

    def __call__(self, step: Step) -> None:
        """Take the step of every net."""
        stack = cast(Replicas, step.model)
        stacked = dict(zip(stack.names, stack.stacked, strict=True))
        if step.index == 1:
            for replica, net in enumerate(self.nets):
                self._tie(net, replica, stacked)
        for replica in range(len(self.nets)):
            self._step(replica, stacked, step)
        step.skip()

    def _tie(self, net: nn.Module, replica: int, stacked: Mapping[str, nn.Parameter]) -> None:
        protocol, mask = self.jobs[replica]
        for name, parameter in net.named_parameters():
            parameter.data = stacked[name].detach()[replica]
        optimizer = optimizers.make(Single(net), net, protocol.training)
        if self.moments is not None:
            _Inherit(net, self.moments).start(optimizer)
        self.optimizers.append(optimizer)
        self.held.append(None if mask is None else hold(net, optimizer, mask, see_gradients=True))

    def _step(self, replica: int, stacked: Mapping[str, nn.Parameter], step: Step) -> None:
        net, optimizer, held = self.nets[replica], self.optimizers[replica], self.held[replica]
        training = self.jobs[replica][0].training
        for name, parameter in net.named_parameters():
            gradient = stacked[name].grad
            parameter.grad = None if gradient is None else gradient[replica]
        for group in optimizer.param_groups:
            group["lr"] = training.rate(step.index - 1, step.steps) * group["scale"]
        if held is not None:
            held.zero_gradients()
        if training.clip:
            nn.utils.clip_grad_norm_(net.parameters(), training.clip)
        optimizer.step()
        optimizer.zero_grad()


class _Rows:
    """A tensor of examples as R nets see it: index (R, B) counts within the rows (R, K) of each."""

    def __init__(self, values: Tensor, rows_RK: Tensor) -> None:
        self.values, self.rows_RK, self.device = values, rows_RK, values.device

    def __getitem__(self, index_RB: Tensor) -> Tensor:
        return self.values[self.rows_RK.gather(1, index_RB)]

    def __len__(self) -> int:
        return self.rows_RK.shape[1]


def _parts(data: Data, protocols: Sequence[Protocol]) -> Data:
    """The examples of all nets, of which the loop takes the batch of each."""
    rows_RK = torch.stack([protocol.rows for protocol in protocols]).to(data.train.inputs.device)
    inputs, labels = (cast(Tensor, _Rows(each, rows_RK)) for each in (data.train.inputs, data.train.labels))
    return replace(data, train=Examples(inputs, labels), validation=_first(data), test=_first(data))


# --- processes -----------------------------------------------------------------------------------------------


def _in_processes(
    look: Look, jobs: Sequence[tuple[Protocol, Mask | None]], ledger: Ledger, at_once: int
) -> Iterator[nn.Module]:
    """As `_in_turn`, several at a time."""
    from joblib import Parallel, cpu_count, delayed, parallel_config

    with parallel_config("loky", n_jobs=min(len(jobs), at_once, cpu_count()), inner_max_num_threads=1):
        parallel = Parallel(return_as="generator", pre_dispatch="n_jobs")
    bare = replace(look, data=replace(look.data, train=_first(look.data)))
    parts = (_part(look.data, protocol) for protocol, _ in jobs)
    tasks = (delayed(_alone)(bare, part, *job) for part, job in zip(parts, jobs, strict=True))
    for state, flops in parallel(tasks):
        with ledger.phase("train"):
            ledger.add_flops(flops)
        net = copy.deepcopy(look.model)
        net.load_state_dict(state)
        yield net


def _alone(look: Look, part: Data, protocol: Protocol, mask: Mask | None) -> tuple[dict[str, Tensor], int]:
    """Weights of one net, and the FLOPs of its training."""
    torch.set_num_threads(1)
    ledger = Ledger()
    _train(look.model, part, look, protocol, mask, ledger)
    return look.model.state_dict(), ledger.total()["flops"]


# --- which way -----------------------------------------------------------------------------------------------


def seconds_of_ways(
    look: Look,
    protocols: Sequence[Protocol],
    masks: Sequence[Mask | None],
    *,
    memory: int | None = None,
    repeats: int = 3,
    budget_s: float = 20.0,
) -> dict[Way, list[float]]:
    """Seconds of two steps of these nets in every way that can train them, in rounds of all ways."""
    short = [replace(each, training=replace(each.training, steps=2, eval_every="2 steps")) for each in protocols]

    def act(way: Way) -> Callable[[], object]:
        return lambda: list(look_ahead(look, short, masks, ledger=Ledger(), way=way, memory=memory))

    acts = {way: act(way) for way in get_args(Way)}
    able = {way: acts[way] for way in get_args(Way) if way == "in_turn" or _works(acts[way])}
    return cast(dict[Way, list[float]], measure(able, repeats=repeats, budget_s=budget_s))


def _works(act: Callable[[], object]) -> bool:
    """Whether vmap knows the model, the protocols fit, and processes can be started."""
    try:
        act()
    except (ParameterError, RuntimeError, ValueError):
        return False
    return True


def fastest(seconds: Mapping[Way, Sequence[float]]) -> Way:
    """The way with the least median ratio to "in_turn" within rounds, if that saves a twentieth; else "in_turn"."""
    ratios = {
        way: median(own / base for own, base in zip(times, seconds["in_turn"], strict=True))
        for way, times in seconds.items()
    }
    best = min(ratios, key=ratios.__getitem__)
    return best if ratios[best] < WORTHWHILE else "in_turn"
