"""Trainings that begin shallow: which layers are copies of which, what rests, and what each stage takes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from effi.cost import count_flops
from effi.errors import ParameterError
from effi.ligo.partly import Partly
from effi.ligo.progressive import Progressive, Stage, deepened
from effi.ligo.trained import stack
from tests.ligo.toy import STEPS, task
from tests.training.conftest import one_thread as one_thread

STACKED = Progressive((Stage(0.5, 0.25), Stage(1, 0.75)))
LAYERWISE = Progressive((Stage(0.5, 0.25), Stage(1, 0.25, above=True), Stage(1, 0.5)), "top")


def layers(model: nn.Module) -> list[torch.Tensor]:
    return [block.attention.qkv.weight for block in model.blocks]


@pytest.mark.parametrize(("copy", "wanted"), [("all", [0, 1, 2, 0]), ("top", [0, 1, 2, 2])])
def test_new_layers_are_copies(copy, wanted) -> None:
    one = task()
    shallow, deep = one.of_depth(3), one.of_depth(4)
    grown = deepened(shallow, deep, copy)
    assert grown.keys() == dict(deep.named_parameters()).keys()
    for layer, source in enumerate(wanted):
        assert torch.equal(grown[f"blocks.{layer}.attention.qkv.weight"], layers(shallow)[source])
    assert torch.equal(grown["embedding.weight"], shallow.embedding.weight)


@pytest.mark.parametrize("copy", ["all", "top"])
def test_a_deep_model_of_copies_twice_as_deep_has_each_layer_twice(copy) -> None:
    one = task()
    shallow = one.of_depth(2)
    grown = deepened(shallow, one.model, copy)
    assert [torch.equal(grown[f"blocks.{k}.mlp.0.weight"], shallow.blocks[k % 2].mlp[0].weight) for k in range(4)]


def test_what_lies_below_rests_and_a_tied_embedding_is_trained_as_head_alone() -> None:
    one = task()
    x = one.data.prepare(one.data.train.inputs[:4])
    model = one.model
    hidden = model.hidden(x).detach()
    (model.head(hidden).square().mean()).backward()
    head = model.embedding.weight.grad.clone()
    model.zero_grad()
    Partly(model, stack(model), 2)(x).square().mean().backward()
    torch.testing.assert_close(model.embedding.weight.grad, head)
    assert [weight.grad is None for weight in layers(model)] == [True, True, False, False]
    assert model.positions.weight.grad is None
    assert not model.blocks[2]._forward_pre_hooks


@pytest.mark.parametrize("kind", ["gpt", "vit", "bert"])
def test_flops_of_what_rests_are_its_forward(kind) -> None:
    one = task(kind)
    x = one.data.prepare(one.data.train.inputs[:4])
    upper = Partly(one.model, stack(one.model), 2)
    size = x.shape[:1] if kind == "vit" else x.shape
    # BERT's queries, keys and values read what rests itself, not a norm of it whose weights are trained.
    more = 3 * 2 * x.numel() * 24**2 if kind == "bert" else 0
    assert upper.train_flops(*size) - more == count_flops(lambda: upper(x).sum().backward())


def test_stages_are_one_training() -> None:
    one = task()
    curves = STACKED(one).history.curves
    assert curves["step"][0] == 0 and curves["step"][-1] == STEPS and curves["step"] == sorted(curves["step"])
    assert curves["steps/2x24"][-1] == STEPS / 4 and curves["steps/4x24"][-1] == STEPS * 3 / 4
    shallow, deep = (one.executed(model) for model in (one.of_depth(2), one.model))
    assert curves["spent_flops"][-1] == STEPS / 4 * shallow + STEPS * 3 / 4 * deep
    paper = [one.paper_step(model) for model in (one.of_depth(2), one.model)]
    assert curves["spent_paper_flops"][-1] == STEPS / 4 * paper[0] + STEPS * 3 / 4 * paper[1]
    assert curves["validation_loss"][-1] < curves["validation_loss"][0]


def test_layers_below_stay_until_the_joint_phase() -> None:
    kept = {}
    one = task()
    early = Progressive((Stage(0.5, 0.5), Stage(1, 0.5, above=True)), "top")
    history = early(one).history
    assert history.curves["steps/4x24-above2"][-1] == STEPS / 2
    kept = layers(one.model)
    # A copy of the lower half that was trained on: the upper has moved away from it, and the lower is the shallow one.
    first = task()
    shallow = Progressive((Stage(0.5, 0.5), Stage(1, 0.5, above=True)), "top")
    counts = shallow.steps(STEPS)
    model = first.of_depth(2)
    first.fit(model, shallow.trainings(first.training, counts)[0], kind="2x24", paper_step=first.paper_step(model))
    assert torch.equal(kept[0], layers(model)[0]) and torch.equal(kept[1], layers(model)[1])
    assert not torch.equal(kept[2], kept[0])


def test_each_stage_has_the_full_rate_and_the_last_lets_it_fall() -> None:
    counts = LAYERWISE.steps(STEPS)
    trainings = LAYERWISE.trainings(task().training, counts)
    assert counts == [6, 6, 12]
    assert [each.rate(counts[k] - 1, counts[k]) for k, each in enumerate(trainings[:2])] == [1e-2, 1e-2]
    assert trainings[-1].rate(11, 12) < 2e-3


@pytest.mark.parametrize(
    "stages",
    [
        (Stage(1, 0.5), Stage(0.5, 0.5)),
        (Stage(0.5, 1.0),),
        (Stage(0.5, 0.5), Stage(1, 0.4)),
    ],
)
def test_stages_that_do_not_grow_are_refused(stages) -> None:
    with pytest.raises(ParameterError, match="give shares of the layers that do not fall and end at 1"):
        Progressive(stages)
