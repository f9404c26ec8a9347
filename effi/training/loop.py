"""The one training loop: one model, or several seeds of it at once.

Shapes: R replicas (seeds trained together, 1 on a CPU), B batch, then those of an image or T tokens.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from tqdm import tqdm

from effi.cost import Ledger, forward_flops, train_flops
from effi.data import IGNORED, Dataset, Examples, TextDataset, augment
from effi.errors import ParameterError, TrainingError
from effi.masks import Mask, hold
from effi.models.attention import plain_attention
from effi.seeds import generator, seeded
from effi.training.evaluation import EVALUATION_BATCH, Loss, Tally, fitting, losses

Hook = Callable[[int, int], None]
Data = Dataset | TextDataset


@dataclass(frozen=True)
class Training:
    """How a model is trained. `warmup` is a share of all steps; weight decay touches matrices only."""

    epochs: int = 500
    batch_size: int = 256
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = 0.0
    clip: float | None = None
    loss: Loss = "cross_entropy"
    augment: tuple[str, ...] = ()
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("lr", 1e-12), ("weight_decay", 0), ("warmup", 0)):
            if getattr(self, name) < least:
                raise ParameterError(f"training {name}={getattr(self, name)} is too small; give at least {least:g}")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0 .. steps - 1: linear warm-up, then constant, or a line or cosine to zero."""
        warm = round(self.warmup * steps)
        if step < warm:
            return self.lr * (step + 1) / warm
        if self.schedule == "constant":
            return self.lr
        done = (step - warm) / max(1, steps - warm)
        return self.lr * (1 - done if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


@dataclass
class History:
    """What one seed's training left behind: a value per epoch in `curves`, and the weights of the best epoch.

    Best is the lowest validation loss; epochs count from 1. The model itself keeps the weights of the last epoch.
    `held_bytes` are those of weights, gradients, optimiser moments and mask in training, activations apart.
    """

    seed: int
    curves: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)
    held_bytes: int = 0

    def append(self, **values: float) -> None:
        """Add one epoch."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)


class Single(nn.Module):
    """One model behind the interface of `Replicas`, with R = 1 and nothing stacked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_RB: Tensor) -> Tensor:
        return self.model(x_RB[0])[None]

    def matrices_and_vectors(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Trainable parameters with two or more dimensions, and the others."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim < 2]

    def clip(self, norm: float) -> None:
        """Scale gradients down to a global norm."""
        nn.utils.clip_grad_norm_(self.parameters(), norm)

    def state(self, replica: int) -> dict[str, Tensor]:
        """A copy of the weights of one replica."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def finish(self) -> None:
        """Leave the trained weights in the models that were given."""


class Replicas(nn.Module):
    """R models of one shape as one, (R, B, ...) -> (R, B, classes): one kernel launch for all seeds."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        stacked, self.stacked_buffers = stack_module_state(list(models))
        self.names = list(stacked)
        self.stacked = nn.ParameterList(
            nn.Parameter(value.detach(), requires_grad=value.requires_grad) for value in stacked.values()
        )
        # A list hides the template and the models from parameters(): they are not what is trained.
        self.template, self.models = [copy.deepcopy(models[0]).to("meta")], list(models)

    def forward(self, x_RB: Tensor) -> Tensor:
        self.template[0].train(self.training)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x_B: Tensor) -> Tensor:
            return functional_call(self.template[0], (parameters, buffers), (x_B,))

        with plain_attention():
            parameters = dict(zip(self.names, self.stacked, strict=True))
            return vmap(one, randomness="different")(parameters, self.stacked_buffers, x_RB)

    def matrices_and_vectors(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """As in `Single`, by the dimensions of one replica's parameter."""
        parameters = [p for p in self.stacked if p.requires_grad]
        return [p for p in parameters if p.ndim > 2], [p for p in parameters if p.ndim < 3]

    def clip(self, norm: float) -> None:
        """Scale each replica's gradients down to a global norm of its own."""
        gradients = [p.grad for p in self.stacked if p.grad is not None]
        lengths = sum(g.flatten(1).square().sum(1) for g in gradients).sqrt()
        factors = (norm / (lengths + 1e-6)).clamp_max(1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))

    def state(self, replica: int) -> dict[str, Tensor]:
        """A copy of the weights of one replica, under the names of the single model."""
        values = dict(zip(self.names, self.stacked, strict=True)) | self.stacked_buffers
        kept = self.template[0].state_dict()
        return {name: values[name][replica].detach().clone() for name in kept}

    def finish(self) -> None:
        """Leave the trained weights in the models that were given."""
        for replica, model in enumerate(self.models):
            model.load_state_dict(self.state(replica))


Network = Single | Replicas


