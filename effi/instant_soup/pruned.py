"""What a training that pruned leaves behind."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from effi import masks
from effi.errors import ParameterError
from effi.masks import Mask
from effi.training import History

Told = Mapping[str, Sequence[float]]


@dataclass
class Pruned:
    """The history of the training, the mask that its weights obey, and what is to be told of each prune, in order."""

    history: History
    mask: Mask
    told: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        warn_of_emptied(self.mask)


def warn_of_emptied(mask: Mask) -> None:
    """Warn of matrices of which a mask keeps nothing: the model is blind to all that came through them alone.

    A ranking of all weights together takes whole those whose weights are the smallest, such as a pooler's.
    """
    emptied = [name for name, kept in mask.items() if not kept.any()]
    if emptied:
        more = f" and of {len(emptied) - 1} more" if len(emptied) > 1 else ""
        warnings.warn(
            f"nothing is left of {emptied[0]}{more}: leave what has far smaller weights than the rest out of `names`, "
            'or rank every matrix by itself (scope="tensor")',
            stacklevel=4,
        )


def chosen(model: nn.Module, names: Sequence[str] | None) -> dict[str, nn.Parameter]:
    """The weights to prune: those named, by default all that are prunable; ParameterError for an unknown name."""
    if names is None:
        return masks.prunable(model)
    known = dict(model.named_parameters())
    for name in names:
        if name not in known:
            raise ParameterError(f"{type(model).__name__} has no parameter {name!r} to prune")
    return {name: known[name] for name in names}


def copied(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def obey(history: History, model: nn.Module, mask: Mask, per_epoch: int) -> None:
    """Weights that were best before the mask was final are no candidates: the last ones take their place."""
    if any(history.best_state[name][~kept].any() for name, kept in mask.items()):
        history.best_state = copied(model)
        history.best_epoch = history.curves["step"][-1] / per_epoch


def looks(told: Told) -> int:
    """Prunes that asked weak nets, which a last magnitude cut does not."""
    return sum(moved > 0 for moved in told.get("moved", ()))
