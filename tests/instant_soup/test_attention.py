"""Masked training of attention: torch's own pruning leaves the output projection stale, ours trains it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from effi import masks

LR, STEPS = 1e-2, 5


class Layers(nn.Module):
    """A stack of torch's own encoder layers, for images as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2))

    def forward(self, x_BTN: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x_BTN = layer(x_BTN)
        return x_BTN


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return nn.MultiheadAttention(16, 2, batch_first=True)


def train(attention, optimizer, **backward) -> None:
    """Steps on one batch, so that every weight goes about LR in each."""
    x_BTN = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(1))
    for _ in range(STEPS):
        attention(x_BTN, x_BTN, x_BTN)[0].square().mean().backward(**backward)
        optimizer.step()
        optimizer.zero_grad()


def test_torch_pruning_leaves_the_output_projection_stale(attention):
    """nn.MultiheadAttention reads `out_proj.weight` itself: the hook that multiplies weight by mask never runs."""
    prune.random_unstructured(attention, "in_proj_weight", 0.5)
    prune.random_unstructured(attention.out_proj, "weight", 0.5)
    effective = {"in": attention.in_proj_weight.detach().clone(), "out": attention.out_proj.weight.detach().clone()}
    stored = attention.out_proj.weight_orig.detach().clone()
    train(attention, torch.optim.AdamW(attention.parameters(), lr=LR), retain_graph=True)
    attention(*[torch.zeros(1, 1, 16)] * 3)  # hooks make weights when a module runs
    moved = (attention.in_proj_weight - effective["in"]).abs().max().item()
    drifted = (attention.out_proj.weight_orig - stored).abs().max().item()
    stale = (attention.out_proj.weight - effective["out"]).abs().max().item()
    print(f"torch {torch.__version__}: in_proj {moved:.3f}, weight_orig {drifted:.3f}, out_proj {stale:.3f}")
    assert moved == pytest.approx(STEPS * LR, rel=0.2) and drifted == pytest.approx(STEPS * LR, rel=0.2)
    assert stale == 0
    assert not torch.equal(attention.out_proj.weight, attention.out_proj.weight_orig * attention.out_proj.weight_mask)


def test_a_held_mask_trains_the_output_projection(attention):
    weights = {"in_proj_weight": attention.in_proj_weight, "out_proj.weight": attention.out_proj.weight}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    mask = masks.random(weights, 0.5, scope="tensor", generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(attention.parameters(), lr=LR)
    masks.hold(attention, optimizer, mask)
    train(attention, optimizer)
    for name, kept in mask.items():
        moved = (weights[name].detach() - before[name]).abs()
        assert not weights[name][~kept].any()
        assert float(moved[kept].max()) == pytest.approx(STEPS * LR, rel=0.2), name
        assert float((moved[kept] > 0).float().mean()) > 0.99, name


def test_all_matrices_of_torch_layers_are_prunable_and_trained():
    torch.manual_seed(0)
    model = Layers()
    weights = masks.prunable(model)
    inside = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
    assert set(weights) == {f"layers.{layer}.{name}" for layer in range(2) for name in inside}
    mask = masks.magnitude(weights, 0.7)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    masks.hold(model, optimizer, mask)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    goal = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(2))
    (model(torch.ones(4, 6, 16)) * goal).sum().backward()
    optimizer.step()
    for name, kept in mask.items():
        assert (weights[name] != before[name])[kept].any() and not weights[name][~kept].any(), name
