"""Training under a mask: pruned weights, their gradients and moments stay exactly zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from effi.errors import ParameterError
from effi.kernels.adamw import MaskedAdamW
from effi.masks.fit import Mask

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a weight
# Values must not refer to their optimiser, or it would never be freed.
_HELD: WeakKeyDictionary[torch.optim.Optimizer, Held] = WeakKeyDictionary()


class Held:
    """The hooks of one `hold`; `release()` lets pruned weights live again, from zero.

    `in_step`: stencils of an optimiser whose step masks all that it reads and writes.
    """

    def __init__(
        self, stencils: list[tuple[nn.Parameter, Tensor]], optimizer: torch.optim.Optimizer, see_gradients: bool
    ) -> None:
        self.stencils = stencils
        trained = [] if see_gradients else [pair for pair in stencils if pair[0].requires_grad]
        self.hooks = [weight.register_post_accumulate_grad_hook(_zero_grad(stencil)) for weight, stencil in trained]
        self.in_step: dict[Tensor, Tensor] = {}
        if isinstance(optimizer, MaskedAdamW):
            optimizer.stencils = self.in_step = dict(stencils)
        else:
            # Zero gradients and moments are not enough: Muon's updates are dense.
            self.hooks.append(optimizer.register_step_post_hook(lambda *_: self.zero_weights()))

    @torch.no_grad()
    def zero_weights(self) -> None:
        """Zero the pruned weights."""
        for parameter, stencil in self.stencils:
            _clear(parameter, stencil)

    def zero_gradients(self) -> None:
        """Zero the gradients of pruned weights."""
        for parameter, stencil in self.stencils:
            if parameter.grad is not None:
                _clear(parameter.grad, stencil)

    def release(self) -> None:
        """Remove the hooks; a second call does nothing."""
        for hook in self.hooks:
            hook.remove()
        self.hooks = []
        self.in_step.clear()


def hold(model: nn.Module, optimizer: torch.optim.Optimizer, mask: Mask, *, see_gradients: bool = False) -> Held:
    """Keep weights pruned by `mask` at zero from now on, with their gradients (before clipping) and moments.

    For every optimiser of torch, fused or not, under autocast and torch.compile. A second call for the same optimiser
    takes the place of the first: what it revives starts at zero with zero moments. With `see_gradients` a backward
    pass and this call leave gradients whole, for a loop that shows them first and then calls `Held.zero_gradients`.
    ParameterError when the mask does not fit the model.
    """
    held = Held(_stencils(model, mask), optimizer, see_gradients)
    if optimizer in _HELD:
        _HELD[optimizer].release()
    _HELD[optimizer] = held
    held.zero_weights()
    for parameter, stencil in held.stencils:
        for value in _moments(parameter, optimizer):
            _clear(value, stencil)
    if not see_gradients:
        held.zero_gradients()
    return held


def _stencils(model: nn.Module, mask: Mask) -> list[tuple[nn.Parameter, Tensor]]:
    """Parameters with one byte per weight: all bits set where it is kept, none where it is pruned."""
    parameters = dict(getattr(model, "_orig_mod", model).named_parameters())  # torch.compile wraps and renames
    for name, kept in mask.items():
        if name not in parameters:
            raise ParameterError(f'the mask has "{name}" and {type(model).__name__} has not; use a mask of this model')
        if kept.shape != parameters[name].shape or kept.dtype != torch.bool:
            raise ParameterError(
                f'"{name}" is {tuple(kept.shape)} {kept.dtype} in the mask; the model needs '
                f"{tuple(parameters[name].shape)} {torch.bool}"
            )
    return [
        (parameters[name], _part(-kept.to(parameters[name].device, torch.int8), parameters[name]))
        for name, kept in mask.items()
    ]


def _part(stencil: Tensor, parameter: nn.Parameter) -> Tensor:
    """The part of a stencil that belongs to this process, where the parameter lies in parts on several."""
    if not hasattr(parameter, "to_local"):
        return stencil
    from torch.distributed.tensor import DTensor, distribute_tensor  # two seconds of import that few need

    assert isinstance(parameter, DTensor)
    return distribute_tensor(stencil, parameter.device_mesh, parameter.placements, src_data_rank=None).to_local()


def _zero_grad(stencil: Tensor) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        if parameter.grad is not None:
            _clear(parameter.grad, stencil)

    return hook


def _clear(value: Tensor, stencil: Tensor) -> None:
    """Zero what is pruned, infinities too, by AND on the bits: on a CPU six times as fast as `masked_fill_`."""
    value = value.detach()
    value = value.to_local() if hasattr(value, "to_local") else value
    bits = value.view(INTEGERS[value.element_size()])
    # A GPU widens the stencil on the way; a CPU does that slowly, so that a widened copy is faster.
    bits.bitwise_and_(stencil if value.is_cuda else stencil.to(bits.dtype))


def _moments(parameter: nn.Parameter, optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """What the optimiser keeps in the parameter's shape."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            yield value
