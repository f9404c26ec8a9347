"""How processes share a training: each has the whole model (DDP), or a part of all weights and moments (FSDP2)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from effi.errors import ParameterError
from effi.training.networks import Network, Replicas, Single
from effi.training.objectives import Objective
from effi.training.ranks import ALONE, Ranks, world
from effi.training.settings import Training
from effi.training.step import Listener


class Sharded(Single):
    """A copy of a model, each block of which lies in parts on all processes; the model has its weights at the end."""

    def __init__(self, model: nn.Module) -> None:
        world().begin_alike([*model.parameters(), *model.buffers()])
        super().__init__(_sharded(copy.deepcopy(model)))
        # A list hides it from parameters().
        self.given = [model]

    def state(self, replica: int) -> dict[str, Tensor]:
        """A copy of all weights, on every process."""
        return {name: _whole(value) for name, value in self.model.state_dict().items()}

    def finish(self) -> None:
        """Leave the trained weights in the model that was given."""
        self.given[0].load_state_dict(self.state(0))


def network(models: Sequence[nn.Module], training: Training) -> Network:
    """What is trained: one model, whole or sharded, or several seeds of it."""
    if len(models) > 1:
        return Replicas(models)
    sharded = training.parallel == "fsdp" and world().size > 1
    return Sharded(models[0]) if sharded else Single(models[0])


def ranks(network: Network, training: Training, objective: Objective) -> Ranks:
    """The processes that share a training; ParameterError for what they cannot."""
    found = world() if training.parallel else ALONE
    if found.size > 1 and not isinstance(network, Single):
        raise ParameterError("processes share the batches of one model: train its seeds one by one (together=1)")
    if found.size > 1 and objective.whole:
        raise ParameterError(
            "a contrastive batch is taken whole: leave parallel away, and each process takes all of it"
        )
    if found.size > 1 and any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in network.modules()):
        raise ParameterError(
            "batch norm would see each process's own rows: leave parallel away, or make it group or layer norm"
        )
    if isinstance(network, Sharded) and _rests(network):
        raise ParameterError(
            'fsdp puts every layer together on all processes at once, so that none may rest: take parallel="ddp"'
        )
    if isinstance(network, Sharded) and training.optimizer == "muon":
        raise ParameterError('muon orthogonalises whole matrices, which fsdp has in parts: take parallel="ddp"')
    return found


def check_listeners(network: Network, listeners: Sequence[Listener]) -> None:
    """ParameterError for one beside a sharded network that does not say `reads_weights = False`: it would see parts."""
    readers = [type(each).__name__ for each in listeners if getattr(each, "reads_weights", True)]
    if isinstance(network, Sharded) and readers:
        raise ParameterError(
            f'fsdp has weights and gradients in parts, of which {readers[0]} would see one: take parallel="ddp"'
        )


def over(network: Network, ranks: Ranks, example: Callable[[], Tensor]) -> nn.Module:
    """The network with gradients that are means over all processes; it begins as the first one has it."""
    if ranks.size == 1 or isinstance(network, Sharded):
        return network
    ranks.begin_alike(network.buffers())
    # Buffers are never trained: sending them at each step would send masks of attention.
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of a new name, which older torch lacks
        return DistributedDataParallel(
            network,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=_leaves_some_out(network, example),
        )


def _leaves_some_out(network: Network, example: Callable[[], Tensor]) -> bool:
    """Whether a step may leave parameters without a gradient: as the model says, or as a backward pass shows."""
    if _rests(network):
        return True
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    example_RB = example()
    devices = [example_RB.device] if example_RB.is_cuda else []
    with torch.random.fork_rng(devices):
        network(example_RB).float().sum().backward()
    missed = any(parameter.grad is None for parameter in trained)
    for parameter in trained:
        parameter.grad = None
    return missed


@contextmanager
def exchanging(shared: nn.Module, now: bool) -> Iterator[None]:
    """Whether a backward pass inside exchanges gradients, or only adds to them."""
    if isinstance(shared, DistributedDataParallel) and not now:
        with shared.no_sync():
            yield
        return
    if isinstance(shared, Sharded):
        cast(Any, shared.model).set_requires_gradient_sync(now)
    yield


def _rests(network: nn.Module) -> bool:
    """Whether a model says that a step may leave some of its layers out."""
    return any(getattr(each, "some_rest", False) for each in network.modules())


def _sharded(model: nn.Module) -> nn.Module:
    """The model, its layers and what is beside them sharded over all processes."""
    from torch.distributed.fsdp import fully_shard  # two seconds of import that few need

    for layers in [each for each in model.modules() if isinstance(each, nn.ModuleList)]:
        for layer in layers:
            fully_shard(layer)
    fully_shard(model)
    return model


def _whole(value: Tensor) -> Tensor:
    value = value.full_tensor() if hasattr(value, "full_tensor") else value
    return value.detach().clone()
