"""Mixed Sparsity Training timed by its phases: a step of each beside the dense one, and a pass through all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from effi import masks
from effi.bench.gpts import Precision, Shape, corpus
from effi.bench.peers import tried
from effi.bench.rounds import Case, Competitor
from effi.cost import Ledger
from effi.kernels import using
from effi.mixed_sparsity import Evolution, HybridAttention, MixedSparsity, Pattern, Phases, erdos_renyi
from effi.mixed_sparsity.course import head_of
from effi.models.gpt import GPT
from effi.models.language import TextSize
from effi.training import LanguageModelling, Training
from effi.training.loop import Loop
from effi.training.networks import Single

WIDE, BATCH = Shape(TextSize(width=512, depth=4, heads=8, hidden=2048), 512, 4096), 4
PHASES, BLOCKS = Phases(0.9, warmup=0.1, restoration=0.1), 64
MASKED = (0.8, 0.9)
PARTS = 20  # of a schedule, and steps from one update to the next: a training has a fifth of the updates
ENDLESS = 10**9  # steps of a training that never ends, and from an update to one that never comes


@dataclass(frozen=True)
class Now:
    """What holds in a step: a sparsity, of `blocks` or of single weights, and perhaps attention in a merged window."""

    sparsity: float = 0.0
    blocks: int | None = None
    window: int | None = None
    compiled: bool = False


@dataclass(frozen=True)
class Machine:
    """Where and how steps are made: `dense` kernels in all, `kernels` in sparse ones, too.

    Where it compiles, the dense step is also made by torch.compile.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    dense: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    compiles: bool = False


CPU = Machine()
GPU = Machine("cuda", "bf16", ("cudnn",), ("adamw", "attention", "block_sparse", "selection"), compiles=True)


def steps(
    shape: Shape = WIDE,
    batch: int = BATCH,
    blocks: int = BLOCKS,
    phases: Phases = PHASES,
    parts: int = PARTS,
    machine: Machine = CPU,
) -> list[Case]:
    """A step in each phase, and the mean step of a whole schedule, of single weights and of blocks that live together.

    The head is pruned with the rest, and attention has a merged window of T / 8 until the restoration. The schedule is
    a step in the middle of each of so many `parts` of a training.
    """
    title, at = f"GPT {shape}, batch {batch}, {machine.precision}", partial(now, shape, phases)
    made = partial(steps_of, shape, batch, machine)
    middles = [(part + 0.5) / parts for part in range(parts)]
    through = {
        "dense": partial(made, [Now()] * parts),
        "masked": partial(made, [at(share, None) for share in middles], every=parts),
        f"blocks of {blocks}": partial(made, [at(share, blocks) for share in middles], every=parts),
    }
    single = dict(by_phase(made, at, phases, blocks))
    if machine.compiles:
        single["dense, compiled"] = partial(made, [Now(compiled=True)])
        through["dense, compiled"] = partial(made, [Now(compiled=True)] * parts)
    return [
        Case(f"{title}, by phase", "dense", single),
        Case(f"{title}, schedule to {100 * phases.ultra:g} %", "dense", through, calls=parts),
    ]


def by_phase(
    made: Callable[..., Competitor], at: Callable[[float, int | None], Now], phases: Phases, blocks: int
) -> Mapping[str, Callable[[], Competitor]]:
    """Single steps: with dense kernels under masks, with blocks in the middle of each phase, and one that updates."""
    middles = (phases.warmup / 2, (phases.warmup + 1 - phases.restoration) / 2, 1 - phases.restoration / 2)
    ways = {"dense": Now()} | {f"masked, {100 * sparsity:g} %": Now(sparsity) for sparsity in MASKED}
    ways |= {f"blocks of {blocks}, {phases.phase(share)}": at(share, blocks) for share in middles}
    found = {name: partial(made, [each]) for name, each in ways.items()}
    return found | {f"blocks of {blocks}, update": partial(made, [at(middles[1], blocks)], every=1)}


def now(shape: Shape, phases: Phases, share: float, blocks: int | None) -> Now:
    """What a schedule has come to at a share of the training."""
    window = None if phases.phase(share) == "restoration" else max(1, shape.context // 8)
    return Now(phases.sparsity(share), blocks, window)


def steps_of(shape: Shape, batch: int, machine: Machine, course: Sequence[Now], every: int = ENDLESS) -> Competitor:
    """Steps of our training loop in a row, with a model for each state, and updates after `every` steps of each."""
    loops = {each: loop(shape, batch, each, every, machine) for each in dict.fromkeys(course)}
    indices = {each: made.batch() for each, made in loops.items()}
    models = {each: cast(GPT, made.model) for each, made in loops.items()}
    with using(*machine.kernels):  # which decide what is multiplied
        flops = sum(models[each].train_flops(batch, shape.context) for each in course) // len(course)
    parameters = sum(weight.numel() for weight in models[course[0]].parameters())

    def pass_through() -> None:
        for each in course:
            loops[each].update(indices[each])

    compiled = any(each.compiled for each in course)
    return Competitor(tried(pass_through) if compiled else pass_through, parameters, flops)


def loop(shape: Shape, batch: int, state: Now, every: int, machine: Machine = CPU) -> Loop:
    """A training that stays as it is, but for updates of its mask: random at first, by Erdős-Rényi."""
    device = machine.device
    model, data = GPT(shape.vocabulary, shape.context, shape.size).to(device), corpus(shape, batch).to(device)
    how: dict[str, Any] = {"optimizer": "adamw", "lr": 1e-4, "betas": (0.9, 0.95), "weight_decay": 0.1, "clip": 1.0}
    kernels = (*machine.dense, *(machine.kernels if state.sparsity or state.blocks else ()))
    how |= {"precision": machine.precision, "kernels": kernels, "compile": state.compiled}
    training = Training(steps=ENDLESS, batch_size=batch, **how)
    made = Loop(Single(model), model, data, training, LanguageModelling(), (0,), Ledger(device))
    if state.window is not None:
        model.attention = HybridAttention(Pattern("merged", state.window))
    if state.sparsity or state.blocks:
        method = sparse(model, state, every)
        made.before_step = [method]
        made.step.hold(method.mask)
    return made


def sparse(model: GPT, state: Now, every: int) -> MixedSparsity:
    """A constant sparsity of all matrices, the head's too."""
    names, phases = list(masks.prunable(model, include=[head_of(model)])), Phases(state.sparsity, 0, 0)
    return MixedSparsity(model, phases, erdos_renyi, Evolution(every), names=names, seed=0, blocks=state.blocks)
