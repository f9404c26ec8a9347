"""Trainings that begin shallow and take their own layers over into deeper models: StackBERT and MSLT."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import ClassVar, Literal

from torch import Tensor, nn

from effi.axes import depth, layered
from effi.errors import ParameterError
from effi.ligo.partly import Partly
from effi.ligo.pieces import place
from effi.ligo.task import Task
from effi.ligo.trained import Trained, before, begun, joined, stack
from effi.training import History, Training

Copy = Literal["all", "top"]


@dataclass(frozen=True)
class Stage:
    """A part of a training, a `share` of its steps, with a part of its layers, the share `layers` of all.

    `above`: only layers that are new in it are trained, and the head.
    """

    layers: float
    share: float
    above: bool = False


@dataclass(frozen=True)
class Progressive:
    """A training whose model gets deeper with each stage, the last of which has all layers.

    New layers are copies: "all" stacks the model on itself (StackBERT, Gong et al. 2019), "top" puts its highest ones
    on top (MSLT, Yang et al. 2020). Each stage warms up and has the full rate, which falls in the last alone.
    ParameterError for stages that get shallower, do not end with all layers, or whose shares are not 1 together.
    """

    grows: ClassVar[bool] = False
    stages: tuple[Stage, ...]
    copy: Copy = "all"

    def __post_init__(self) -> None:
        layers, shares = [each.layers for each in self.stages], [each.share for each in self.stages]
        grows = all(low <= high for low, high in pairwise(layers)) and layers[-1] == 1 and layers[0] > 0
        if not grows or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
            raise ParameterError(
                f"stages with {layers} of the layers for {shares} of the steps: give shares of the layers that do not "
                "fall and end at 1, and shares of the steps that are 1 together"
            )

    def __call__(self, task: Task) -> Trained:
        model = self._begin(task)
        first, histories = before(task, model), list[History]()
        steps = self.steps(task.steps)
        for stage, how, name in zip(self.stages, self.trainings(task.training, steps), self.names(), strict=True):
            model, old = self._deeper(task, model, stage), len_of(model)
            histories.append(_trained(task, model, how, old if stage.above else 0, name))
        return Trained(begun(joined(histories), first))

    def _begin(self, task: Task) -> nn.Module:
        count = self.depth_of(task, self.stages[0])
        return task.model if count == len_of(task.model) else task.of_depth(count)

    def depth_of(self, task: Task, stage: Stage) -> int:
        """Layers of a stage."""
        return max(1, round(stage.layers * len_of(task.model)))

    def _deeper(self, task: Task, model: nn.Module, stage: Stage) -> nn.Module:
        """A model of the stage's depth with the layers of the last one, which it is where it is as deep."""
        count = self.depth_of(task, stage)
        if count == len_of(model):
            return model
        deep = task.model if count == len_of(task.model) else task.of_depth(count)
        place(deep, deepened(model, deep, self.copy))
        return deep

    def steps(self, steps: int) -> list[int]:
        """Steps of each stage, which are at least 1 and as many together."""
        ends = [round(steps * share) for share in accumulate(each.share for each in self.stages)]
        return [max(1, end - start) for start, end in pairwise([0, *ends])]

    def names(self) -> list[str]:
        """What the checkpoint of each stage is called; that of the last is the arm's own."""
        return [*(f"stage{number}" for number, _ in enumerate(self.stages[1:], 1)), ""]

    def trainings(self, main: Training, steps: list[int]) -> list[Training]:
        """How each stage is trained."""
        early = [replace(main, epochs=None, steps=count, schedule="constant") for count in steps[:-1]]
        return [*early, replace(main, epochs=None, steps=steps[-1])]


def _trained(task: Task, model: nn.Module, how: Training, first: int, name: str) -> History:
    """Train the layers from `first` on."""
    kind, paper_step = task.kind(model), task.paper_step(model)
    if first:
        kind, paper_step = f"{kind}-above{first}", paper_step - how.batch_size * first * task.sizes(model).block()
        model = Partly(model, stack(model), first)
    return task.fit(model, how, kind=kind, paper_step=paper_step, name=name)


def len_of(model: nn.Module) -> int:
    """Layers of a model's only stack."""
    return depth(model)[stack(model)]


def deepened(shallow: nn.Module, deep: nn.Module, copy: Copy = "all") -> dict[str, Tensor]:
    """All weights of the deep model by name: those of the shallow one, new layers as copies of others.

    Of n layers layer i is a copy of i mod n ("all"), or of one of the highest, in order ("top").
    """
    own, count = dict(shallow.named_parameters()), len_of(shallow)
    new = len_of(deep) - count
    names = {(each.stack, each.layer, each.role): name for name, each in layered(shallow).items()}

    def copied(layer: int) -> int:
        return layer % count if copy == "all" or layer < count else count - min(new, count) + (layer - count) % count

    return {
        name: own[names[each.stack, None if each.layer is None else copied(each.layer), each.role]].detach()
        for name, each in layered(deep).items()
    }
