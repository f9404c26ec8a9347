"""A slim model computes what the masked one computes, for every architecture, and is a model like any other."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from effi.axes import axes, mask_units, restore, slim, units, with_gates
from effi.errors import ParameterError
from tests.axes.tiny import HEADS, HIDDEN, SHAPE, TINY, WIDTH, Tiny, gpt2, language, scattered, unequal, words

# Models of block classes that another one has, left out where a test is slow.
SAME_BLOCKS = (
    "CIFAR ViT",
    "our Swin",
    "GPT-2 classifier",
    "RoBERTa",
    "our GPT-2",
    "our RoBERTa",
    "our MiniLM",
    "timm DeiT",
)
every = pytest.mark.parametrize("tiny", TINY.values(), ids=list(TINY))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def masked(model: nn.Module, keep: dict[str, list[int]]) -> nn.Module:
    """The model with the units that are not kept at zero."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, kept in mask_units(model, keep).items():
            model.get_parameter(name).mul_(kept)
    return model


@every
def test_slim_equals_masked(tiny: Tiny):
    model, inputs = scattered(tiny.make()), tiny.inputs()
    before, keep = copy.deepcopy(model.state_dict()), unequal(model)
    with torch.no_grad():
        whole, slimmed = model(*inputs), slim(model, keep)(*inputs)
        assert (slimmed - masked(model, keep)(*inputs)).abs().max() < 1e-5
        assert (slimmed - whole).abs().max() > 1e-3
        assert torch.equal(model(*inputs), whole)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every
def test_parameters_fall_by_the_closed_form(tiny: Tiny):
    model = tiny.make()
    keep, counts = unequal(model), units(model)
    removed = sum(
        (counts[axis] - len(kept)) * (tiny.head(axis) if axis.endswith("heads") else tiny.neuron(axis))
        + axis.endswith("heads") * (tiny.mixing(axis, counts[axis]) - tiny.mixing(axis, len(kept)))
        for axis, kept in keep.items()
    )
    smaller = slim(model, keep)
    assert parameters(model) - parameters(smaller) == removed
    assert units(smaller) == {axis: len(kept) for axis, kept in keep.items()}
    assert type(smaller) is type(model)


@every
def test_keeping_everything_changes_no_bit(tiny: Tiny):
    model, inputs = scattered(tiny.make()), tiny.inputs()
    whole = {axis: range(count) for axis, count in units(model).items()}
    for keep in ({}, whole):
        smaller = slim(model, keep)
        assert torch.equal(smaller(*inputs), model(*inputs))
        assert [type(module) for module in smaller.modules()] == [type(module) for module in model.modules()]
    assert all(kept.all() for kept in mask_units(model, whole).values())


@every
def test_it_trains(tiny: Tiny):
    model = tiny.make()
    smaller, inputs = slim(model.train(), unequal(model)), tiny.inputs()
    optimizer, losses = torch.optim.Adam(smaller.parameters(), lr=1e-3), []
    for _ in range(4):
        torch.manual_seed(0)
        logits = smaller(*inputs)
        loss = F.cross_entropy(logits.flatten(0, -2), torch.zeros(logits[..., 0].numel(), dtype=torch.long))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", [name for name in TINY if name not in SAME_BLOCKS])
def test_it_compiles(name: str):
    model, inputs = scattered(TINY[name].make()), TINY[name].inputs()
    smaller = slim(model, unequal(model))
    compiled = torch.compile(smaller, backend="eager")(*inputs)
    assert torch.allclose(compiled, smaller(*inputs), atol=1e-6)
    torch._dynamo.reset()


@every
def test_saved_and_restored(tiny: Tiny, tmp_path):
    model, inputs = scattered(tiny.make()), tiny.inputs()
    smaller = slim(model, unequal(model))
    tied = dict(smaller.named_parameters(remove_duplicate=False)).keys() - dict(smaller.named_parameters()).keys()
    save_file({name: value for name, value in smaller.state_dict().items() if name not in tied}, tmp_path / "slim")
    restored = restore(tiny.make(), load_file(tmp_path / "slim")).eval()
    assert torch.equal(restored(*inputs), smaller(*inputs))
    again = slim(tiny.make(), unequal(model)).eval()
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again(*inputs), smaller(*inputs))


@pytest.mark.parametrize("kind", ["GPT2LMHeadModel", "GPT2ForSequenceClassification"])
def test_weights_of_save_pretrained_are_restored(kind: str, tmp_path):
    model = scattered(gpt2(kind))
    smaller = slim(model, unequal(model))
    smaller.save_pretrained(tmp_path)
    restored = restore(gpt2(kind), load_file(tmp_path / "model.safetensors")).eval()
    assert torch.equal(restored(*words()).logits, smaller(*words()).logits)


