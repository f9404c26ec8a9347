"""The published models, without their weights: what is prunable, and what a step of training takes."""

from __future__ import annotations

import pytest
import torch

from effi import masks
from effi.models.vit import ViT, ViTShape
from effi.training import Training


def count(tensors) -> int:
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.slow
def test_prunable_weights_of_the_published_models():
    import transformers

    clip = {"hidden_size": 768, "intermediate_size": 3072, "projection_dim": 512, "patch_size": 32}
    with torch.device("meta"):
        vision = transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(**clip, num_hidden_layers=12, num_attention_heads=12)
        )
        bert = transformers.BertForSequenceClassification(transformers.BertConfig())
    assert count(masks.prunable(vision).values()) == 12 * 12 * 768**2 == 84_934_656
    assert count(vision.parameters()) == 87_849_216
    assert count(masks.prunable(vision).values()) / count(vision.parameters()) == pytest.approx(0.967, abs=5e-4)
    pooler = bert.get_parameter("bert.pooler.dense.weight")
    assert count(masks.prunable(bert).values()) + pooler.numel() == 85_524_480
    assert len(masks.prunable(bert)) == 12 * 6


def test_flops_of_the_published_models():
    """ViT-B/32: 4.409 GMAC forward, 26.5 GFLOP an image trained; BERT-base at 128 tokens: 11.17 GMAC, 67 GFLOP."""
    shape = ViTShape(
        224, 32, 3, 512, width=768, depth=12, hidden=3072, pool="cls", positions="learned", stem_bias=False
    )
    with torch.device("meta"):
        model = ViT(shape, heads=12)
    macs = sum(model.forward_flops(1).values()) / 2
    assert macs == pytest.approx(4.409e9, rel=2e-4) and 6 * macs == pytest.approx(26.5e9, rel=2e-3)
    assert 6 * macs * 50_000 == pytest.approx(1.32e15, rel=3e-3)
    assert 6 * macs * 50_000 * 22 == pytest.approx(29.1e15, rel=2e-3)
    tokens, width = 128, 768
    bert = 12 * (12 * tokens * width**2 + 2 * tokens**2 * width)
    assert bert == pytest.approx(11.17e9, rel=1e-3) and 6 * bert == pytest.approx(67e9, rel=1e-3)


@pytest.mark.parametrize(
    ("examples", "batch", "steps"), [(50_000, 128, 391), (8144, 128, 64), (26_640, 128, 209), (2490, 32, 78)]
)
def test_steps_of_an_epoch(examples, batch, steps):
    assert Training(epochs=1, batch_size=batch).steps_of_epoch(examples) == steps
