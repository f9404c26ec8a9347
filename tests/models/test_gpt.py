"""GPT-2 of our own: published counts, causality, closed forms of FLOPs, the tied head, and transformers' logits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from effi.cost import Ledger, count_flops, forward_flops, train_flops
from effi.data import TextDataset, causal
from effi.errors import DataError, ParameterError
from effi.masks import prunable
from effi.mixed_sparsity.hybrid import HybridAttention
from effi.mixed_sparsity.positions import Pattern
from effi.models.attention import plain_attention
from effi.models.gpt import GPT, CausalSelfAttention, causal_attention
from effi.models.language import TextSize, language_model
from effi.training import LanguageModelling, Training, evaluate, fit
from effi.training.networks import Replicas

SIZE = TextSize(width=16, depth=2, heads=4, hidden=24)
VOCABULARY, CONTEXT = 40, 24
HYBRIDS = [HybridAttention(Pattern(kind, 4)) for kind in ("local", "strided", "merged", "fixed")]
ATTENTIONS = [None, HybridAttention(Pattern("causal")), *HYBRIDS]


def gpt(**options: object) -> GPT:
    return GPT(VOCABULARY, CONTEXT, SIZE, **options)


def texts(count: int = 3, tokens: int = 15) -> torch.Tensor:
    return torch.randint(VOCABULARY, (count, tokens), generator=torch.Generator().manual_seed(0))


def scattered(model: GPT) -> GPT:
    """The model with larger weights: as drawn, no input moves the logits by more than rounding."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


# --- sizes ---------------------------------------------------------------------------------------------------


def count(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)


def test_golden_counts():
    """GPT-2 small in nanoGPT's form, and in the published one with its biases and 50,257 ids."""
    with torch.device("meta"):
        model, untied, published = GPT(50304, 1024), GPT(50304, 1024, tied=False), GPT(50257, 1024, bias=True)
    blocks = prunable(model)
    assert count(blocks.values()) == 84_934_656
    assert count(prunable(model, include=["embedding"]).values()) == 84_934_656 + 38_633_472 == 123_568_128
    assert count(prunable(untied, include=["lm_head"]).values()) == 123_568_128
    assert count(model.parameters()) - count(model.positions.parameters()) == 123_587_328
    assert count(published.parameters()) == 124_439_808
    assert not any(name.endswith("bias") for name, _ in model.named_parameters())


def test_prunable_matrices_are_those_of_attention_and_feed_forward():
    names = [f"blocks.{block}.{name}.weight" for block in (0, 1) for name in PARTS]
    assert list(prunable(gpt())) == list(prunable(gpt(tied=False))) == names
    assert list(prunable(gpt(), skip=["feed-forward"])) == [name for name in names if "attention" in name]


PARTS = ("attention.qkv", "attention.out", "mlp.0", "mlp.2")


def test_weights_begin_as_in_gpt2():
    model = GPT(VOCABULARY, CONTEXT, TextSize(128, 8, 4, 512), bias=True, tied=False)
    for block in model.each_block():
        for weight, deviation in (
            (block.attention.qkv.weight, 0.02),
            (block.attention.out.weight, 0.02 / 4),
            (block.mlp[0].weight, 0.02),
            (block.mlp[2].weight, 0.02 / 4),
        ):
            assert weight.std().item() == pytest.approx(deviation, rel=0.03)
    for table in (model.embedding.weight, model.positions.weight, model.lm_head.weight):
        assert table.std().item() == pytest.approx(0.02, rel=0.05)
    vectors = {name: value for name, value in model.named_parameters() if value.ndim == 1}
    assert all(torch.equal(v, torch.full_like(v, float(not name.endswith("bias")))) for name, v in vectors.items())


