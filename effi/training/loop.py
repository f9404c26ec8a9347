"""The one training loop: a step at a time, of one model or of several seeds at once, and from where it was cut off.

Shapes: R replicas (seeds trained together, 1 on a CPU), B batch, then those of an image or T tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from effi.cost import Ledger, forward_flops, most, train_flops
from effi.data import IGNORED, Dataset, Examples, PairDataset, TextDataset, augment
from effi.data.order import Draws
from effi.data.stored import on_disk
from effi.errors import ParameterError, TrainingError
from effi.kernels import takes, using
from effi.kernels.cross_entropy import cross_entropy
from effi.masks import Held, Mask, hold
from effi.seeds import derive, generator, seeded
from effi.training import optimizers, parallel, replay
from effi.training.checkpoint import Checkpoint
from effi.training.evaluation import Tally, batches, rows_at_once, tally
from effi.training.history import History
from effi.training.networks import Headless, Network, Single
from effi.training.objectives import Classification, LanguageModelling, Objective, fitting
from effi.training.ranks import ALONE, world
from effi.training.replay import USUAL, Replay
from effi.training.settings import Training
from effi.training.snapshot import restore, snapshot
from effi.training.step import Listener, Step

Data = Dataset | TextDataset
PaperFlops = Callable[[Step, int], int]
CLASSES = Classification()


def fit(
    models: nn.Module | Sequence[nn.Module],
    data: Data,
    training: Training,
    *,
    objective: Objective = CLASSES,
    seeds: Sequence[int],
    ledger: Ledger,
    before_step: Sequence[Listener] = (),
    after_step: Sequence[Listener] = (),
    mask: Mask | None = None,
    first_epoch: int = 0,
    paper_flops: PaperFlops | None = None,
    checkpoint: Path | None = None,
) -> list[History]:
    """Train one model, or one per seed side by side on one device, on `data.train`; a History per seed.

    Order, augmentation and dropout come from streams of their own; seeds trained together share that of dropout.
    `before_step` listeners see gradients, `after_step` the new weights. What the mask prunes of a single model stays
    zero. A schedule can be entered at `first_epoch`. `paper_flops(step, executed)` counts a step as the paper does.
    `checkpoint` names files from which a training that was cut off goes on, to the same bits. Under `ledger.dry_run`
    one step is measured, or with a pace its FLOPs are counted, for all.
    With `training.parallel` the processes that torchrun started make it together: batches, their order and the masks
    are those of one process, losses and weights up to rounding; dropout is drawn by each process from a stream of its
    own. FLOPs are those of whole batches, seconds those of the first process.
    Raises TrainingError when a loss is not a number and where processes hold different masks, ParameterError for a mask
    over several models, for a checkpoint that an earlier training of the same ledger goes on from, and for what several
    processes cannot share.
    """
    models = [models] if isinstance(models, nn.Module) else list(models)
    network = parallel.network(models, training)
    loop = Loop(network, models[0], data, training, objective, tuple(seeds), ledger, first_epoch)
    loop.before_step, loop.after_step, loop.paper_flops = tuple(before_step), tuple(after_step), paper_flops
    parallel.check_listeners(network, (*before_step, *after_step))
    replay.check(training, before_step, [*after_step, objective, *models[0].modules()])
    if mask is not None:
        loop.step.hold(mask)
    with seeded(loop.histories[0].seed, loop.ranks.named("dropout"), loop.device):
        try:
            if ledger.dry_run:
                loop.rehearse()
                return loop.histories
            loop.run(None if checkpoint is None else loop.checkpoint(checkpoint))
        finally:
            if loop.replay is not None:  # what it captured holds memory that nobody else is given
                loop.replay.forget()
    loop.weigh()
    loop.forward = loop.shared = network  # what exchanges gradients ends with the training
    network.finish()
    if ledger.keep:
        ledger.keep(models, data)
    return loop.histories


def stepper(
    model: nn.Module, data: Data, training: Training, *, objective: Objective = CLASSES, seed: int = 0
) -> Callable[[], object]:
    """A call that makes one training step on one and the same batch: what `effi.cost.measure` times."""
    loop = Loop(Single(model), model, data, training, objective, (seed,), Ledger(str(data.train.inputs.device)))
    index_RB = loop.batch()
    return lambda: loop.update(index_RB)


class Loop:
    """State of one training: optimiser, streams, curves."""

    def __init__(
        self,
        network: Network,
        model: nn.Module,
        data: Data,
        training: Training,
        objective: Objective,
        seeds: tuple[int, ...],
        ledger: Ledger,
        first_epoch: int = 0,
    ) -> None:
        _check(data, training, objective)
        self.ranks = parallel.ranks(network, training, objective)
        self.network, self.model, self.data, self.training, self.objective = network, model, data, training, objective
        self.ledger, self.device, self.first_epoch = ledger, data.train.inputs.device, first_epoch
        self.per_epoch, self.steps = training.steps_of_epoch(len(data.train)), training.all_steps(len(data.train))
        self.histories = [History(seed) for seed in seeds]
        self.orders = [generator(seed, "order") for seed in seeds]
        self.augments = [generator(seed, "augment", self.device) for seed in seeds]
        self.replay = Replay(self.learn) if training.compile == "step" and replay.captures(self.device) else None
        with using(*training.kernels):
            self.optimizer = optimizers.make(network, model, training, steady=self.replay is not None)
        self.shared = parallel.over(network, self.ranks, lambda: data.prepare(data.train.inputs[:1])[None])
        mode = "reduce-overhead" if training.compile == "graphs" else None
        self.forward = torch.compile(self.shared, mode=mode) if training.compile else self.shared
        self.headless = Headless.of(self.shared) if isinstance(objective, LanguageModelling) else None
        if self.headless is not None and training.compile:
            self.headless.compile(mode=mode)
        auto = training.precision == "auto" and self.ranks.told(lambda: bf16_pays(self.device.type))
        self.bf16 = training.precision == "bf16" or auto
        self.flops: dict[tuple[str, int, torch.Size], int] = {}
        self.before_step: Sequence[Listener] = ()
        self.after_step: Sequence[Listener] = ()
        self.paper_flops: PaperFlops | None = None
        self.held: Held | None = None
        self.done = self.evaluated = first_epoch * self.per_epoch
        self.queue: list[Tensor] = []
        self.sums = self.no_sums()
        shown = model if isinstance(network, Single) else network
        self.step = Step(self.steps, shown, self.optimizer, ledger, self.hold)
        ledger.planned_steps = (ledger.planned_steps or 0) + self.steps - self.done

    def hold(self, mask: Mask) -> None:
        """Keep what the mask prunes at zero from now on."""
        if not isinstance(self.network, Single):
            raise ParameterError("a mask belongs to one model: train its seeds one by one (together=1)")
        self.ranks.check_alike(mask)
        self.held = hold(self.network.model, self.optimizer, mask, see_gradients=True)
        if self.replay is not None:
            self.replay.forget()

    def weigh(self) -> None:
        """Note the bytes that training holds per seed; a gradient is as large as its weight."""
        parameters = list(self.network.parameters())
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors = [*parameters, *(p for p in parameters if p.requires_grad), *filter(torch.is_tensor, moments)]
        held = sum(tensor.nbytes for tensor in tensors) // len(self.histories)
        for history in self.histories:
            # A mask is held twice: as flags, and as the stencil that clears weights.
            history.held_bytes = held + 2 * sum(kept.nbytes for kept in (self.step.mask or {}).values())

    # --- the run -------------------------------------------------------------------------------------------------

    def checkpoint(self, path: Path) -> Checkpoint | None:
        """A checkpoint of this training alone: another's would be taken for this one's end."""
        if path in self.ledger.checkpoints:
            raise ParameterError(f"an earlier training of this arm goes on from {path.name}; give this one a new name")
        self.ledger.checkpoints.add(path)
        if self.training.parallel:
            from effi.training.shards import Shards  # two seconds of import that few need

            return Shards(path, self.ranks, self.network.tensors())
        # Of processes that each make the whole training, one writes.
        return Checkpoint(path) if world().first else None

    def run(self, checkpoint: Checkpoint | None) -> None:
        """Train to the end, or from where a checkpoint stands."""
        if checkpoint is None:
            self._run(lambda: None)
            return
        self._resume(checkpoint)
        with checkpoint.until_ended():
            self._run(lambda: self._keep(checkpoint) if checkpoint.due() else None)
        # A short training is over before its record could be lost; a long one need not be made twice.
        if checkpoint.written:
            self._save(checkpoint)

    def _run(self, after_each: Callable[[], None]) -> None:
        with tqdm(total=self.steps, initial=self.done, disable=None, leave=False, unit="step") as bar:
            while self.evaluated < self.steps:
                self._train_until(self._next_evaluation(), after_each, bar)
                with self.ledger.phase("evaluate"), using(*self.training.kernels):
                    validated = self.validate(self.data.validation)
                self._note(validated)
                after_each()

    def _train_until(self, goal: int, after_each: Callable[[], None], bar: tqdm[Any]) -> None:
        with self.ledger.phase("train"):
            self.network.train()
            while self.done < goal:
                self.sums += torch.stack(self.update(self.batch()))
                bar.update()
                after_each()

    def _next_evaluation(self) -> int:
        """The step after which the validation split is read next; the last one at the latest."""
        every, unit = self.training.evaluation()
        length = every * (self.per_epoch if unit == "epoch" else 1)
        following = (math.floor(self.evaluated / length + 1e-9) + 1) * length
        return min(self.steps, math.ceil(following - 1e-9))

    def _resume(self, checkpoint: Checkpoint) -> None:
        kept, lost = checkpoint.load(), checkpoint.lost()
        if kept is not None:
            restore(self, kept, lost, checkpoint.file)
            self.network.eval()  # as after any evaluation, should this be the end
        elif lost:
            self.ledger.charge("lost", 0, lost)

    def _keep(self, checkpoint: Checkpoint) -> None:
        self._save(checkpoint)
        checkpoint.leave()

    def _save(self, checkpoint: Checkpoint) -> None:
        with self.ledger.phase("checkpoint", aside=True):
            checkpoint.save(snapshot(self))

    def rehearse(self) -> None:
        """Warm up, then measure one step; a first call compiles, and of CUDA graphs a later one records."""
        index_RB, steps = self.batch(), self.steps - self.done
        if self.ledger.pace is not None:
            self._tell_rate()
            with self.ledger.rehearsed(steps):
                self._count(self._flops("train", self.inputs(index_RB, slice(None))))
            return
        ledger, self.ledger = self.ledger, Ledger(str(self.device))
        with self.ledger.phase("train"):
            for _ in range({"graphs": 2, "step": USUAL + 1}.get(str(self.training.compile), 1)):
                self.update(index_RB)
        warm, self.ledger = self.ledger, ledger
        with self.ledger.rehearsed(steps) as train:
            self.update(index_RB)
        if self.training.compile in ("graphs", "step"):  # what a graph needs is not seen when it is replayed
            train.peak_bytes = most(train.peak_bytes, warm.total()["peak_bytes"])

    # --- a step --------------------------------------------------------------------------------------------------

    def batch(self) -> Tensor:
        """Indices (R, B) of the next batch, each replica in an order of its own."""
        if on_disk(self.data.train.inputs) is not None:
            return self._computed_batch()
        if not self.queue:
            count = len(self.data.train)
            order = torch.stack([torch.randperm(count, generator=stream) for stream in self.orders])
            self.queue = list(order.to(self.device).split(self.training.batch_size, dim=1))[::-1]
        return self.queue.pop()

    def _computed_batch(self) -> Tensor:
        """Of a set on disk: an order of all its examples would be held for an epoch."""
        count, size = len(self.data.train), self.training.batch_size
        draws = [Draws(count, size, derive(history.seed, "order")) for history in self.histories]
        return torch.stack([each.batch(self.done) for each in draws]).to(self.device)

    def inputs(self, index_RB: Tensor, rows: slice) -> Tensor:
        """What the model reads of rows of a training batch, augmented: (R, B, C, H, W) or ids (R, B, T)."""
        inputs = self.data.train.inputs
        if isinstance(self.data, TextDataset):
            return self.data.prepare(inputs[index_RB])[:, rows]  # cut at the longest text of all rows
        if not self.training.augment:
            return self.data.prepare(inputs[index_RB[:, rows]])
        # Drawn for all rows, so that each has the same draws whoever takes it.
        pairs = zip(inputs[index_RB], self.augments, strict=True)
        drawn = torch.stack([augment(part, self.training.augment, stream) for part, stream in pairs])
        return self.data.prepare(drawn[:, rows])

    def update(self, index_RB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One optimiser step; this process's sums of losses, hits and labels (R,) stay on the device, unread."""
        with using(*self.training.kernels):
            return self._update(index_RB)

    def _update(self, index_RB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self._tell_rate()
        sums = self._step(index_RB) if self.replay is None else self._replayed(self.replay, index_RB)
        self.done += 1
        for listener in self.after_step:
            listener(self.step)
        return sums

    def _step(self, index_RB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sums = self._backward(index_RB)
        for listener in self.before_step:
            listener(self.step)
        if not self.step.skipped:
            self._optimise()
        self.optimizer.zero_grad()
        return sums

    def _replayed(self, replay: Replay, index_RB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_RB, labels_RB = self.inputs(index_RB, slice(None)), self.data.train.labels[index_RB]
        losses, hits, counted = replay(x_RB, labels_RB, version=getattr(self.model, "flops_version", 0))
        self._count(self._flops("train", x_RB))
        return losses, hits, counted

    def learn(self, x_RB: Tensor, labels_RB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Forward and backward pass and the optimiser's step of a whole batch; sums of losses, hits and labels (R,)."""
        counted = self.objective.counted(labels_RB).flatten(1).sum(1)
        losses, hits = self._gradients(x_RB, labels_RB, counted)
        self._optimise()
        self.optimizer.zero_grad()
        return losses, hits, counted

    def _tell_rate(self) -> None:
        rate = self.training.rate(self.done, self.steps)
        for group in self.optimizer.param_groups:
            optimizers.tell(group, rate * group["scale"])
        step = self.step
        step.index, step.epoch, step.rate, step.skipped = self.done + 1, self.done // self.per_epoch + 1, rate, False

    def _backward(self, index_RB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the mean loss of a batch, in as many parts as the settings say."""
        counted = self.objective.counted(self.data.train.labels[index_RB]).flatten(1).sum(1)
        *early, last = index_RB.chunk(self.training.accumulate, dim=1)
        with parallel.exchanging(self.shared, now=False):
            parts = [self._part(part, counted) for part in early]
        with parallel.exchanging(self.shared, now=True):
            parts.append(self._part(last, counted))
        losses, hits, flops = (sum(each[1:], each[0]) for each in zip(*parts, strict=True))
        self._count(flops)
        return losses, hits, self.ranks.first * counted

    def _count(self, flops: int) -> None:
        self.ledger.add_flops(flops, self.paper_flops(self.step, flops) if self.paper_flops else flops)

    def _part(self, index_RB: Tensor, counted_R: Tensor) -> tuple[Tensor, Tensor, int]:
        """Add the gradients of a part of a batch; its sums of losses and hits (R,), and its FLOPs."""
        rows, times = self.ranks.rows(index_RB.shape[1])
        x_RB = self.inputs(index_RB, rows)
        losses_R, met_R = self._gradients(x_RB, self.data.train.labels[index_RB[:, rows]], counted_R, times)
        whole_RB = x_RB if self.ranks.size == 1 else x_RB[:, :1].expand(-1, index_RB.shape[1], *x_RB.shape[2:])
        return losses_R, met_R, self._flops("train", whole_RB)

    def _gradients(self, x_RB: Tensor, labels_RB: Tensor, counted_R: Tensor, times: float = 1) -> tuple[Tensor, Tensor]:
        """Add those of rows of a batch; their sums of losses and hits (R,)."""
        losses, hits = self._judged(x_RB, labels_RB)
        loss_R = times * losses.flatten(1).sum(1)
        # A batch of text may happen to hide no token: it teaches nothing. Gradients are means over processes.
        (self.ranks.size * loss_R / counted_R.clamp_min(1)).sum().backward()
        met_R = torch.zeros_like(counted_R) if hits is None else times * hits.flatten(1).sum(1)
        return loss_R.detach(), met_R

    def _judged(self, x_RB: Tensor, labels_RB: Tensor) -> tuple[Tensor, Tensor | None]:
        """Losses and hits of each label; by a kernel, all logits of a language model are never held."""
        headless, matrix = self.headless, None if self.headless is None else self.headless.matrix
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if headless and matrix is not None and takes("cross_entropy", self.device, x_RB.numel() * len(matrix)):
                hidden = headless(x_RB)
                return cross_entropy(hidden, matrix, fitting(labels_RB, hidden, self.objective), ignored=IGNORED)
            outputs = self.forward(x_RB).float()
        labels = fitting(labels_RB, outputs, self.objective)
        return self.objective.losses(outputs, labels), self.objective.hits(outputs.detach(), labels)

    def _optimise(self) -> None:
        # A step that masks gradients itself saves a pass over them, unless clipping reads them first.
        if self.held is not None and (self.training.clip or not self.held.in_step):
            self.held.zero_gradients()
        if self.training.clip:
            self.network.clip(self.training.clip)
        self.optimizer.step()

    # --- evaluation ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self, examples: Examples) -> list[dict[str, float]]:
        """Means of the objective of every replica on the same examples."""
        self.network.eval()
        for inputs, _ in batches(examples):
            self.ledger.add_flops(self._flops("evaluate", self.data.prepare(inputs)[None]))
        if isinstance(self.network, Single):
            # A sharded model is put together for each batch by all processes, so that none may have fewer.
            turns = ALONE if isinstance(self.network, parallel.Sharded) else self.ranks
            return [tally(self.network.model, examples, self.data, self.objective, turns).means()]
        tallies = [Tally() for _ in self.histories]
        for inputs, labels in batches(examples):
            x_B = self.data.prepare(inputs)
            spans = rows_at_once(x_B, self.data, len(tallies)) if self.objective.per_token else [slice(None)]
            for rows in spans:
                self._add_validated(tallies, x_B[rows], labels[rows])
        return [found.means() for found in tallies]

    def _add_validated(self, tallies: Sequence[Tally], x_B: Tensor, labels: Tensor) -> None:
        outputs_R = self.network(x_B.expand(len(tallies), *x_B.shape)).float()
        for found, outputs in zip(tallies, outputs_R, strict=True):
            found.add(outputs, labels, self.objective)

    def _flops(self, phase: str, x_RB: Tensor) -> int:
        """FLOPs of a batch, asked of the model for every shape, and anew when its `flops_version` is another one."""
        key = phase, getattr(self.model, "flops_version", 0), x_RB.shape
        if key not in self.flops:
            one = train_flops(self.model, x_RB[0]) if phase == "train" else _forward(self.model, x_RB[0])
            self.flops[key] = one * len(self.histories)
        return self.flops[key]

    def no_sums(self) -> Tensor:
        """Sums of losses, hits and labels (3, R) since the last evaluation, before there are any."""
        return torch.zeros(3, len(self.histories), dtype=torch.float64, device=self.device)

    def _note(self, validated: list[dict[str, float]]) -> None:
        """Keep curves and best weights; a place on a curve is the cost of one seed so far."""
        loss, hits, counted = self.ranks.total(self.sums)
        losses, accuracies = (loss / counted).tolist(), (hits / counted).tolist()
        flops, seconds = (value / len(self.histories) for value in self.ledger.spent())
        epoch = self.done / self.per_epoch
        for history, trained, accuracy, means in zip(self.histories, losses, accuracies, validated, strict=True):
            if not math.isfinite(trained) or not math.isfinite(means["loss"]):
                raise TrainingError(
                    f"the loss of seed {history.seed} is not a number in epoch {math.ceil(epoch)}; lower the learning "
                    f"rate (now {self.training.lr:g}), warm up, or clip the gradients"
                )
            if means["loss"] < min(history.curves.get("validation_loss", [math.inf])):
                history.best_epoch = _whole(epoch - self.first_epoch)
                history.best_state = self.network.state(self.histories.index(history))
            own = {"loss": trained} | ({"accuracy": accuracy} if "accuracy" in means else {})
            history.append(**{f"train_{name}": value for name, value in own.items()})
            history.append(**{f"validation_{name}": value for name, value in means.items()})
            history.append(step=self.done, flops=flops, seconds=seconds)
        self.evaluated, self.sums = self.done, self.no_sums()


def _check(data: Data, training: Training, objective: Objective) -> None:
    if training.augment and isinstance(data, TextDataset | PairDataset):
        held = "is text" if isinstance(data, TextDataset) else "has captions beside its images"
        raise ParameterError(f"{data.name} {held}, which no augmentation fits; leave augment empty")
    if training.accumulate > 1 and objective.whole:
        raise ParameterError("a contrastive batch is taken whole: leave accumulate at 1, or make the batch smaller")


def _whole(value: float) -> float:
    return round(value) if abs(value - round(value)) < 1e-9 else value


def _forward(model: nn.Module, example: Tensor) -> int:
    return sum(forward_flops(model, example).values())


@cache
def bf16_pays(device_type: str) -> bool:
    """Whether a linear layer's training step is at least 1.3 times faster in bf16; always on a GPU, probed on a CPU.

    Not every CPU with bf16 instructions gains: converting activations can cost more than the products save.
    """
    if device_type != "cpu":
        return True
    seconds: dict[bool, float] = {}
    for bf16 in (False, True):
        layer, x = nn.Linear(128, 512), torch.randn(4096, 128, requires_grad=True)
        for _ in range(3):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                nn.functional.gelu(layer(x)).float().sum().backward()
            seconds[bf16] = min(seconds.get(bf16, math.inf), time.perf_counter() - start)
    return seconds[False] > 1.3 * seconds[True]
