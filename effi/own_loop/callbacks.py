"""The methods as callbacks of transformers' Trainer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from effi import paths
from effi.errors import DataError, ParameterError
from effi.instant_soup import Denoiser, InstantSoup, Rounds
from effi.instant_soup.weak_nets import Data
from effi.masks import Mask, Rule, Scope
from effi.mixed_sparsity import Evolution, MixedSparsity, Phases
from effi.own_loop.early_bird import EarlyBird
from effi.own_loop.listening import Listening
from effi.own_loop.topology import mixed_sparsity
from effi.training import Objective, Training
from effi.training.checkpoint import Kept

# What `effi.training.fit` takes: `before_step`, `after_step` and `mask`, each if it is there.
Arguments = Mapping[str, Any]


class ListenerCallback(TrainerCallback):
    """Listeners of `effi.training.fit` in a Trainer: the same masks and weights from the same batches and optimiser.

    `listeners(model, steps)` makes them when the training begins, as `fit` takes them: before_step, after_step, mask.
    Names of weights are those of the Trainer's model, or of a `model` around it. Their state is in every checkpoint of
    the Trainer's, so that a resumed training goes on. `listening.step` has the mask that holds and the ledger.
    The Trainer clips gradients before a callback sees them. ParameterError for several processes or devices, and for
    fp16, whose scaler wants gradients in every step; DataError for a checkpoint without the state.
    """

    def __init__(self, listeners: Callable[[nn.Module, int], Arguments], model: nn.Module | None = None) -> None:
        self.listeners, self.model = listeners, model
        self.listening: Listening | None = None

    @property
    def mask(self) -> Mask:
        """What holds; empty where nothing is pruned yet."""
        return dict((self.listening.step.mask if self.listening else None) or {})

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the listeners, and put them where a checkpoint stands."""
        _check(args)
        model: nn.Module = kwargs["model"] if self.model is None else self.model
        # accelerate stands around the optimiser, whose hooks and moments are meant.
        optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])
        options = {"clips_first": args.max_grad_norm > 0, **self.listeners(model, state.max_steps)}
        if state.global_step:
            options.pop("mask", None)  # a first mask would zero weights that have lived since
        self.listening = Listening(model, optimizer, state.max_steps, **options)
        if state.global_step:
            self.listening.restore(_read(self._file(args, state)))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the gradients."""
        assert self.listening is not None  # made when the training began
        self.listening.step.epoch = int(state.epoch or 0) + 1
        self.listening.before_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the new weights."""
        assert self.listening is not None
        self.listening.after_step()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what a resumed training needs."""
        assert self.listening is not None
        if state.is_world_process_zero:
            _write(self._file(args, state), self.listening.state())

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the hooks away; what is pruned is zero."""
        assert self.listening is not None
        self.listening.release()

    def _file(self, args: Any, state: Any) -> Path:
        """Where the state is, among the Trainer's own files."""
        return Path(args.output_dir) / f"checkpoint-{state.global_step}" / f"effi.{type(self).__name__}.safetensors"


class EarlyBirdCallback(ListenerCallback):
    """Draws an early-bird ticket and goes on under its mask, or with `stop` ends the training there.

    Options are those of EarlyBird, which is `method` once the training began; errors, too.
    """

    method: EarlyBird

    def __init__(
        self,
        sparsity: float,
        *,
        every: int,
        threshold: float = 0.1,
        rule: Rule = "consecutive",
        scope: Scope = "global",
        stop: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(self._made)
        self.options: dict[str, Any] = {"every": every, "threshold": threshold, "rule": rule, "scope": scope}
        self.options |= {"sparsity": sparsity, "hold": not stop, "names": names}

    def _made(self, model: nn.Module, steps: int) -> Arguments:
        self.method = EarlyBird(model, **self.options)
        return {"after_step": [self.method]}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look, and end the training where that is asked for."""
        super().on_step_end(args, state, control, **kwargs)
        if self.method.ticket is not None and not self.options["hold"]:
            control.should_training_stop = True


class MixedSparsityCallback(ListenerCallback):
    """Trains under masks whose sparsity follows `phases` and whose topology follows `evolution`.

    What `effi.own_loop.mixed_sparsity` makes is `method` once the training began; errors as there.
    """

    method: MixedSparsity

    def __init__(
        self, phases: Phases, evolution: Evolution, *, seed: int = 0, names: Sequence[str] | None = None
    ) -> None:
        super().__init__(self._made)
        self.phases, self.evolution = phases, evolution
        self.options: dict[str, Any] = {"seed": seed, "names": names}

    def _made(self, model: nn.Module, steps: int) -> Arguments:
        self.method = mixed_sparsity(model, steps, self.phases, self.evolution, **self.options)
        return self.method.arguments()


class InstantSoupCallback(ListenerCallback):
    """Prunes by instant soup: weak nets train on `data` by `training`, the workbook's own, and vote.

    `model` is ids or pixels -> logits around the Trainer's, such as `effi.models.language.LanguageModel(net, pad)`;
    `data` are on its device. `training` says for how many steps the Trainer goes on, of what length an epoch is, and
    how weak nets train, at the Trainer's rate of the time. InstantSoup is `method`. Errors as there; ParameterError
    where the Trainer takes another number of steps.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        training: Training,
        rounds: Rounds,
        denoiser: Denoiser,
        *,
        objective: Objective,
        seed: int = 0,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(self._made, model)
        self.steps = training.all_steps(len(data.train))
        options: dict[str, Any] = {"objective": objective, "seed": seed, "names": names}
        self.method = InstantSoup(model, data, training, rounds, denoiser, **options)

    def _made(self, model: nn.Module, steps: int) -> Arguments:
        if steps != self.steps:
            raise ParameterError(
                f"the Trainer takes {steps:,} steps and the soup's training {self.steps:,}: give both the same, such "
                "as max_steps and Training(steps=...)"
            )
        return {"after_step": [self.method]}


def _check(args: Any) -> None:
    if args.world_size > 1 or args.n_gpu > 1:
        raise ParameterError(
            f"masks are held in one process on one device, and the Trainer has {max(args.world_size, args.n_gpu)}: "
            "start it with one, for example by CUDA_VISIBLE_DEVICES=0"
        )
    if args.fp16:
        raise ParameterError("fp16 scales gradients, and a skipped step has none: train with bf16=True or in fp32")


def _write(file: Path, kept: Kept) -> None:
    from safetensors.torch import save

    paths.replace(file, save(kept.tensors, {"facts": json.dumps(kept.facts)}))


def _read(file: Path) -> Kept:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 it is no mapping
            return Kept(tensors, json.loads(opened.metadata()["facts"]))
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise DataError(
            f"{file} is no state of a callback of effi ({error}): resume from a checkpoint of this output_dir that was "
            "written with the callback, or begin anew"
        ) from error