def test_weights_of_another_deviation_are_the_same_draws():
    usual, wider = gpt(seed=1), gpt(seed=1, std=0.06)
    for name, weight in usual.named_parameters():
        torch.testing.assert_close(wider.get_parameter(name), 3 * weight if weight.ndim == 2 else weight)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(11)
    first = gpt(seed=1).state_dict()
    torch.manual_seed(12)
    again, other = gpt(seed=1).state_dict(), gpt(seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


# --- attention -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_later_tokens_never_change_earlier_logits(attention):
    model, ids = scattered(gpt()), texts()
    model.attention = attention
    logits = model(ids)
    for place in (14, 8, 1):
        changed = ids.clone()
        changed[:, place:] = (ids[:, place:] + 1) % VOCABULARY
        apart = (model(changed) - logits).abs().amax((0, 2))
        assert apart[:place].max() == 0 and apart[place:].min() > 0.01
        assert (model(ids[:, :place]) - logits[:, :place]).abs().max() <= 1e-5


@pytest.mark.parametrize("attention", HYBRIDS, ids=str)
def test_a_pattern_is_that_of_every_layer_and_can_be_taken_back(attention):
    """One layer sees what the pattern shows; a token out of its sight changes no logit, which it does in sight."""
    model, ids, last = scattered(GPT(VOCABULARY, CONTEXT, TextSize(16, 1, 4, 24))), texts(), 14
    dense = model(ids)
    model.attention = attention
    sparse, seen = model(ids), attention.pattern.dense(15)[last]
    for place in range(15):
        changed = ids.clone()
        changed[:, place] = (ids[:, place] + 1) % VOCABULARY
        assert bool((model(changed) - sparse)[:, last].abs().max() > 1e-4) is bool(seen[place])
    deep = scattered(gpt())
    deep.attention, calls = (lambda *inputs: calls.append(1) or attention(*inputs)), []
    deep(ids)
    assert len(calls) == SIZE.depth
    model.attention = None
    assert torch.equal(model(ids), dense) and not torch.allclose(sparse, dense, atol=1e-3)


@pytest.mark.parametrize("width", [8, 32])
def test_fused_and_plain_causal_attention_agree(width):
    """Heads so narrow that plain products are chosen anyway, and wider ones."""
    inputs = [torch.randn(2, 3, 20, width, requires_grad=True) for _ in range(3)]
    fused = F.scaled_dot_product_attention(*inputs, is_causal=True, scale=0.3)
    with plain_attention():
        plain = causal_attention(*inputs, 0.3)
    slope = torch.randn_like(fused)
    for out in (plain, causal_attention(*inputs, 0.3)):
        assert torch.allclose(out, fused, atol=1e-6)
        grads = zip(
            *(torch.autograd.grad(each, inputs, slope, retain_graph=True) for each in (out, fused)), strict=True
        )
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in grads)


def test_a_forward_is_one_graph_for_torch_compile():
    """fullgraph refuses what would break it in two; plain attention asked for afterwards is seen."""
    model, ids = scattered(gpt()), texts()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(ids), model(ids), atol=1e-5)
    with plain_attention():
        assert torch.allclose(compiled(ids), model(ids), atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_bf16_autocast_is_near_fp32(attention):
    model = scattered(gpt())
    model.attention = attention
    exact, gradients = model(texts()), []
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(texts())
    assert rounded.dtype == torch.bfloat16
    for logits in (exact, rounded.float()):
        model.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), texts().flatten()).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert (rounded - exact).norm() <= 0.03 * exact.norm()
    assert (gradients[1] - gradients[0]).norm() <= 0.1 * gradients[0].norm()


# --- head ----------------------------------------------------------------------------------------------------


def loss(model: GPT) -> torch.Tensor:
    return F.cross_entropy(model(texts()).flatten(0, 1), texts(3, 16)[:, 1:].flatten())


def test_a_tied_head_is_the_embedding_and_trained_once():
    """Its gradient is the sum of both uses, and a step moves both by the same."""
    tied, untied = scattered(gpt()), gpt(tied=False)
    untied.load_state_dict(tied.state_dict() | {"lm_head.weight": tied.embedding.weight})
    assert torch.equal(tied(texts()), untied(texts()))
    assert len(list(untied.parameters())) == len(list(tied.parameters())) + 1
    for model in (tied, untied):
        loss(model).backward()
    both = untied.embedding.weight.grad + untied.lm_head.weight.grad
    assert torch.allclose(tied.embedding.weight.grad, both, atol=1e-6)
    assert min(part.weight.grad.abs().sum() for part in (untied.embedding, untied.lm_head)) > 0
    before, optimizer = tied.embedding.weight.detach().clone(), torch.optim.SGD(tied.parameters(), lr=0.1)
    optimizer.step()
    assert torch.allclose(tied.embedding.weight, before - 0.1 * both, atol=1e-6)
    hidden = tied.hidden(texts())
    assert torch.equal(tied(texts()), hidden @ tied.embedding.weight.T)


