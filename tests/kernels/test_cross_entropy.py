"""Cross-entropy a few tokens at a time: the values and gradients of the plain way, in less memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from effi.bench import gpts
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.kernels import cross_entropy as chunked
from effi.kernels.cross_entropy import cross_entropy
from effi.mixed_sparsity.blocks import BlockSparseEmbedding
from effi.models.gpt import GPT
from effi.models.language import TextSize
from effi.training import LanguageModelling, Training, evaluation, fit

WIDTH, IDS = 5, 9


def drawn(
    *lead: int, seed: int = 0, dtype: torch.dtype = torch.float64, ids: int = IDS
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, a matrix, and labels of which the third ones do not count."""
    stream = torch.Generator().manual_seed(seed)
    hidden, matrix = (torch.randn(*shape, WIDTH, generator=stream, dtype=dtype) for shape in (lead, (ids,)))
    labels = torch.randint(ids, lead, generator=stream)
    labels.view(-1)[2::3] = -100
    return hidden.requires_grad_(), matrix.requires_grad_(), labels


def plain(hidden: Tensor, matrix: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """As the training loop does: all logits, then the objective."""
    logits, objective = F.linear(hidden, matrix), LanguageModelling()
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    return objective.losses(logits, labels), objective.hits(logits, labels)


def check(hidden: Tensor, matrix: Tensor, labels: Tensor) -> None:
    ours, theirs = cross_entropy(hidden, matrix, labels), plain(hidden, matrix, labels)
    assert torch.equal(ours[1], theirs[1]) and ours[0].shape == labels.shape
    assert torch.allclose(ours[0], theirs[0], rtol=0, atol=1e-12)
    slope = torch.randn(labels.shape, dtype=ours[0].dtype)
    for one, other in zip(
        *(torch.autograd.grad(each[0], (hidden, matrix), slope) for each in (ours, theirs)), strict=True
    ):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 12), st.integers(1, 14), st.integers(1, 12))
def test_values_hits_and_gradients_are_those_of_all_logits_at_once(tokens, at_once, ids):
    """However the pieces fall, with labels left out, and with no tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, "TOKENS", at_once)
        check(*drawn(tokens, seed=tokens, ids=ids))


@pytest.mark.parametrize("lead", [(7,), (2, 4), (1, 2, 3)])
def test_any_leading_dimensions(lead, monkeypatch):
    monkeypatch.setattr(chunked, "TOKENS", 3)
    check(*drawn(*lead))


def test_gradients_by_finite_differences(monkeypatch):
    monkeypatch.setattr(chunked, "TOKENS", 2)
    hidden, matrix, labels = drawn(5)
    assert torch.autograd.gradcheck(lambda hidden, matrix: cross_entropy(hidden, matrix, labels)[0], (hidden, matrix))


def test_labels_that_do_not_count_teach_nothing():
    hidden, matrix, labels = drawn(6)
    losses, hits = cross_entropy(hidden, matrix, torch.full_like(labels, -100))
    losses.sum().backward()
    assert not losses.any() and not hits.any() and not hidden.grad.any() and not matrix.grad.any()
    other = cross_entropy(hidden, matrix, torch.full_like(labels, 3), ignored=3)[0]
    assert not other.any()


def test_large_logits_stay_finite():
    hidden, matrix, labels = drawn(6, dtype=torch.float32)
    losses, _ = cross_entropy(1e4 * hidden, matrix, labels)
    losses.sum().backward()
    assert losses.isfinite().all() and hidden.grad.isfinite().all() and matrix.grad.isfinite().all()


def test_only_gradients_that_are_needed_are_made():
    hidden, matrix, labels = drawn(6)
    cross_entropy(hidden.detach(), matrix, labels)[0].sum().backward()
    assert hidden.grad is None and matrix.grad is not None
    matrix.grad = None
    cross_entropy(hidden, matrix.detach(), labels)[0].sum().backward()
    assert hidden.grad is not None and matrix.grad is None


def test_a_label_that_is_no_id_is_refused():
    hidden, matrix, labels = drawn(6)
    labels[0] = IDS
    with pytest.raises(RuntimeError, match="out of bounds"):
        cross_entropy(hidden, matrix, labels)


def test_under_autocast_products_are_in_bf16_as_the_plain_way_has_them(monkeypatch):
    monkeypatch.setattr(chunked, "TOKENS", 7)
    hidden, matrix, labels = drawn(40, dtype=torch.float32)
    found = []
    for way in (cross_entropy, plain):
        with torch.autocast("cpu", torch.bfloat16):
            losses, hits = way(hidden, matrix, labels)
        assert losses.dtype == torch.float32
        found.append((losses, hits, *torch.autograd.grad(losses.sum(), (hidden, matrix))))
    (losses, hits, *ours), (right, met, *theirs) = found
    assert torch.equal(hits, met) and torch.allclose(losses, right, atol=1e-5)
    exact = torch.autograd.grad(plain(hidden, matrix, labels)[0].sum(), (hidden, matrix))
    for one, other, best in zip(ours, theirs, exact, strict=True):
        assert one.dtype == torch.float32 and (one - other).norm() <= 0.01 * other.norm()
        assert (one - best).norm() <= 0.02 * best.norm()


def peak(step: Callable[[], object]) -> int:
    """Bytes that a call holds at most beyond those it began with, as torch's allocator counts them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


