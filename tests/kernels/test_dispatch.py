"""One rule says what computes: where a kernel can run, what was asked for, and what was measured."""

from __future__ import annotations

import pytest
import torch

from effi.errors import ParameterError
from effi.kernels import CROSSOVERS, Crossover, dispatch, taken, takes, using

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def hopper(monkeypatch):
    """A machine with triton and a GPU of a known name."""
    monkeypatch.setattr(dispatch, "_has_triton", lambda: True)
    monkeypatch.setattr(dispatch, "_gpu", lambda device: "NVIDIA H200")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_no_kernel_is_the_default_before_it_was_measured(hopper):
    assert all(crossover is None for crossover in CROSSOVERS.values())
    assert not any(takes(name, GPU, 10**9) for name in CROSSOVERS)


def test_what_is_asked_for_computes_on_a_gpu_and_no_longer_than_asked(hopper):
    with using("adamw"):
        assert takes("adamw", GPU, 1) and not takes("adamw", CPU, 1) and not takes("selection", GPU, 1)
        with using("selection"):
            assert takes("adamw", GPU, 1) and takes("selection", GPU, 1)
        assert not takes("selection", GPU, 1)
    assert not takes("adamw", GPU, 1)


def test_what_computed_is_told_once(hopper):
    taken()
    with using("adamw", "selection"):
        takes("selection", GPU, 1), takes("adamw", GPU, 1), takes("adamw", CPU, 1), takes("block_sparse", GPU, 1)
    assert (taken(), taken()) == (["adamw", "selection"], [])


def test_a_compiled_model_is_not_compiled_anew_for_what_was_noted(hopper):
    made = []

    def counting(graph, inputs):
        made.append(graph)
        return graph.forward

    def work(x):
        return 2 * x if takes("cross_entropy", x.device, 1) else x

    called = torch.compile(work, backend=counting)
    with using("cross_entropy", "adamw"):
        for _ in range(3):
            assert called(torch.ones(2)).tolist() == [2.0, 2.0]
            takes("adamw", GPU, 1)
            assert taken() == ["adamw", "cross_entropy"]
    assert len(made) == 1


def test_another_gpu_than_the_current_one_is_left_to_torch(hopper, monkeypatch):
    monkeypatch.setattr(dispatch, "_current", lambda: 1)
    with using("adamw"):
        assert [takes("adamw", torch.device("cuda", index), 1) for index in (0, 1)] == [False, True]


def test_wishes_end_with_an_error(hopper):
    with pytest.raises(ZeroDivisionError), using("adamw"):
        raise ZeroDivisionError
    assert not takes("adamw", GPU, 1)


def test_a_measured_kernel_computes_from_its_crossover_on_its_gpu(hopper, monkeypatch):
    monkeypatch.setattr(dispatch, "CROSSOVERS", {"adamw": Crossover("NVIDIA H200", 1000)})
    assert [takes("adamw", GPU, size) for size in (999, 1000)] == [False, True]
    monkeypatch.setattr(dispatch, "_gpu", lambda device: "NVIDIA A100")
    assert not takes("adamw", GPU, 1000)


def test_without_triton_torch_computes(hopper, monkeypatch):
    monkeypatch.setattr(dispatch, "_has_triton", lambda: False)
    with using("adamw"):
        assert not takes("adamw", GPU, 1)


def test_an_unknown_name_is_refused():
    with (
        pytest.raises(ParameterError, match=r"there is no kernel 'adam'; did you mean 'adamw'\? Known: "),
        using("adam"),
    ):
        pass
    with pytest.raises(ParameterError, match="there is no kernel 'sort'"):
        takes("sort", CPU, 1)


@pytest.mark.slow
def test_the_rule_does_not_break_a_compiled_model(monkeypatch):
    """With a crossover, for which the name of the device is needed; a wish makes another version."""
    monkeypatch.setattr(dispatch, "CROSSOVERS", {"adamw": Crossover("NVIDIA H200", 10)})
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    def taken(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if takes("adamw", x.device, len(x)) else x

    torch.compiler.reset()
    compiled, x = torch.compile(taken, backend="eager", fullgraph=True), torch.zeros(20)
    assert not compiled(x).any()
    with using("adamw"):
        assert compiled(x).all()
    assert not compiled(x).any()
    torch.compiler.reset()
