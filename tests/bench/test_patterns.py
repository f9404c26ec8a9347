"""Attention under patterns beside others: all ways of a pattern agree; what a CPU cannot differentiate is named."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend
from torch.nn.attention.flex_attention import flex_attention

from effi.bench import patterns, peers
from effi.bench.sparsity import differentiated
from effi.mixed_sparsity.positions import Pattern
from tests.bench.conftest import complete

SHAPE, WINDOW = (2, 2, 40, 4), 8


def inputs() -> list[torch.Tensor]:
    return list(torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backward", [True, False])
def test_all_but_flex_attention_are_timed_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, backward: bool
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    case = patterns.patterns(SHAPE, WINDOW, dtype, backward=backward)
    whole = f"attention, 40 tokens, batch 2, {str(dtype).removeprefix('torch.')}"
    assert case.title == (whole if backward else f"{whole}, forward") and case.reference == "causal"
    found = complete(case)
    kernels = [f"{kind}, kernel" for kind in patterns.KINDS]
    flexible = [f"{kind}, FlexAttention" for kind in ("merged", "fixed", "causal")]
    others = ["causal, cuDNN", "causal, flash", *flexible, "merged, dense mask", "local, local-attention"]
    assert list(found) == ["causal", *patterns.KINDS, *kernels, *others]
    notes = {name: row.note for name, row in found.items() if row.note}
    assert notes.pop("local, local-attention") == "not installed: uv pip install local-attention"
    assert notes.pop("causal, cuDNN").startswith("does not run here: No viable backend")
    assert notes == dict.fromkeys([*kernels, *flexible], patterns.NO_BACKWARD)


def test_gradients_are_made_in_both_passes_alone() -> None:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return 2 * q + k * v

    both, forward = (differentiated(attend, torch.float32, SHAPE, backward=way).step for way in (True, False))
    of_q, of_k, of_v = both()
    assert of_q.shape == of_k.shape == of_v.shape == SHAPE
    out = forward()
    assert out.shape == SHAPE and out.requires_grad  # what a backward pass needs is kept


@pytest.mark.parametrize("kind", patterns.KINDS)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_all_ways_of_a_pattern_agree(kind: str) -> None:
    """By the dense mask; FlexAttention's forward alone, not compiled, runs on a CPU."""
    pattern, (q, k, v) = Pattern(kind, WINDOW), inputs()
    scores = (q @ k.mT / 2).masked_fill(~pattern.dense(40), -torch.inf)
    expected = scores.softmax(-1) @ v
    assert (patterns.ours(pattern)(q, k, v) - expected).abs().max() <= 1e-5
    assert (flex_attention(q, k, v, block_mask=patterns.tiles(pattern, 40, "cpu")) - expected).abs().max() <= 1e-5
    assert (patterns.causal(q, k, v) - expected).abs().max() > 0.1


def test_causal_attention_is_the_pattern_of_all_keys() -> None:
    q, k, v = inputs()
    scores = (q @ k.mT / 2).masked_fill(~Pattern("causal").dense(40), -torch.inf)
    assert (patterns.causal(q, k, v) - scores.softmax(-1) @ v).abs().max() <= 1e-5


def test_others_compute_what_ours_do() -> None:
    q, k, v = inputs()
    flash = patterns.causal_by(SDPBackend.FLASH_ATTENTION, q, k, v)
    assert (patterns.causal(q, k, v) - flash).abs().max() <= 1e-5
    merged = Pattern("merged", WINDOW)
    dense = patterns.masked(merged, 40, "cpu")(q, k, v)
    assert (patterns.ours(merged)(q, k, v) - dense).abs().max() <= 1e-5


def test_local_attention_sees_one_key_more() -> None:
    pytest.importorskip("local_attention")
    q, k, v = inputs()
    found = patterns.local(WINDOW)(q, k, v)
    assert (patterns.ours(Pattern("local", WINDOW + 1))(q, k, v) - found).abs().max() <= 1e-5
    assert (patterns.ours(Pattern("local", WINDOW))(q, k, v) - found).abs().max() > 0.1
