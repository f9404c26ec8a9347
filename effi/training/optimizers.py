"""Torch's optimisers with groups of parameters, each with its rate and decay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.kernels import takes
from effi.kernels.adamw import MaskedAdamW
from effi.training.networks import Network, Single
from effi.training.settings import Group, Training

ROLES = ("matrix", "vector", "embedding", "norm", "bias")
Member = tuple[str, nn.Parameter, int]


def make(network: Network, model: nn.Module, training: Training, *, steady: bool = False) -> torch.optim.Optimizer:
    """The optimiser of a network of `model`s; every group holds its share `scale` of the scheduled rate.

    A `steady` one has all that a step reads on the device, rates as float32, where it stays, as a CUDA graph wants.
    ParameterError for a group that fits no parameter, for Muon over several models, and for the kernel "adamw" with
    another optimiser.
    """
    if "adamw" in training.kernels and training.optimizer != "adamw":
        raise ParameterError(
            f'training kernels: "adamw" makes the step of optimizer="adamw", not of {training.optimizer!r}; '
            "take the one or leave out the other"
        )
    members, roles = list(network.trainable()), _roles(model)
    groups = _groups(members, roles, training)
    for group in groups if steady else ():
        group["lr"] = torch.tensor(training.lr, device=members[0][1].device)
    if training.optimizer == "sgd":
        momentum = 0.9 if training.momentum is None else training.momentum
        # Torch's fused SGD knows no weights that lie in parts on several processes.
        return torch.optim.SGD(groups, lr=training.lr, momentum=momentum, fused=_whole(members))
    adam: dict[str, Any] = {"lr": training.lr, "betas": training.betas, "eps": training.eps, "fused": True}
    adam |= {"capturable": True} if steady else {}
    if training.optimizer == "muon":
        if not isinstance(network, Single):
            raise ParameterError("muon orthogonalises matrices of one model: train its seeds one by one (together=1)")
        hidden = {parameter for name, parameter, rank in members if rank == 2 and roles[name] != "embedding"}
        return MuonAndAdamW(groups, hidden, 0.95 if training.momentum is None else training.momentum, adam)
    if training.optimizer == "adamw" and not steady and _by_kernel(members):
        return MaskedAdamW(groups, **(adam | {"fused": None}))
    return (torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW)(groups, **adam)


def tell(group: dict[str, Any], rate: float) -> None:
    """The rate of the next step, for one group of an optimiser's parameters."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _by_kernel(members: Sequence[Member]) -> bool:
    parameters = [parameter for _, parameter, _ in members]
    fits = bool(parameters) and _whole(members)
    return fits and takes("adamw", parameters[0].device, sum(p.numel() for p in parameters))


def _whole(members: Sequence[Member]) -> bool:
    """Whether no weight lies in parts on several processes."""
    return not any(hasattr(parameter, "to_local") for _, parameter, _ in members)


def _groups(members: Sequence[Member], roles: Mapping[str, str], training: Training) -> list[dict[str, Any]]:
    """Matrices and vectors of each of the training's groups, in order, and of what none of them fits."""
    left, found = list(members), []
    for group in cast(tuple[Group, ...], training.groups):  # settings made them of mappings
        fits = [member for member in left if _fits(group, member[0], roles)]
        if not fits:
            raise ParameterError(
                f"training groups: nothing is {group.of!r}; give a role ({', '.join(ROLES)}) or a pattern of "
                f"parameters such as {members[0][0]!r}"
            )
        left = [member for member in left if member not in fits]
        found += list(_split(fits, training, group))
    return found + list(_split(left, training, Group("")))


def _split(members: Sequence[Member], training: Training, group: Group) -> Iterator[dict[str, Any]]:
    """Matrices, then vectors, which do not decay unless the group says so."""
    decay = training.weight_decay if group.weight_decay is None else group.weight_decay
    for vectors in (False, True):
        chosen = [parameter for _, parameter, rank in members if (rank < 2) is vectors]
        if chosen or not group.of:
            yield {
                "params": chosen,
                "weight_decay": 0.0 if vectors and group.weight_decay is None else decay,
                "scale": 1.0 if group.lr is None else group.lr / training.lr,
            }


def _fits(group: Group, name: str, roles: Mapping[str, str]) -> bool:
    return roles[name] == group.of if group.of in ROLES else fnmatchcase(name, group.of)


def _roles(model: nn.Module) -> dict[str, str]:
    """Parameter name -> what it is for, by the kind of its module, then by its name and shape."""
    return {
        f"{path}.{name}".lstrip("."): _role(module, name, parameter)
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
    }


def _role(module: nn.Module, name: str, parameter: nn.Parameter) -> str:
    if isinstance(module, nn.Embedding):
        return "embedding"
    if "Norm" in type(module).__name__:
        return "norm"
    if name.endswith("bias"):
        return "bias"
    return "matrix" if parameter.ndim > 1 else "vector"


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for every matrix, that of the task head too, AdamW for embeddings, vectors and kernels, at one rate.

    Muon's updates are scaled to the root mean square of AdamW's (Liu et al. 2025, "Muon is scalable", Sec. 2.2).
    """

    def __init__(
        self,
        groups: Sequence[Mapping[str, Any]],
        hidden: Collection[nn.Parameter],
        momentum: float,
        adam: Mapping[str, Any],
    ) -> None:
        muon = {"lr": adam["lr"], "momentum": momentum, "adjust_lr_fn": "match_rms_adamw"}
        kinds = ((torch.optim.Muon, muon, True), (torch.optim.AdamW, adam, False))
        taken = {kind: _taken(groups, hidden, inside) for kind, _, inside in kinds}
        self._parts = [kind(taken[kind], **options) for kind, options, _ in kinds if taken[kind]]
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        for part in self._parts:
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of both."""
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss


def _taken(groups: Sequence[Mapping[str, Any]], hidden: Collection[nn.Parameter], inside: bool) -> list[dict[str, Any]]:
    """The groups with only those parameters that are hidden matrices, or are not; none of them empty."""
    cut = [{**group, "params": [p for p in group["params"] if (p in hidden) is inside]} for group in groups]
    return [group for group in cut if group["params"]]
