"""Torch's counter against counts by hand; 2 FLOPs per multiply-add."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from effi.cost import count_flops, forward_flops, train_flops

B, T, N, H = 3, 5, 8, 2


class Attention(nn.Module):
    """q = k = v = x in H heads, then one projection."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(N, N)

    def forward(self, x_BTN: Tensor) -> Tensor:
        x_BHTD = x_BTN.unflatten(-1, (H, N // H)).transpose(1, 2)
        return self.project(scaled_dot_product_attention(x_BHTD, x_BHTD, x_BHTD).transpose(1, 2).flatten(2))


class Closed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("a model with closed forms is not run")

    def forward_flops(self, batch_size: int) -> dict[str, int]:
        return {"body": 10 * batch_size, "head": batch_size}

    def train_flops(self, batch_size: int) -> int:
        return 30 * batch_size


def test_a_linear_layer_forward_and_backward() -> None:
    layer, x = nn.Linear(N, 4), torch.randn(B, N)
    once = 2 * B * N * 4
    assert forward_flops(layer, x) == {"": once}
    assert train_flops(layer, x) == 2 * once  # forward, gradient of the weight; none of the input


def test_the_first_layer_alone_is_spared_its_input_gradient() -> None:
    model, x = nn.Sequential(nn.Linear(N, 4), nn.ReLU(), nn.Linear(4, 6)), torch.randn(B, N)
    first, second = 2 * B * N * 4, 2 * B * 4 * 6
    assert forward_flops(model, x) == {"0": first, "2": second}
    assert train_flops(model, x) == 2 * first + 3 * second


def test_a_convolution() -> None:
    layer, x = nn.Conv2d(3, 4, 2, stride=2), torch.randn(B, 3, 6, 6)
    assert sum(forward_flops(layer, x).values()) == 2 * B * 4 * 3 * 3 * (3 * 2 * 2)


def test_attention_counts_scores_and_mixture_on_a_cpu() -> None:
    model, x = Attention(), torch.randn(B, T, N)
    products = 2 * (2 * B * T * T * N)
    projection = 2 * B * T * N * N
    assert forward_flops(model, x) == {"": products, "project": projection}
    assert train_flops(model, x) == 2 * projection + products  # nothing before the projection needs a gradient


def test_attention_after_a_layer_pays_for_all_three_gradients() -> None:
    model, x = nn.Sequential(nn.Linear(N, N), Attention()), torch.randn(B, T, N)
    products, projection = 2 * (2 * B * T * T * N), 2 * B * T * N * N
    assert train_flops(model, x) == 2 * projection + 3 * projection + 3 * products


def test_why_the_math_backend_is_asked_for() -> None:
    """The trap this room avoids: by default the counter sees no attention on a CPU."""
    q = torch.randn(B, H, T, N // H)
    with FlopCounterMode(display=False) as counter:
        scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 0
    assert count_flops(lambda: scaled_dot_product_attention(q, q, q)) == 2 * (2 * B * T * T * N)


def test_encoder_layers_count_in_both_modes() -> None:
    """The fused path of nn.TransformerEncoderLayer in eval mode counts 0; with gradients on it is not taken."""
    layer, x = nn.TransformerEncoderLayer(N, H, 16, batch_first=True), torch.randn(B, T, N)
    by_hand = 4 * 2 * B * T * N * N + 2 * (2 * B * T * T * N) + 2 * (2 * B * T * N * 16)
    assert sum(forward_flops(layer.train(), x).values()) == sum(forward_flops(layer.eval(), x).values()) == by_hand


def test_closed_forms_of_a_model_come_first() -> None:
    x = torch.zeros(4, 2)
    assert forward_flops(Closed(), x) == {"body": 40, "head": 4} and train_flops(Closed(), x) == 120


def test_counting_leaves_model_and_random_state_alone() -> None:
    model, x = nn.Sequential(nn.Linear(N, 4), nn.BatchNorm1d(4), nn.Dropout()), torch.randn(B, N)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    train_flops(model, x)
    forward_flops(model, x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters()) and model.training
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("batch", [1, 7])
def test_the_count_is_proportional_to_the_batch(batch: int) -> None:
    model = Attention()
    one, many = (count_flops(lambda size=size: model(torch.zeros(size, T, N))) for size in (1, batch))
    assert many == batch * one
