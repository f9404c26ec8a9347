"""A model of one's own: unknown until its block is described."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from effi.axes import Units, axes, describe, mask_units, slim, units, with_gates
from effi.axes.description import structure_of
from effi.errors import ParameterError
from effi.models.attention import SelfAttention, attend, join_heads, split_heads
from tests.axes.tiny import TINY, scattered

WIDTH, HEADS, HIDDEN = 12, 3, 10


class Parallel(nn.Module):
    """Attention and MLP side by side in one block, heads and neurons of one class."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = HEADS
        self.qkv, self.mix = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        return x + self.mix(join_heads(attend(q, k, v, 0.5))) + self.down(self.up(x).relu())


DIMENSIONS = {
    "qkv.weight": "heads:query+key+value width",
    "qkv.bias": "heads:query+key+value",
    "mix.weight": "width heads:value",
    "up.weight": "neurons width",
    "up.bias": "neurons",
    "down.weight": "width neurons",
    "down.bias": "width",
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Descriptions of a test end with it."""
    from effi.axes import description

    monkeypatch.setattr(description, "_STRUCTURES", dict(description._STRUCTURES))


def stack() -> nn.Module:
    return scattered(nn.Sequential(Parallel(), Parallel()))


def describe_parallel(**changes: str) -> None:
    describe(Parallel, DIMENSIONS | changes, heads=Units("mix", "heads"), neurons=Units("down"))


def test_an_unknown_model_says_how_to_describe_it():
    with pytest.raises(ParameterError, match=r"block of Sequential is known: describe .* effi.axes.describe\("):
        units(stack())


def test_a_described_block_is_slimmed_like_any_other():
    describe_parallel()
    model, x = stack(), torch.randn(2, 5, WIDTH)
    assert units(model) == {"0.heads": 3, "0.neurons": 10, "1.heads": 3, "1.neurons": 10}
    keep = {"0.heads": [2], "0.neurons": [0, 4], "1.neurons": [9]}
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, kept in mask_units(model, keep).items():
            masked.get_parameter(name).mul_(kept)
        assert (slim(model, keep)(x) - masked(x)).abs().max() < 1e-5
    assert axes(model)["1.mix.weight"] == ("width", "1.heads:value")
    assert with_gates(model).coefficients["1.heads"].shape == (3,)


def test_the_top_module_itself_may_be_the_block():
    describe_parallel()
    assert units(Parallel()) == {"heads": 3, "neurons": 10}
    assert slim(Parallel(), {"heads": [0]}).heads == 1


def test_a_description_must_name_its_units():
    with pytest.raises(ParameterError, match=r"no dimension of .*Parallel is called experts"):
        describe(Parallel, DIMENSIONS, experts=Units("down"))


def test_a_parameter_that_the_description_lacks_is_named():
    describe_parallel()
    model = stack()
    model[1].register_parameter("temperature", nn.Parameter(torch.ones(HEADS, 1, 1)))
    with pytest.raises(ParameterError, match=r"Parallel at 1 has a parameter temperature that its description lacks"):
        slim(model, {})


def test_a_description_holds_for_subclasses_that_compute_the_same():
    class Renamed(SelfAttention):
        pass

    class Different(SelfAttention):
        def forward(self, x_BTN: Tensor) -> Tensor:
            return x_BTN

    assert structure_of(Renamed) is structure_of(SelfAttention) is not None
    assert structure_of(Different) is None


def test_swin_version_two_is_not_taken_for_version_one():
    from torchvision.models.swin_transformer import ShiftedWindowAttentionV2

    assert structure_of(ShiftedWindowAttentionV2) is None


def test_attention_with_extra_weights_is_refused():
    model = TINY["torchvision ViT"].make()
    block = model.encoder.layers[0]
    block.self_attention = nn.MultiheadAttention(16, 4, add_bias_kv=True, batch_first=True)
    with pytest.raises(ParameterError, match=r"self_attention has a parameter bias_k"):
        units(model)