def test_logits_are_the_head_of_the_hidden_states_and_can_be_made_in_pieces():
    for model in map(scattered, (gpt(), gpt(tied=False))):
        logits, hidden = model(texts()), model.hidden(texts())
        assert hidden.shape == (3, 15, SIZE.width) and logits.shape == (3, 15, VOCABULARY)
        pieces = torch.cat([model.head(piece) for piece in hidden.split(4, 1)], 1)
        assert torch.allclose(pieces, logits, atol=1e-6 * logits.abs().max().item())


# --- FLOPs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_closed_form_flops_equal_the_counter(tied):
    model, ids = gpt(tied=tied), texts()
    assert sum(forward_flops(model, ids).values()) == count_flops(lambda: model(ids))
    with plain_attention():
        assert train_flops(model, ids) == count_flops(lambda: model(ids).sum().backward())
    for attention in HYBRIDS:
        model.attention = attention
        assert sum(forward_flops(model, ids).values()) == count_flops(lambda: model(ids)), attention


def test_training_flops_of_gpt2_small_by_part():
    """6 per weight and token, 12 L d T of attention by the rule of all T^2 pairs."""
    with torch.device("meta"):
        model = GPT(50304, 1024)
    per_token = {name: 3 * flops / 1024 / 1e6 for name, flops in model.forward_flops(1, 1024).items()}
    mixing = sum(value for name, value in per_token.items() if name.endswith(("scores", "mix")))
    assert per_token["embedding"] == pytest.approx(231.8, abs=0.05)
    assert mixing == pytest.approx(113.2, abs=0.05)
    assert sum(per_token.values()) - mixing - per_token["embedding"] == pytest.approx(509.6, abs=0.05)
    assert model.train_flops(1, 1024) / 1024 / 1e6 == pytest.approx(854.7, abs=0.1)


@pytest.mark.parametrize("tied", [True, False])
def test_parts_are_called_by_the_modules_whose_matrices_they_multiply_by(tied):
    model = gpt(tied=tied)
    names, parts = dict(model.named_parameters()), model.forward_flops(3, 15)
    for name, flops in parts.items():
        if not name.endswith(("scores", "mix")):
            assert flops == 2 * 3 * 15 * names[f"{name}.weight"].numel()
    assert len(parts) == SIZE.depth * (len(PARTS) + 2) + 1


# --- in use --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_functional_calls_compute_with_the_weights_given(attention):
    model, other = scattered(gpt()), scattered(gpt(seed=5))
    model.attention = other.attention = attention
    weights = {name: value.detach().requires_grad_() for name, value in other.named_parameters()}
    logits = functional_call(model, weights, (texts(),))
    assert torch.equal(logits, other(texts())) and not torch.equal(logits, model(texts()))
    logits.sum().backward()
    assert all(value.grad is not None for value in weights.values())


def test_several_seeds_can_be_one_network():
    models = [scattered(gpt(seed=seed)) for seed in (0, 1)]
    both = Replicas(models)(torch.stack([texts(), texts().flip(1)]))
    for logits, model, ids in zip(both, models, (texts(), texts().flip(1)), strict=True):
        assert torch.allclose(logits, model(ids), atol=1e-4)


@pytest.mark.parametrize("attention", [None, HYBRIDS[3]], ids=str)
def test_the_loop_trains_it(attention):
    """Rows that count upwards: the next token is learnt, and loss per token comes out."""
    rows = (torch.arange(17) + torch.arange(64)[:, None]).remainder(VOCABULARY - 1).add(1).int()
    parts = [causal(rows[start:stop]) for start, stop in ((0, 48), (48, 56), (56, 64))]
    data = TextDataset("counting", *parts, (), "sha256:0", "made up", VOCABULARY, rows)
    model, ledger = gpt(), Ledger()
    model.attention = attention
    training = Training(epochs=8, batch_size=16, optimizer="adamw", lr=3e-2, precision="fp32")
    fit(model, data, training, objective=LanguageModelling(), seeds=[0], ledger=ledger)
    assert evaluate(model, data.test, data, LanguageModelling())["loss"] < 0.3 * math.log(VOCABULARY)
    assert ledger.total()["phases"]["train"]["flops"] == 24 * model.train_flops(16, 16)