def fit(
    models: nn.Module | Sequence[nn.Module],
    data: Data,
    training: Training,
    *,
    seeds: Sequence[int],
    ledger: Ledger,
    hooks: Sequence[Hook] = (),
    mask: Mask | None = None,
    first_epoch: int = 0,
) -> list[History]:
    """Train one model, or one per seed side by side on one device, on `data.train`; a History per seed.

    Order, augmentation and dropout come from streams of their own; seeds trained together share that of dropout.
    Hooks are called with (step, steps) after each optimiser step. What `mask` prunes of a single model stays zero.
    A schedule can be entered at `first_epoch`. Under `ledger.dry_run` only one step is measured.
    Raises TrainingError when a loss is not a number, ParameterError for a mask over several models.
    """
    models = [models] if isinstance(models, nn.Module) else list(models)
    network = Single(models[0]) if len(models) == 1 else Replicas(models)
    loop = _Loop(network, models[0], data, training, tuple(seeds), ledger, hooks, first_epoch)
    if mask is not None:
        loop.hold(mask)
    with seeded(loop.histories[0].seed, "dropout", loop.device):
        if ledger.dry_run:
            loop.rehearse()
            return loop.histories
        for _ in tqdm(range(first_epoch, training.epochs), disable=None, leave=False, unit="epoch"):
            loop.epoch()
    loop.weigh(mask or {})
    network.finish()
    return loop.histories


def stepper(model: nn.Module, data: Data, training: Training, *, seed: int = 0) -> Callable[[], object]:
    """A call that makes one training step on one and the same batch: what `effi.cost.measure` times."""
    loop = _Loop(Single(model), model, data, training, (seed,), Ledger(str(data.train.inputs.device)), ())
    index_RB = next(loop.batches())
    return lambda: loop.update(index_RB)


