"""Prunable weights are the matrices of attention and feed-forward blocks, in every architecture that papers use."""

from __future__ import annotations

import re

import pytest
import torch
import transformers
from torch import nn
from torchvision.models import swin_t, swin_v2_t, vit_b_16

from effi import masks
from effi.errors import ParameterError
from effi.models.vit import ViT, ViTShape

TINY = ViTShape(8, 4, 3, 10, width=16, depth=2, hidden=24, positions="learned", pool="cls", final_norm=True)
TEXT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 50}
# Per block of width C: qkv 3C^2, output C^2, feed-forward 8C^2; merging 4C x 2C.
SWIN_T = sum(12 * blocks * width**2 for blocks, width in ((2, 96), (2, 192), (6, 384), (2, 768))) + sum(
    8 * width**2 for width in (96, 192, 384)
)
BERT_BASE = 12 * 12 * 768**2


def gpt2(kind: str, **sizes: int) -> nn.Module:
    return getattr(transformers, kind)(transformers.GPT2Config(**sizes))


def clip() -> nn.Module:
    return transformers.CLIPModel(transformers.CLIPConfig())


FULL = {
    "torchvision swin_t": (swin_t, SWIN_T),
    "torchvision vit_b_16": (vit_b_16, BERT_BASE),
    "gpt2": (lambda: gpt2("GPT2LMHeadModel"), 84_934_656),
    "gpt2 classifier": (lambda: gpt2("GPT2ForSequenceClassification"), 84_934_656),
    "roberta-base": (
        lambda: transformers.RobertaForSequenceClassification(transformers.RobertaConfig()),
        84_934_656,
    ),
    "bert-base": (lambda: transformers.BertModel(transformers.BertConfig()), BERT_BASE),
    "clip": (clip, 12 * 12 * (512**2 + 768**2)),
}


@pytest.mark.parametrize("name", FULL)
def test_counts_of_whole_models(name):
    make, count = FULL[name]
    with torch.device("meta"):
        weights = masks.prunable(make())
    assert sum(weight.numel() for weight in weights.values()) == count
    assert all(weight.ndim == 2 for weight in weights.values())


def patterns(names) -> set[str]:
    return {re.sub(r"\d+", "N", name) for name in names}


def test_our_vit_gives_blocks_only_in_order():
    model = ViT(TINY, heads=2)
    weights = masks.prunable(model)
    assert list(weights) == [
        f"blocks.{block}.{name}.weight"
        for block in range(2)
        for name in ("attention.qkv", "attention.out", "mlp.0", "mlp.2")
    ]
    parameters = dict(model.named_parameters())
    assert all(weight is parameters[name] for name, weight in weights.items())


def test_the_papers_models_have_the_sheets_counts():
    from effi.models.swin import swin
    from effi.models.vision import cifar_vit

    with torch.device("meta"):
        assert sum(w.numel() for w in masks.prunable(cifar_vit()).values()) == 9_437_184
    assert sum(w.numel() for w in masks.prunable(swin()).values()) == 26_542_080


def test_parts_know_attention_from_feed_forward():
    small = transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**TEXT))
    parts = masks.parts(small)
    inside = patterns(name for name, part in parts.items() if part == "attention")
    layer = "roberta.encoder.layer.N"
    assert inside == {
        *(f"{layer}.attention.self.{name}.weight" for name in ("query", "key", "value")),
        f"{layer}.attention.output.dense.weight",
    }
    assert patterns(set(parts) - {name for name in parts if parts[name] == "attention"}) == {
        f"{layer}.intermediate.dense.weight",
        f"{layer}.output.dense.weight",
    }


def test_swin_has_merging_but_no_tables_of_relative_positions():
    for make in (swin_t, swin_v2_t):
        with torch.device("meta"):
            parts = masks.parts(make())
        merging = [name for name, part in parts.items() if part == "merging"]
        assert merging == [f"features.{index}.reduction.weight" for index in (2, 4, 6)]
        assert patterns(parts) == {
            "features.N.N.attn.qkv.weight",
            "features.N.N.attn.proj.weight",
            "features.N.N.mlp.N.weight",
            "features.N.reduction.weight",
        }


