"""The third paper's own work, timed on tiny shapes."""

from __future__ import annotations

import torch

from effi.bench import sparsity
from tests.bench.conftest import complete


def test_attention_is_timed_with_its_gradients() -> None:
    case = sparsity.attention(torch.float32, (1, 2, 32, 4), 8)
    assert (case.title, case.reference) == ("attention, 32 tokens, float32", "dense mask")
    assert list(complete(case)) == ["dense mask", "causal", "merged", "fixed"]


def test_an_update_is_timed_beside_a_partition() -> None:
    case = sparsity.topology(2, (40, 50))
    assert case.title == "topology, 0 M, 80 % pruned"
    assert list(complete(case)) == ["numpy.partition", "effi"]


def test_all_cases_have_names() -> None:
    titles = [case.title for case in sparsity.mixed_sparsity()]
    assert titles[:3] == [
        "attention, 4,096 tokens, float32",
        "attention, 4,096 tokens, bfloat16",
        "topology, 85 M, 80 % pruned",
    ]
    assert titles[3:6] == [f"768 -> 3072, 1,024 tokens, blocks of {size}" for size in (32, 64, 128)]
    assert "GPT 256 x 4, 256 tokens, batch 8, fp32, 80 % pruned" in titles[6:]