def test_texts_longer_than_the_context_and_strange_heads_are_refused():
    gpt()(texts(1, CONTEXT))
    with pytest.raises(ParameterError, match="texts of 25 tokens are longer than the context of 24; cut them"):
        gpt()(texts(1, CONTEXT + 1))
    with pytest.raises(ParameterError, match="width 16 is not a multiple of heads 3; choose heads"):
        GPT(VOCABULARY, CONTEXT, TextSize(16, 2, 3, 24))
    with pytest.raises(ParameterError, match="width 16 is not a multiple of heads 5; choose heads"):
        CausalSelfAttention(16, 5)


# --- transformers' weights -----------------------------------------------------------------------------------


def theirs(**changes: object) -> torch.nn.Module:
    """transformers' GPT-2 with every weight drawn."""
    net = language_model("gpt2", vocabulary=VOCABULARY, length=CONTEXT, size=SIZE, dropout=0.0).net
    for name, value in changes.items():
        setattr(net.config, name, value)
    return scattered(net).eval()


def as_theirs(**options: object) -> GPT:
    return gpt(**{"bias": True, "gelu": "tanh"} | options)


@pytest.mark.parametrize("tied", [True, False])
def test_equals_transformers_from_a_folder_and_from_a_state_dict(tied, tmp_path):
    net = theirs()
    net.save_pretrained(tmp_path)
    expected = net(texts()).logits
    older = net.state_dict() | {"transformer.h.0.attn.bias": torch.ones(1, 1, 24, 24).tril()}
    bare = net.transformer.state_dict()
    for source in (tmp_path, str(tmp_path), net.state_dict(), older, bare):
        model = as_theirs(tied=tied, seed=7)
        assert (model(texts()) - expected).abs().max() > 0.1
        model.load_gpt2(source)
        assert (model(texts()) - expected).abs().max() <= 1e-4
    with torch.no_grad():
        model.embedding.weight.zero_()
    assert net.transformer.wte.weight.abs().sum() > 0, "weights are copies"


def test_the_two_gelus_differ():
    net, model = theirs(), as_theirs(gelu="none")
    model.load_gpt2(net.state_dict())
    assert (model(texts()) - net(texts()).logits).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": False}, r"blocks\.0\.norm1\.bias is \(16,\) in the checkpoint and none in the model"),
        ({"vocabulary": 41}, r"embedding\.weight is \(40, 16\) in the checkpoint and \(41, 16\) in the model"),
        ({"size": TextSize(16, 3, 4, 24)}, r"blocks\.2\.\S+ is none in the checkpoint and .*; make one of the same"),
    ],
    ids=str,
)
def test_weights_that_do_not_fit_are_refused(options, message):
    sizes = {"vocabulary": VOCABULARY, "context": CONTEXT, "size": SIZE, "bias": True} | options
    with pytest.raises(ParameterError, match=message):
        GPT(**sizes).load_gpt2(theirs().state_dict())


def test_a_head_of_its_own_does_not_fit_a_tied_one():
    state = theirs().state_dict()
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    with pytest.raises(ParameterError, match="the checkpoint's head is not its embedding; make the model with tied=F"):
        as_theirs().load_gpt2(state)
    untied = as_theirs(tied=False)
    untied.load_gpt2(state)
    assert torch.equal(untied.lm_head.weight, state["lm_head.weight"])


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"gelu": "none"}, "activation_function=gelu_new, and this model computes with gelu"),
        ({"layer_norm_epsilon": 1e-3}, {}, "layer_norm_epsilon=0.001, and this model computes with 1e-05"),
        ({"scale_attn_by_inverse_layer_idx": True}, {}, "scale_attn_by_inverse_layer_idx=True"),
        ({}, {"size": TextSize(16, 2, 2, 24)}, "n_head=4, and this model computes with 2; make it with as many heads"),
    ],
    ids=str,
)
def test_a_folder_of_another_function_is_refused(changes, options, message, tmp_path):
    theirs(**changes).save_pretrained(tmp_path)
    sizes = {"vocabulary": VOCABULARY, "context": CONTEXT, "size": SIZE, "bias": True, "gelu": "tanh"} | options
    with pytest.raises(ParameterError, match=message):
        GPT(**sizes).load_gpt2(tmp_path)


def test_a_pickle_is_no_checkpoint(tmp_path):
    net = theirs()
    net.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"its pytorch_model\.bin is a pickle, which is never opened"):
        as_theirs().load_gpt2(tmp_path)
