"""GPT-2's training step: all models compute one function, and every competitor does its work on tiny shapes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from effi import masks
from effi.bench import gpts, peers
from effi.bench.rounds import Missing
from effi.models.gpt import GPT
from effi.models.language import TextSize
from tests.bench.conftest import complete

TINY = gpts.Shape(TextSize(width=16, depth=2, heads=2, hidden=24), context=12, vocabulary=40)
ONE = gpts.Shape(TextSize(width=8, depth=1, heads=2, hidden=12), context=6, vocabulary=20)
THEIRS = ("transformers, eager", "transformers, sdpa")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile that traces, but makes no kernels, which takes a compiler and its time."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def scattered(model: nn.Module) -> nn.Module:
    """The model with larger matrices and norms, and biases left at zero, which not all models have."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("bias"):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    return model


@pytest.mark.parametrize("name", THEIRS)
def test_all_models_compute_the_same_logits_from_the_same_weights(name: str) -> None:
    theirs = scattered(gpts.MODELS[name](TINY).model)
    assert theirs.config._attn_implementation == name.removeprefix("transformers, ")
    assert (theirs.config.use_cache, theirs.config.n_inner, theirs.training) == (False, 24, True)
    biased = GPT(TINY.vocabulary, TINY.context, TINY.size, bias=True, seed=7)
    biased.load_gpt2(theirs.state_dict())
    ours, plain = gpts.effi(TINY), gpts.PlainGPT(TINY)
    ours.load_state_dict({key: value for key, value in biased.state_dict().items() if not key.endswith("bias")})
    plain.load_state_dict(ours.state_dict())
    ids = gpts.texts(TINY, 3).inputs.long()
    expected = theirs(ids).logits
    assert expected.std() > 0.1
    assert max((model(ids) - expected).abs().max() for model in (biased, ours, plain)) <= 1e-5
    assert (gpts.effi(TINY)(ids) - expected).abs().max() > 0.1


def test_all_models_train_as_many_weights_but_for_biases() -> None:
    counts = {name: sum(p.numel() for p in make(TINY).parameters()) for name, make in gpts.MODELS.items()}
    width, hidden, depth = 16, 24, 2
    biases = depth * (3 * width + width + hidden + width + 2 * width) + width
    assert counts["effi"] == counts["plain"]
    assert {counts[name] - counts["effi"] for name in THEIRS} == {biases}


def test_a_case_for_each_precision_not_compiled_and_compiled() -> None:
    title = "GPT 16 x 2, 12 tokens, batch 2"
    cases = gpts.gpt(TINY, batch=2)
    assert [case.title for case in cases] == [
        f"{title}, fp32",
        f"{title}, fp32, compiled",
        f"{title}, bf16",
        f"{title}, bf16, compiled",
    ]
    assert {case.reference for case in cases} == {"effi"}


@pytest.mark.parametrize("which", [0, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_rows_of_all_models_are_complete(which: int, traced: None) -> None:
    found = complete(gpts.gpt(ONE, batch=2)[which])
    assert list(found) == ["effi", "plain", *THEIRS]
    assert [row.note for row in found.values()] == [None] * 4
    assert found["effi"].flops == gpts.effi(ONE).train_flops(2, 6)
    assert [row.flops for row in found.values()][1:] == [None] * 3


@pytest.mark.parametrize("compiled", [False, True])
def test_steps_learn_the_next_tokens(compiled: bool, traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is a training: the loss over all tokens falls."""
    losses: list[float] = []
    plain = torch.nn.functional.cross_entropy

    def noted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert (logits.shape, labels.shape, logits.dtype) == ((12, 20), (12,), torch.float32)
        losses.append(plain(logits, labels).item())
        return plain(logits, labels)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", noted)
    for make in list(gpts.MODELS.values())[: 2 if compiled else 4]:
        step = gpts.trained(make, ONE, 2, "fp32", "cpu", compiled=compiled).step
        losses.clear()
        for _ in range(60):
            step()
        assert losses[-1] < 0.97 * losses[0]


def test_without_transformers_ours_and_the_plain_model_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    found = complete(gpts.gpt(TINY, batch=2, precisions=("fp32",))[0])
    assert [row.note for row in found.values()] == [None, None] + 2 * ["not installed: uv pip install transformers"]


def test_without_a_compiler_every_compiled_step_is_missing_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> None:
        raise RuntimeError("no C++ compiler was found\nas a second line says")

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    makers = gpts.gpt(ONE, batch=2, precisions=("fp32",))[1].competitors
    for name in ("effi", "plain"):
        with pytest.raises(Missing, match=r"does not compile here: .*no C\+\+ compiler was found$"):
            makers[name]()


def test_an_error_of_the_model_is_no_missing_competitor() -> None:
    def wrong() -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        gpts.tried(wrong)


# --- under a mask --------------------------------------------------------------------------------------------


def test_a_masked_step_is_that_of_the_loop_and_keeps_its_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, GPT] = {}
    monkeypatch.setattr(gpts, "GPT", lambda *sizes: made.setdefault(str(len(made)), GPT(*sizes)))
    case = gpts.masked(TINY, batch=2)
    assert (case.title, case.reference) == ("GPT 16 x 2, 12 tokens, batch 2, fp32, 80 % pruned", "dense")
    competitors = {way: make() for way, make in case.competitors.items()}
    assert list(competitors) == ["dense", "effi", "torch.nn.utils.prune"]
    before = [{name: value.detach().clone() for name, value in model.state_dict().items()} for model in made.values()]
    for competitor in competitors.values():
        competitor.step()
    dense, ours, theirs = made.values()
    weights = masks.prunable(ours, include=["embedding"])
    assert len(weights) == 9
    assert sum((weight == 0).sum() for weight in weights.values()) == int(0.8 * sum(map(torch.numel, weights.values())))
    assert all((weight != 0).all() for weight in masks.prunable(dense, include=["embedding"]).values())
    for name, weight in weights.items():
        kept = weight != 0
        assert torch.equal(theirs.get_submodule(name.removesuffix(".weight")).weight_mask.bool(), kept)
        assert not torch.equal(before[1][name][kept], weight[kept]), "it trains"


def test_masked_rows_are_complete() -> None:
    for precision in ("fp32", "bf16"):
        assert [row.note for row in complete(gpts.masked(TINY, 2, precision)).values()] == [None] * 3


def test_the_shapes_are_those_documented() -> None:
    assert str(gpts.GPT2) == "768 x 12, 1,024 tokens"
    assert gpts.Shape(TextSize(256, 4, 4, 1024), 256, 4096) == gpts.SMALL


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_heads_make_the_same_gradients(precision: gpts.Precision) -> None:
    case = gpts.head(TINY, 2, precision)
    assert case.title == f"head of {TINY.size.width} x {TINY.vocabulary}, {2 * TINY.context} tokens, {precision}"
    plain, ours = (make().step() for make in case.competitors.values())
    assert isinstance(plain, tuple) and isinstance(ours, tuple)
    for one, other in zip(plain, ours, strict=True):
        assert (one - other).norm() <= (1e-5 if precision == "fp32" else 0.02) * one.norm()