def test_gpt2s_conv1d_counts_and_its_heads_do_not():
    model = gpt2("GPT2ForSequenceClassification", n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=8)
    names = patterns(masks.prunable(model))
    assert names == {f"transformer.h.N.{n}.weight" for n in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")}


@pytest.mark.parametrize("model", ["LlamaModel", "T5Model", "SwinModel"])
def test_architectures_nobody_listed(model):
    config = getattr(transformers, model.replace("Model", "Config"))
    with torch.device("meta"):
        weights = masks.prunable(getattr(transformers, model)(config()))
    assert not [name for name in weights if re.search("embed|norm|bias", name)]
    counts = {"LlamaModel": 32 * (4 * 4096**2 + 3 * 4096 * 11008), "T5Model": 18 * 4 * 512**2 + 12 * 2 * 512 * 2048}
    assert sum(weight.numel() for weight in weights.values()) == counts.get(model, SWIN_T)


def test_head_and_embedding_may_stand_in_one_sequential_with_the_blocks():
    layers = nn.Sequential(*(nn.TransformerEncoderLayer(16, 2, 24) for _ in range(2)))
    model = nn.Sequential(nn.Linear(3, 16), *layers, nn.Linear(16, 10))
    assert {name.split(".")[0] for name in masks.prunable(model)} == {"1", "2"}


def test_skip_leaves_out_parts_and_names():
    model = ViT(TINY, heads=2)
    assert patterns(masks.prunable(model, skip=["feed-forward"])) == {
        "blocks.N.attention.qkv.weight",
        "blocks.N.attention.out.weight",
    }
    assert all("blocks.1." in name for name in masks.prunable(model, skip=["blocks.0."]))
    with pytest.raises(ParameterError, match='skip="atention" matches no prunable weight'):
        masks.prunable(model, skip=["atention"])


def test_include_adds_weights_in_the_order_of_the_model():
    with torch.device("meta"):
        model = transformers.BertForSequenceClassification(transformers.BertConfig())
    plain, more = masks.prunable(model), masks.prunable(model, include=["pooler.dense"])
    assert list(more) == [*plain, "bert.pooler.dense.weight"]
    assert more["bert.pooler.dense.weight"] is model.bert.pooler.dense.weight
    assert sum(weight.numel() for weight in more.values()) == BERT_BASE + 768**2 == 85_524_480
    first = masks.prunable(model, include=["word_embeddings", "attention.self.query"])
    assert list(first) == ["bert.embeddings.word_embeddings.weight", *plain]


def test_what_is_skipped_can_be_included_again():
    model = ViT(TINY, heads=2)
    names = masks.prunable(model, skip=["feed-forward"], include=["blocks.1.mlp.0", "head"])
    attention = [f"blocks.{block}.attention.{name}.weight" for block in range(2) for name in ("qkv", "out")]
    assert list(names) == [*attention, "blocks.1.mlp.0.weight", "head.weight"]
    assert list(masks.prunable(nn.Linear(4, 4), include=["weight"])) == ["weight"]


@pytest.mark.parametrize("entry", ["head.wieght", "head.bias"])
def test_an_inclusion_that_fits_no_matrix_is_an_error(entry):
    expected = f"include=\"{entry}\" matches no weight; did you mean 'head.weight'\\? Known: .*stem.weight"
    with pytest.raises(ParameterError, match=expected) as error:
        masks.prunable(ViT(TINY, heads=2), include=["stem", entry])
    assert "blocks" not in str(error.value)


@pytest.mark.parametrize(("model", "skip"), [(nn.Linear(4, 4), ()), (ViT(TINY, heads=2), ("blocks",))])
def test_nothing_to_prune_is_an_error(model, skip):
    with pytest.raises(ParameterError, match="has no prunable weight"):
        masks.prunable(model, skip=skip)


def test_sizes_count_all_and_prunable_and_the_share_alive():
    model = ViT(TINY, heads=2)
    weights = masks.prunable(model)
    own = {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "prunable": 2 * (4 * 16**2 + 2 * 16 * 24),
    }
    assert masks.sizes(model) == own | {"alive": 1.0}
    assert masks.sizes(model, masks.magnitude(weights, 0.25)) == own | {"alive": 0.75}