class _Loop:
    """State of one training: optimiser, streams, curves."""

    def __init__(
        self,
        network: Network,
        model: nn.Module,
        data: Data,
        training: Training,
        seeds: tuple[int, ...],
        ledger: Ledger,
        hooks: Sequence[Hook],
        first_epoch: int = 0,
    ) -> None:
        self.network, self.model, self.data, self.training = network, model, data, training
        if training.augment and isinstance(data, TextDataset):
            raise ParameterError(f"{data.name} is text, which no augmentation fits; leave augment empty")
        steps_per_epoch = math.ceil(len(data.train) / training.batch_size)
        self.ledger, self.hooks, self.step = ledger, hooks, first_epoch * steps_per_epoch
        self.device = data.train.inputs.device
        self.steps = training.epochs * steps_per_epoch
        self.histories = [History(seed) for seed in seeds]
        self.orders = [generator(seed, "order") for seed in seeds]
        self.augments = [generator(seed, "augment", self.device) for seed in seeds]
        self.optimizer = _optimizer(network, training)
        self.forward = torch.compile(network) if training.compile else network
        self.bf16 = training.precision == "bf16" or (training.precision == "auto" and bf16_pays(self.device.type))
        self.flops: dict[tuple[str, torch.Size], int] = {}
        ledger.planned_steps = (ledger.planned_steps or 0) + self.steps - self.step

    def hold(self, mask: Mask) -> None:
        """Keep what the mask prunes at zero from now on."""
        if not isinstance(self.network, Single):
            raise ParameterError("a mask belongs to one model: train its seeds one by one (together=1)")
        hold(self.model, self.optimizer, mask)

    def weigh(self, mask: Mask) -> None:
        """Note the bytes that training holds per seed; a gradient is as large as its weight."""
        parameters = list(self.network.parameters())
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors = [*parameters, *(p for p in parameters if p.requires_grad), *filter(torch.is_tensor, moments)]
        held = sum(tensor.nbytes for tensor in tensors) // len(self.histories)
        for history in self.histories:
            # A mask is held twice: as bits to read, and as the stencil that clears weights.
            history.held_bytes = held + 2 * sum(kept.nbytes for kept in mask.values())

    def batches(self) -> Iterator[Tensor]:
        """Index batches (R, B) of one epoch, each replica in an order of its own."""
        count = len(self.data.train)
        order = torch.stack([torch.randperm(count, generator=stream) for stream in self.orders])
        return iter(order.to(self.device).split(self.training.batch_size, dim=1))

    def inputs(self, index_RB: Tensor) -> Tensor:
        """What the model reads of a training batch, augmented: (R, B, C, H, W) or ids (R, B, T)."""
        inputs = self.data.train.inputs[index_RB]
        if self.training.augment:
            pairs = zip(inputs, self.augments, strict=True)
            inputs = torch.stack([augment(part, self.training.augment, stream) for part, stream in pairs])
        return self.data.prepare(inputs)

    def update(self, index_RB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One optimiser step; sums of losses, hits and labels (R,) stay on the device so that nothing waits."""
        x_RB = self.inputs(index_RB)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.forward(x_RB).float()
        labels = fitting(self.data.train.labels[index_RB], logits)
        counted = (labels != IGNORED).flatten(1).sum(1)
        loss_R = losses(logits, labels, self.training.loss).flatten(1).sum(1)
        (loss_R / counted).sum().backward()
        if self.training.clip:
            self.network.clip(self.training.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.rate(self.step, self.steps)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        for hook in self.hooks:
            hook(self.step, self.steps)
        self._count("train", x_RB)
        return loss_R.detach(), (logits.detach().argmax(-1) == labels).flatten(1).sum(1), counted

    def epoch(self) -> None:
        """Train one epoch, validate, keep curves and best weights."""
        with self.ledger.phase("train"):
            self.network.train()
            sums = torch.zeros(3, len(self.histories), dtype=torch.float64, device=self.device)
            for index_RB in self.batches():
                sums += torch.stack(self.update(index_RB))
        with self.ledger.phase("evaluate"):
            validated = self.validate(self.data.validation)
        loss, hits, counted = sums
        self._note((loss / counted).tolist(), (hits / counted).tolist(), validated)

    @torch.no_grad()
    def validate(self, examples: Examples) -> list[dict[str, float]]:
        """Mean loss and accuracy of every replica on the same examples."""
        self.network.eval()
        tallies = [Tally() for _ in self.histories]
        for inputs, labels in zip(
            examples.inputs.split(EVALUATION_BATCH), examples.labels.split(EVALUATION_BATCH), strict=True
        ):
            x_B = self.data.prepare(inputs)
            logits_R = self.network(x_B.expand(len(self.histories), *x_B.shape)).float()
            self._count("evaluate", x_B[None])
            for tally, logits in zip(tallies, logits_R, strict=True):
                tally.add(logits, labels, self.training.loss)
        return [tally.means() for tally in tallies]

    def _count(self, phase: str, x_RB: Tensor) -> None:
        """Add a batch's FLOPs; those of one size are counted once."""
        if (phase, x_RB.shape) not in self.flops:
            one = train_flops(self.model, x_RB[0]) if phase == "train" else _forward(self.model, x_RB[0])
            self.flops[phase, x_RB.shape] = one * len(self.histories)
        self.ledger.add_flops(self.flops[phase, x_RB.shape])

    def _note(self, loss: list[float], accuracy: list[float], validated: list[dict[str, float]]) -> None:
        for replica, history in enumerate(self.histories):
            epoch = len(history.curves.get("train_loss", [])) + 1
            validation = validated[replica]
            if not math.isfinite(loss[replica]) or not math.isfinite(validation["loss"]):
                raise TrainingError(
                    f"the loss of seed {history.seed} is not a number in epoch {epoch}; lower the learning rate "
                    f"(now {self.training.lr:g}), warm up, or clip the gradients"
                )
            if validation["loss"] < min(history.curves.get("validation_loss", [math.inf])):
                history.best_epoch, history.best_state = epoch, self.network.state(replica)
            history.append(
                train_loss=loss[replica],
                train_accuracy=accuracy[replica],
                validation_loss=validation["loss"],
                validation_accuracy=validation["accuracy"],
            )

    def rehearse(self) -> None:
        """Warm up with one step, then measure one."""
        index_RB = next(self.batches())
        ledger, self.ledger = self.ledger, Ledger(str(self.device))
        self.update(index_RB)
        self.ledger = ledger
        with self.ledger.phase("train"):
            self.update(index_RB)
        self.ledger.steps += 1


def _forward(model: nn.Module, example: Tensor) -> int:
    return sum(forward_flops(model, example).values())


def _optimizer(network: Network, training: Training) -> torch.optim.Optimizer:
    matrices, vectors = network.matrices_and_vectors()
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.lr, momentum=0.9, fused=True)
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=training.lr, fused=True)


@cache
def bf16_pays(device_type: str) -> bool:
    """Whether a linear layer's training step is at least 1.3 times faster in bf16; always on a GPU, probed on a CPU.

    Not every CPU with bf16 instructions gains: converting activations can cost more than the products save.
    """
    if device_type != "cpu":
        return True
    seconds = {}
    for bf16 in (False, True):
        layer, x = nn.Linear(128, 512), torch.randn(4096, 128, requires_grad=True)
        for _ in range(3):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                nn.functional.gelu(layer(x)).float().sum().backward()
            seconds[bf16] = min(seconds.get(bf16, math.inf), time.perf_counter() - start)
    return seconds[False] > 1.3 * seconds[True]