@every
def test_a_slim_model_can_lose_more(tiny: Tiny):
    model, inputs = scattered(tiny.make()), tiny.inputs()

    def less(model: nn.Module, *kept: int) -> nn.Module:
        return slim(model, dict.fromkeys((axis for axis in units(model) if axis.endswith("heads")), kept))

    assert torch.equal(less(less(model, 0, 1, 3), 0, 2)(*inputs), less(model, 0, 3)(*inputs))


def test_weights_carry_their_flags_and_types():
    model = TINY["our ViT"].make().to(torch.float64).train()
    model.blocks[0].attention.qkv.weight.requires_grad_(False)
    smaller = slim(model, {"blocks.0.attention.heads": [1]})
    qkv = smaller.blocks[0].attention.qkv
    assert (qkv.weight.requires_grad, qkv.bias.requires_grad) == (False, True)
    assert qkv.weight.dtype == torch.float64
    assert (qkv.in_features, qkv.out_features) == (WIDTH, 3 * WIDTH // HEADS)
    assert smaller.training
    assert not slim(model.eval(), {"blocks.0.attention.heads": [1]}).training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device")
@every
def test_slim_on_a_gpu(tiny: Tiny):
    model, inputs = scattered(tiny.make()).cuda(), [x.cuda() for x in tiny.inputs()]
    keep = unequal(model)
    smaller = slim(model, keep)
    assert {parameter.device.type for parameter in smaller.parameters()} == {"cuda"}
    with torch.no_grad():
        assert (smaller(*inputs) - masked(model, keep)(*inputs)).abs().max() < 1e-4


def test_order_and_repetition_of_kept_indices_do_not_matter():
    model = scattered(TINY["our ViT"].make())
    axis = "blocks.1.mlp.neurons"
    kept = slim(model, {axis: [3, 5, 9]}).blocks[1].mlp[0].weight
    assert torch.equal(kept, model.blocks[1].mlp[0].weight[[3, 5, 9]])
    assert torch.equal(slim(model, {axis: torch.tensor([9, 3, 5, 3])}).blocks[1].mlp[0].weight, kept)


def test_heads_leave_queries_keys_values_and_outputs():
    model = scattered(TINY["CIFAR ViT"].make())
    before, after = model.blocks[0].attention, slim(model, {"blocks.0.attention.heads": [1]}).blocks[0].attention
    rows = [*range(4, 8), *range(20, 24), *range(36, 40)]
    assert torch.equal(after.qkv.weight, before.qkv.weight[rows])
    assert torch.equal(after.out.weight, before.out.weight[:, 4:8])
    assert torch.equal(after.out.bias, before.out.bias)
    assert (after.heads, after.scale) == (1, before.scale)


def test_flops_follow_the_slim_sizes():
    model = TINY["our ViT"].make()
    smaller = slim(model, {"blocks.0.attention.heads": [0, 2], "blocks.1.mlp.neurons": range(6)})
    whole, less = model.forward_flops(3), smaller.forward_flops(3)
    assert {name for name in whole if less[name] != whole[name]} == {
        "blocks.1.mlp",
        *(f"blocks.0.attention.{part}" for part in ("qkv", "scores", "mix", "out")),
    }
    assert less["blocks.0.attention.qkv"] == 2 * 3 * SHAPE.tokens * WIDTH * 3 * WIDTH // 2
    assert 2 * less["blocks.0.attention.mix"] == whole["blocks.0.attention.mix"]
    assert less["blocks.1.mlp"] == 4 * 3 * SHAPE.tokens * WIDTH * 6


@pytest.mark.parametrize("name", ["CIFAR ViT", "our Swin", "our GPT", "our GPT-2", "our MiniLM"])
def test_closed_forms_of_our_models_fall_by_what_was_removed(name: str):
    """Linear layers by their parameters, mixing by the heads: counted from units, not from layers."""
    model = TINY[name].make()
    keep, counts = unequal(model), units(model)
    sizes = (2, 7) if "our" in name and "Swin" not in name else (2,)
    whole, less = (each.forward_flops(*sizes) for each in (model, slim(model, keep)))
    heads, scores = (
        [each for each in kind if each.endswith(end)] for kind, end in ((counts, "heads"), (whole, "scores"))
    )
    for axis, score in zip(heads, scores, strict=True):
        path, share = axis.removesuffix("heads"), len(keep[axis]) / counts[axis]
        inside = {part for part in whole if part.startswith(path)} | {score}
        assert len(inside) >= 3
        assert all(less[part] == share * whole[part] for part in inside)
    assert set(whole) == set(less)


@every
def test_an_axis_has_one_size(tiny: Tiny):
    model = tiny.make()
    found, named = axes(model), dict(model.named_parameters())
    assert set(found) <= set(named)
    sizes: dict[str, set[int]] = {}
    for name, dimensions in found.items():
        assert len(dimensions) == named[name].ndim
        for dimension, size in zip(dimensions, named[name].shape, strict=True):
            sizes.setdefault(dimension, set()).add(size)
    sizes.pop("", None)
    assert all(len(held) == 1 for held in sizes.values()), sizes


def test_axes_of_a_model_by_name():
    found = axes(TINY["our ViT"].make())
    assert found["blocks.0.attention.qkv.weight"] == ("blocks.0.attention.heads:query+key+value", "width")
    assert found["blocks.1.attention.out.weight"] == ("width", "blocks.1.attention.heads:value")
    assert found["blocks.1.mlp.2.weight"] == ("width", "blocks.1.mlp.neurons")
    assert found["blocks.0.norm1.weight"] == found["stem.bias"] == ("width",)
    assert set(found) == {name for name, _ in TINY["our ViT"].make().named_parameters()}
    words_found = axes(gpt2("GPT2LMHeadModel"))
    assert words_found["transformer.h.0.attn.c_attn.weight"] == (
        "width",
        "transformer.h.0.attn.heads:query+key+value",
    )
    assert words_found["transformer.wte.weight"] == ("vocabulary", "width")


UNNAMED = ("Swin", "CLIP")  # whose residual streams have several widths


@pytest.mark.parametrize("name", [name for name in TINY if not any(part in name for part in UNNAMED)])
def test_every_parameter_has_axes(name: str):
    model = TINY[name].make()
    assert set(axes(model)) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "RobertaForMaskedLM", "DistilBertForMaskedLM", "GPT2LMHeadModel"])