def test_it_holds_a_part_of_all_logits(monkeypatch):
    """Of 2,048 tokens and 4,096 ids, 32 MiB of logits; a sixteenth of them at once."""
    monkeypatch.setattr(chunked, "TOKENS", 128)
    hidden, matrix, labels = drawn(2048, dtype=torch.float32, ids=4096)
    logits = 4 * 2048 * 4096

    def step(way: Callable[..., tuple[Tensor, Tensor]]) -> None:
        hidden.grad = matrix.grad = None
        way(hidden, matrix, labels)[0].sum().backward()

    for way in (plain, cross_entropy):  # what a first call allocates for good
        step(way)
    most = {way: peak(lambda way=way: step(way)) for way in (plain, cross_entropy)}
    assert most[plain] >= 2 * logits and most[cross_entropy] <= logits / 4


# --- in the training loop ------------------------------------------------------------------------------------

SHAPE = gpts.Shape(TextSize(16, 2, 2, 32), 24, 500)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return out


def trained(training: Training, *, tied: bool = True) -> tuple[dict[str, list[float]], dict[str, Tensor], int]:
    """Curves and weights of a small GPT on noise, and the size of the largest tensor on the way."""
    model = GPT(SHAPE.vocabulary, SHAPE.context, SHAPE.size, tied=tied)
    with Largest() as largest:
        (history,) = fit(
            model, gpts.corpus(SHAPE, 16), training, objective=LanguageModelling(), seeds=[0], ledger=Ledger("cpu")
        )
    return history.curves, model.state_dict(), largest.elements


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_goes_as_without_it_and_holds_no_batch_of_logits(tied, precision, monkeypatch):
    monkeypatch.setattr(chunked, "TOKENS", 32)
    monkeypatch.setattr(evaluation, "MOST_LOGITS", 32 * 500)  # as the largest tensor would otherwise be found there
    how = {"optimizer": "sgd", "lr": 0.1, "precision": precision}  # Adam's steps would magnify what is rounded
    plainly = Training(steps=4, batch_size=8, accumulate=2, eval_every="2 steps", **how)
    (curves, weights, logits), (ours, other, largest) = (
        trained(training, tied=tied) for training in (plainly, replace(plainly, kernels=("cross_entropy",)))
    )
    close = {"rtol": 1e-5, "atol": 1e-6} if precision == "fp32" else {"rtol": 1e-2, "atol": 1e-3}
    for name in ("train_loss", "train_accuracy", "validation_loss"):
        assert ours[name] == pytest.approx(curves[name], rel=close["rtol"], abs=close["atol"])
    for name, weight in weights.items():
        torch.testing.assert_close(other[name], weight, **close)
    assert logits == 4 * 24 * 500 and largest <= 32 * 500


def test_a_head_that_leaves_weights_out_keeps_its_own_product():
    model = GPT(64, 24, SHAPE.size)
    assert model.head_matrix is model.embedding.weight
    model.embedding = BlockSparseEmbedding(model.embedding, 16)
    assert model.head_matrix is None
    assert GPT(64, 24, SHAPE.size, tied=False).head_matrix.shape == (64, 16)


def test_a_kernel_that_nobody_has_is_refused_before_the_training():
    with pytest.raises(ParameterError, match="there is no kernel 'entropy'"):
        Training(steps=1, kernels=("entropy",))


def test_the_gradient_of_a_narrow_matrix_is_summed_in_full(monkeypatch):
    """Of 256 pieces; added up in bfloat16 it would be off by more than one per cent."""
    monkeypatch.setattr(chunked, "TOKENS", 4)
    hidden, matrix, labels = drawn(1024, dtype=torch.float32)
    narrow = [value.detach().bfloat16().requires_grad_() for value in (hidden, matrix)]
    exact = [value.detach().double().requires_grad_() for value in narrow]
    for inputs in (narrow, exact):
        cross_entropy(*inputs, labels)[0].sum().backward()
    ours, right = narrow[1].grad, exact[1].grad
    assert ours.dtype == torch.bfloat16
    assert (ours.double() - right).norm() < 0.004 * right.norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the tests above are of the same code on a CPU")
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 0.003), (torch.bfloat16, 0.02)])
def test_on_a_gpu(dtype, close):
    """Beside float64, on more tokens than one piece has."""
    *exact, labels = (each.cuda() for each in drawn(2500, ids=300))
    exact = [each.detach().requires_grad_() for each in exact]
    inputs = [each.detach().to(dtype).requires_grad_() for each in exact]
    losses = cross_entropy(*inputs, labels)[0], plain(*exact, labels)[0]
    slope = torch.linspace(-1, 1, len(labels), device="cuda")
    found = losses[0], *torch.autograd.grad(losses[0], inputs, slope.to(losses[0].dtype))
    right = losses[1], *torch.autograd.grad(losses[1], exact, slope.double())
    for one, other in zip(found, right, strict=True):
        assert (one - other).norm() <= close * other.norm()
