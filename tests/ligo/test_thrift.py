"""What a step leaves out: how much by each rule, that FLOPs say so, and that the model is whole again afterwards."""

from __future__ import annotations

import math

import pytest
import torch

from effi.cost import count_flops
from effi.errors import ParameterError
from effi.ligo.clock import Clock
from effi.ligo.thrift import LayerDrop, SubNetworks, Thrift, Thrifty, TokenDrop
from effi.ligo.trained import ordinary, stack
from tests.ligo.toy import STEPS, task
from tests.training.conftest import one_thread as one_thread

RULES = (LayerDrop(0.6), TokenDrop(0.25), SubNetworks(0.5))


def thrifty(kind: str, rule: Thrift, passed: float = 1.0) -> Thrifty:
    model = task(kind).model
    return Thrifty(model, stack(model), rule, Clock(passed))


@pytest.mark.parametrize("kind", ["gpt", "vit", "bert"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_flops_are_those_that_a_counter_sees(kind, rule) -> None:
    one, x = thrifty(kind, rule, 0.1), task(kind).data
    read = x.prepare(x.train.inputs[:4])
    size = read.shape[:1] if kind == "vit" else read.shape
    for seed in range(3):
        torch.manual_seed(seed)
        counted = count_flops(lambda: one(read).sum().backward())
        torch.manual_seed(seed)
        one(read)
        assert one.train_flops(*size) == counted
        one.zero_grad()


@pytest.mark.parametrize("kind", ["gpt", "vit", "bert"])
def test_nothing_is_left_out_of_an_evaluation_and_layers_are_back_in_their_places(kind) -> None:
    one = thrifty(kind, TokenDrop(0.5), 0.0)
    layers, data = list(one.layers), task(kind).data
    x = data.prepare(data.train.inputs[:4])
    one.train()
    one(x)
    assert list(one.layers) == layers
    one.eval()
    assert torch.equal(one(x), one.model(x))


def test_layers_rest_the_more_often_the_higher_they_lie_and_not_at_the_beginning() -> None:
    torch.manual_seed(0)
    rule = LayerDrop(0.4)
    assert rule.shares(8, 0.0) == [1.0] * 8
    drawn = torch.tensor([rule.shares(8, 0.02) for _ in range(4000)])
    wanted = 1 - 0.4 * (1 - math.exp(-2)) * torch.arange(1, 9) / 8
    assert torch.allclose(drawn.mean(0), wanted, atol=0.03)


def test_a_sub_network_is_the_lowest_layers_until_its_share_has_passed() -> None:
    torch.manual_seed(0)
    rule = SubNetworks(0.25)
    drawn = {tuple(rule.shares(8, 0.2)) for _ in range(100)}
    assert drawn == {tuple([1.0] * count + [0.0] * (8 - count)) for count in (2, 4, 6, 8)}
    assert rule.shares(8, 0.25) == [1.0] * 8


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_tokens_that_are_set_aside_pass_by_the_middle_alone(kind) -> None:
    torch.manual_seed(0)
    one = thrifty(kind, TokenDrop(0.25))
    assert one.rule.shares(4, 0.5) == [1, 1, 0.75, 1]
    seen = {}
    for place, layer in enumerate(one.layers):
        layer.register_forward_pre_hook(lambda _, read, place=place: seen.update({place: read[0].shape[1]}))
    data = task(kind).data
    one(data.prepare(data.train.inputs[:4]))
    assert seen == {0: 16, 1: 16, 2: 12, 3: 16} and one.read == [1, 1, 0.75, 1]


def test_a_training_spends_what_its_steps_read() -> None:
    whole = ordinary(task()).curves
    for rule in RULES:
        curves = ordinary(task(), rule).curves
        assert 0.5 < curves["spent_flops"][-1] / whole["spent_flops"][-1] < 1
        share = curves["spent_flops"][-1] / whole["spent_flops"][-1]
        assert curves["spent_paper_flops"][-1] / whole["spent_paper_flops"][-1] == pytest.approx(share, rel=1e-3)
        assert curves[f"steps/4x24-{type(rule).__name__}"][-1] == STEPS


def test_what_cannot_be_left_out_is_refused() -> None:
    for rule in (LayerDrop, TokenDrop, SubNetworks):
        with pytest.raises(ParameterError, match="of what a step leaves out: give more than 0 and less than 1"):
            rule(1.0)
