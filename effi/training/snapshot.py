"""Everything that a training is in the middle of, as a checkpoint keeps it, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from effi.errors import TrainingError
from effi.training.checkpoint import Kept, split, under

if TYPE_CHECKING:
    from effi.training.loop import Loop


def snapshot(loop: Loop) -> Kept:
    """Weights, moments, streams, the order of this epoch, curves, accounts, the mask and the listeners' own state."""
    moments, plain = _moments(loop)
    listeners = [split(state, f"listener/{place}/") for place, state in _listeners(loop)]
    best = {f"best/{i}/{name}": v for i, h in enumerate(loop.histories) for name, v in h.best_state.items()}
    tensors = {
        **{f"weights/{name}": value.detach() for name, value in loop.network.tensors().items()},
        **moments,
        **best,
        **{f"stream/{name}": value for name, value in _streams(loop).items()},
        **{f"mask/{name}": kept for name, kept in (loop.step.mask or {}).items()},
        **{name: value for kept in listeners for name, value in kept.tensors.items()},
        **({"queue": torch.cat(loop.queue[::-1], dim=1)} if loop.queue else {}),
        "sums": loop.ranks.total(loop.sums),
    }
    # Copies: a listener may keep the very mask that is held, and a file takes no tensor twice.
    copies = {name: value.to("cpu", copy=True) for name, value in tensors.items()}
    return Kept(copies, _facts(loop) | {"moments": plain})


def _facts(loop: Loop) -> dict[str, Any]:
    kept = [{"curves": h.curves, "best_epoch": h.best_epoch} for h in loop.histories]
    own = {str(place): split(state, "").facts for place, state in _listeners(loop)}
    standing = {"done": loop.done, "evaluated": loop.evaluated, "bf16": loop.bf16}
    standing["masked"] = loop.step.mask is not None
    return standing | {"made_of": _made_of(loop), "histories": kept, "ledger": loop.ledger.state(), "listeners": own}


def _made_of(loop: Loop) -> dict[str, Any]:
    """What must be the same for a checkpoint to fit."""
    return {
        # Without kernels a training is what it was before there were any.
        "training": {n: repr(v) for n, v in asdict(loop.training).items() if n != "parallel" and (n != "kernels" or v)},
        "objective": repr(loop.objective),
        "seeds": [history.seed for history in loop.histories],
        "steps": [loop.first_epoch, loop.steps],
        "data": [loop.data.name, loop.data.checksum, len(loop.data.train)],
        "listeners": [type(listener).__name__ for listener in _restorable(loop)],
        "shapes": {name: list(value.shape) for name, value in loop.network.tensors().items()},
    }


@torch.no_grad()
def restore(loop: Loop, kept: Kept, lost_seconds: float, file: Path) -> None:
    """Put a training where a checkpoint stands. TrainingError when the checkpoint is of another training."""
    tensors, facts = kept
    if facts["made_of"] != _made_of(loop):
        changed = [name for name, value in _made_of(loop).items() if facts["made_of"].get(name) != value]
        raise TrainingError(f"{file} is of another training (differing in {', '.join(changed)}); delete it")
    for name, value in loop.network.tensors().items():
        value.copy_(tensors[f"weights/{name}"])
    if facts["masked"]:
        loop.step.hold({name: kept.to(loop.device) for name, kept in under(tensors, "mask/").items()})
    _restore_moments(loop, tensors, facts["moments"])
    kept_streams = under(tensors, "stream/")
    # A process that was not there goes on with the stream that it began with.
    for name in kept_streams.keys() & _streams(loop).keys():
        _set_stream(loop, name, kept_streams[name])
    if "queue" in tensors:
        loop.queue = list(tensors["queue"].to(loop.device).split(loop.training.batch_size, dim=1))[::-1]
    loop.sums, loop.bf16 = loop.ranks.first * tensors["sums"].to(loop.device), facts["bf16"]
    loop.done, loop.evaluated = facts["done"], facts["evaluated"]
    for place, (history, own) in enumerate(zip(loop.histories, facts["histories"], strict=True)):
        history.curves, history.best_epoch = own["curves"], own["best_epoch"]
        history.best_state = {name: v.to(loop.device) for name, v in under(tensors, f"best/{place}/").items()}
    loop.ledger.restore(facts["ledger"], lost_seconds)
    for place, listener in enumerate(_restorable(loop)):
        listener.load_state_dict(under(tensors, f"listener/{place}/") | facts["listeners"][str(place)])


def _moments(loop: Loop) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """The optimiser's tensors by parameter, and what else it keeps of them."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for name, parameter, _ in loop.network.trainable():
        own = split(loop.optimizer.state.get(parameter, {}), f"moments/{name}/")
        tensors |= own.tensors
        plain[name] = own.facts
    return tensors, plain


def _restore_moments(loop: Loop, tensors: Mapping[str, Tensor], plain: Mapping[str, Mapping[str, Any]]) -> None:
    for name, parameter, _ in loop.network.trainable():
        found = under(tensors, f"moments/{name}/")
        # A fused optimiser's count of steps stays where its weights are, any other's on the CPU.
        state: dict[str, Any] = {key: value.to(parameter.device) for key, value in found.items()}
        state |= plain[name]
        if state:
            loop.optimizer.state[parameter] = state


def _streams(loop: Loop) -> dict[str, Tensor]:
    streams = {f"order/{place}": stream.get_state() for place, stream in enumerate(loop.orders)}
    streams |= {f"augment/{place}": stream.get_state() for place, stream in enumerate(loop.augments)}
    streams[loop.ranks.named("cpu")] = torch.get_rng_state()
    on_gpu = {loop.ranks.named("cuda"): torch.cuda.get_rng_state(loop.device)} if loop.device.type == "cuda" else {}
    return streams | on_gpu


def _set_stream(loop: Loop, name: str, state: Tensor) -> None:
    kind, _, place = name.partition("/")
    if kind == loop.ranks.named("cpu"):
        torch.set_rng_state(state)
    elif kind == loop.ranks.named("cuda"):
        torch.cuda.set_rng_state(state, loop.device)
    else:
        (loop.orders if kind == "order" else loop.augments)[int(place)].set_state(state)


def _restorable(loop: Loop) -> list[Any]:
    """Listeners that keep a state, each once."""
    once = {id(listener): listener for listener in (*loop.before_step, *loop.after_step)}
    return [listener for listener in once.values() if hasattr(listener, "load_state_dict")]


def _listeners(loop: Loop) -> list[tuple[int, dict[str, Any]]]:
    return [(place, listener.state_dict()) for place, listener in enumerate(_restorable(loop))]