def test_a_tied_head_has_the_name_of_the_embedding(kind: str):
    model = language(kind)
    found = axes(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert [names for names in found.values() if names == ("vocabulary", "width")] == [("vocabulary", "width")]


def test_a_talking_head_leaves_both_mixing_matrices():
    model = scattered(TINY["timm CaiT"].make())
    before, after = model.blocks[0].attn, slim(model, {"blocks.0.attn.heads": [3, 1]}).blocks[0].attn
    for layer in ("proj_l", "proj_w"):
        whole, less = before.get_submodule(layer), after.get_submodule(layer)
        assert torch.equal(less.weight, whole.weight[[1, 3]][:, [1, 3]])
        assert torch.equal(less.bias, whole.bias[[1, 3]])
        assert (less.in_features, less.out_features) == (2, 2)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ({"blocks.0.attention.heads": []}, r"blocks.0.attention.heads would keep none of its 4 units: keep at least"),
        ({"blocks.0.mlp.neurons": [24]}, r"blocks.0.mlp.neurons has no unit 24: its indices are 0 to 23"),
        ({"blocks.0.mlp.neurons": [-1, 3]}, r"has no unit -1"),
        ({"blocks.0.mlp.neuron": [0]}, r'no axis "blocks.0.mlp.neuron"; did you mean \'blocks.0.mlp.neurons\'\?'),
    ],
)
def test_wrong_units_are_refused(keep: dict[str, list[int]], said: str):
    model = TINY["our ViT"].make()
    for refuse in (slim, mask_units):
        with pytest.raises(ParameterError, match=said):
            refuse(model, keep)


def test_a_model_with_gates_is_not_slimmed():
    model = TINY["our ViT"].make()
    with_gates(model)
    with pytest.raises(ParameterError, match=r"carries gates: call remove\(\)"):
        slim(model, {})


def test_weights_of_another_architecture_are_not_restored():
    with pytest.raises(ParameterError, match=r"lack blocks.0.attention.qkv.weight"):
        restore(TINY["our ViT"].make(), TINY["BERT"].make().state_dict())


def test_torchs_own_encoder_layer_uses_the_slim_attention():
    """Its evaluation path would bypass the attention module and read the weights as if all heads were there."""
    layer = scattered(nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True))
    keep, x = {"self_attn.heads": [1, 2]}, torch.randn(2, 5, WIDTH)
    with torch.no_grad():
        assert (slim(layer, keep)(x) - masked(layer, keep)(x)).abs().max() < 1e-5
    with pytest.raises(ParameterError, match="without masks"):
        slim(layer, keep)(x, src_mask=torch.zeros(5, 5))
