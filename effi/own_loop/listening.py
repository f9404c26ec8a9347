"""Listeners of the workbook in a loop that is not its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from effi.cost import Ledger
from effi.errors import ParameterError
from effi.masks import Held, Mask, hold, pack, unpack
from effi.training import Listener, Step
from effi.training.checkpoint import Kept, split, under


class Listening:
    """What `effi.training.fit` does around an optimiser's step, for a loop that calls it by itself.

    After the backward pass `before_step()`, which shows gradients to listeners and then zeroes those of pruned weights;
    then clipping, the optimiser's step and `zero_grad`; then `after_step()`, which shows the new weights. Where a
    listener skips a step, there are no gradients left and the optimiser does nothing. A loop that clips before
    `before_step`, as transformers' Trainer does, says `clips_first`. `steps` are those of the whole training, `mask` is
    what holds from the start. `step` is what listeners see, with the ledger of what they cost.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        steps: int,
        *,
        before_step: Iterable[Listener] = (),
        after_step: Iterable[Listener] = (),
        mask: Mask | None = None,
        clips_first: bool = False,
    ) -> None:
        self.early, self.late, self.clips_first = tuple(before_step), tuple(after_step), clips_first
        self.step = Step(steps, model, optimizer, Ledger(next(model.parameters()).device.type), self._hold)
        self.done = 0
        self.held: Held | None = None
        self.hooks: list[RemovableHandle] = []
        if mask is not None:
            self.step.hold(mask)

    def before_step(self) -> None:
        """Show the gradients; ParameterError where clipping counted those of pruned weights."""
        step, whole = self.step, self._whole()
        step.index, step.rate, step.skipped = self.done + 1, step.optimizer.param_groups[0]["lr"], False
        for listener in self.early:
            listener(step)
        if step.skipped:
            step.optimizer.zero_grad()
        elif self.held is not None:
            if self.clips_first and whole:
                raise ParameterError(
                    "gradients of pruned weights, which a listener asked for, were clipped with the others: set "
                    'max_grad_norm=0, or let updates take the place of steps (order="instead")'
                )
            self.held.zero_gradients()

    def after_step(self) -> None:
        """Show the new weights."""
        self.done += 1
        for listener in self.late:
            listener(self.step)

    def release(self) -> None:
        """Remove all hooks, so that another training of the model is free; pruned weights are zero, and stay masked
        in `step.mask`.
        """
        for hook in self.hooks:
            hook.remove()
        self.hooks = []
        if self.held is not None:
            self.held.release()

    def _hold(self, mask: Mask) -> None:
        self.held = hold(self.step.model, self.step.optimizer, mask, see_gradients=True)
        for hook in self.hooks:
            hook.remove()
        pairs = zip(self.held.stencils, mask.values(), strict=True) if self.clips_first else ()
        trained = [(weight, kept) for (weight, _), kept in pairs if weight.requires_grad]
        self.hooks = [weight.register_post_accumulate_grad_hook(self._zero(~kept)) for weight, kept in trained]

    def _zero(self, pruned: Tensor) -> Callable[[Tensor], None]:
        def hook(weight: Tensor) -> None:
            if weight.grad is not None and not self._whole():
                weight.grad.masked_fill_(pruned.to(weight.device), 0)

        return hook

    def _whole(self) -> bool:
        """Whether a listener wants the gradients of pruned weights; one that does not say may look at any step."""
        owners = (getattr(listener, "__self__", listener) for listener in self.early)
        return any(getattr(owner, "expecting", True) for owner in owners)

    # --- what survives a kill ------------------------------------------------------------------------------------

    def state(self) -> Kept:
        """The mask, and what listeners keep of themselves, on the CPU; weights and moments are the loop's matter."""
        own = [split(listener.state_dict(), f"listener/{place}/") for place, listener in enumerate(self._keepers())]
        tensors = {name: value for each in own for name, value in each.tensors.items()}
        if self.step.mask is not None:
            tensors["mask"] = pack(self.step.mask)
        names = list(self.step.mask or {})
        facts = {"done": self.done, "masked": names, "listeners": [each.facts for each in own]}
        return Kept({name: value.to("cpu", copy=True).contiguous() for name, value in tensors.items()}, facts)

    def restore(self, kept: Kept) -> None:
        """Go on from there; the model and its optimiser are as they were already."""
        tensors, facts = kept
        self.done = facts["done"]
        if facts["masked"]:
            weights = dict(self.step.model.named_parameters())
            self.step.hold(unpack(tensors["mask"], {name: weights[name] for name in facts["masked"]}))
        for place, listener in enumerate(self._keepers()):
            listener.load_state_dict(under(tensors, f"listener/{place}/") | _plain(facts["listeners"], place))

    def _keepers(self) -> list[Any]:
        """Listeners that keep a state, each once."""
        owners = [getattr(listener, "__self__", listener) for listener in (*self.early, *self.late)]
        return [each for each in {id(owner): owner for owner in owners}.values() if hasattr(each, "load_state_dict")]


def _plain(facts: list[Mapping[str, Any]], place: int) -> dict[str, Any]:
    return dict(facts[place]) if place < len(facts) else {}
