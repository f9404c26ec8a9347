"""The one training loop: one model, or several seeds of it at once.

Shapes: R replicas (seeds trained together, 1 on a CPU), B batch, then the image's own.
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
from effi.data import Dataset, Examples, augment, normalise
from effi.errors import ParameterError, TrainingError
from effi.evaluation import EVALUATION_BATCH, Loss, losses, score
from effi.models.attention import plain_attention
from effi.seeds import generator, seeded

Hook = Callable[[int, int], None]


@dataclass(frozen=True)
class Training:
    """How a model is trained. `warmup` is a share of all steps; weight decay touches matrices only."""

    epochs: int = 500
    batch_size: int = 256
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
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
        """Learning rate of step 0 .. steps - 1: linear warm-up, then constant or a cosine to zero."""
        warm = round(self.warmup * steps)
        if step < warm:
            return self.lr * (step + 1) / warm
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@dataclass
class History:
    """What one seed's training left behind: a value per epoch in `curves`, and the weights of the best epoch.

    Best is the lowest validation loss; epochs count from 1. The model itself keeps the weights of the last epoch.
    """

    seed: int
    curves: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)

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
    data: Dataset,
    training: Training,
    *,
    seeds: Sequence[int],
    ledger: Ledger,
    hooks: Sequence[Hook] = (),
) -> list[History]:
    """Train one model, or one per seed side by side on one device, on `data.train`; a History per seed.

    Order, augmentation and dropout come from streams of their own; seeds trained together share that of dropout.
    Hooks are called with (step, steps) after each optimiser step. Under `ledger.dry_run` only one step is measured.
    Raises TrainingError when a loss is not a number.
    """
    models = [models] if isinstance(models, nn.Module) else list(models)
    network = Single(models[0]) if len(models) == 1 else Replicas(models)
    loop = _Loop(network, models[0], data, training, tuple(seeds), ledger, hooks)
    with seeded(loop.histories[0].seed, "dropout", loop.device):
        if ledger.dry_run:
            loop.rehearse()
            return loop.histories
        for _ in tqdm(range(training.epochs), disable=None, leave=False, unit="epoch"):
            loop.epoch()
    network.finish()
    return loop.histories


def stepper(model: nn.Module, data: Dataset, training: Training, *, seed: int = 0) -> Callable[[], object]:
    """A call that makes one training step on one and the same batch: what `effi.cost.measure` times."""
    loop = _Loop(Single(model), model, data, training, (seed,), Ledger(str(data.train.images.device)), ())
    index_RB = next(loop.batches())
    return lambda: loop.update(index_RB)


class _Loop:
    """State of one training: optimiser, streams, curves."""

    def __init__(
        self,
        network: Network,
        model: nn.Module,
        data: Dataset,
        training: Training,
        seeds: tuple[int, ...],
        ledger: Ledger,
        hooks: Sequence[Hook],
    ) -> None:
        self.network, self.model, self.data, self.training = network, model, data, training
        self.ledger, self.hooks, self.step = ledger, hooks, 0
        self.device = data.train.images.device
        self.steps = training.epochs * math.ceil(len(data.train) / training.batch_size)
        self.histories = [History(seed) for seed in seeds]
        self.orders = [generator(seed, "order") for seed in seeds]
        self.augments = [generator(seed, "augment", self.device) for seed in seeds]
        self.optimizer = _optimizer(network, training)
        self.forward = torch.compile(network) if training.compile else network
        self.bf16 = training.precision == "bf16" or (training.precision == "auto" and bf16_pays(self.device.type))
        self.mean, self.std = (torch.tensor(v, device=self.device) for v in (data.mean, data.std))
        self.flops: dict[tuple[str, int], int] = {}
        ledger.planned_steps = (ledger.planned_steps or 0) + self.steps

    def batches(self) -> Iterator[Tensor]:
        """Index batches (R, B) of one epoch, each replica in an order of its own."""
        count = len(self.data.train)
        order = torch.stack([torch.randperm(count, generator=stream) for stream in self.orders])
        return iter(order.to(self.device).split(self.training.batch_size, dim=1))

    def images(self, index_RB: Tensor) -> Tensor:
        """Normalised, augmented training images (R, B, C, H, W)."""
        images = self.data.train.images[index_RB]
        if self.training.augment:
            pairs = zip(images, self.augments, strict=True)
            images = torch.stack([augment(part, self.training.augment, stream) for part, stream in pairs])
        return normalise(images, self.mean, self.std)

    def update(self, index_RB: Tensor) -> tuple[Tensor, Tensor]:
        """One optimiser step; losses (R,) and hits (R,) stay on the device so that nothing waits for them."""
        labels = self.data.train.labels[index_RB]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.forward(self.images(index_RB)).float()
        loss_R = losses(logits, labels, self.training.loss).mean(1)
        loss_R.sum().backward()
        if self.training.clip:
            self.network.clip(self.training.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.rate(self.step, self.steps)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        for hook in self.hooks:
            hook(self.step, self.steps)
        return loss_R.detach() * labels.shape[1], (logits.detach().argmax(-1) == labels).sum(1)

    def epoch(self) -> None:
        """Train one epoch, validate, keep curves and best weights."""
        with self.ledger.phase("train"):
            self.network.train()
            loss = torch.zeros(len(self.histories), device=self.device)
            hits = torch.zeros_like(loss)
            for index_RB in self.batches():
                batch_loss, batch_hits = self.update(index_RB)
                loss += batch_loss
                hits += batch_hits
                self._count("train", index_RB.shape[1])
        with self.ledger.phase("evaluate"):
            logits_R = self.predict(self.data.validation)
        self._note((loss / len(self.data.train)).tolist(), (hits / len(self.data.train)).tolist(), logits_R)

    @torch.no_grad()
    def predict(self, examples: Examples) -> Tensor:
        """Logits of every replica on the same examples, (R, n, classes)."""
        self.network.eval()
        parts = []
        for chunk in examples.images.split(EVALUATION_BATCH):
            x_B = normalise(chunk, self.mean, self.std)
            parts.append(self.network(x_B.expand(len(self.histories), *x_B.shape)).float())
            self._count("evaluate", len(chunk))
        return torch.cat(parts, 1)

    def _count(self, phase: str, batch: int) -> None:
        if (phase, batch) not in self.flops:
            example = normalise(self.data.train.images[:1].expand(batch, -1, -1, -1), self.mean, self.std)
            one = train_flops(self.model, example) if phase == "train" else _forward(self.model, example)
            self.flops[phase, batch] = one * len(self.histories)
        self.ledger.add_flops(self.flops[phase, batch])

    def _note(self, loss: list[float], accuracy: list[float], logits_R: Tensor) -> None:
        for replica, history in enumerate(self.histories):
            epoch = len(history.curves.get("train_loss", [])) + 1
            validation = score(logits_R[replica], self.data.validation.labels, self.training.loss)
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
        self.update(index_RB)
        with self.ledger.phase("train"):
            self.update(index_RB)
            self._count("train", index_RB.shape[1])
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
