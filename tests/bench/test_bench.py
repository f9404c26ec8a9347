"""Benchmarks give complete rows on tiny shapes; what is not installed is named, not raised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from effi import bench
from effi.bench import gpts, gpu, patterns, peers, replays, schedules, soups, suites, tickets
from effi.bench.rounds import FEWEST, Case, Competitor, Missing
from effi.errors import ParameterError
from effi.models.language import TextSize
from effi.models.vision import cifar_vit
from effi.models.vit import ViTShape
from tests.bench.conftest import complete
from tests.graphs import stand_in

TINY = replace(suites.SHAPE, image_size=8, width=16, depth=1, hidden=32)


def test_vit_beside_its_peers() -> None:
    cases = suites.vit(TINY, heads=2, batch=2)
    assert [case.title for case in cases] == ["fp32", "bf16"]
    for case in cases:
        found = complete(case)
        assert found["effi"].flops == 2 * suites.ViT(TINY, heads=2).train_flops(1)
        assert {"timm", "SimpleViT", "x-transformers", "transformers"} <= set(found)


@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_have_the_shape_of_ours(name: str) -> None:
    try:
        model = peers.PEERS[name](suites.SHAPE, suites.HEADS)
    except Missing as reason:
        pytest.skip(f"{name} {reason}")
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    ours = sum(p.numel() for p in suites.ViT(suites.SHAPE, heads=suites.HEADS).parameters())
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(ours, rel=0.01)


def test_compiled_all_are_or_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    found = complete(suites.vit(TINY, heads=2, batch=2, compiled=True)[0])
    assert len(compiled) == len([row for row in found.values() if not row.note]) > 1


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    found = complete(suites.vit(TINY, heads=2, batch=2)[0])
    assert found["effi"].ratio == 1.0
    notes = [row.note for name, row in found.items() if name != "effi"]
    packages = ["timm", "vit-pytorch", "x-transformers", "x-transformers", "transformers"]
    assert notes == [f"not installed: uv pip install {package}" for package in packages]


@pytest.mark.parametrize("error", [ImportError("libfoo is absent"), RuntimeError("torchvision::nms does not exist")])
def test_a_peer_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(module: str) -> None:
        raise error

    monkeypatch.setattr(peers, "find_spec", lambda module: object())
    monkeypatch.setattr(peers, "import_module", fail)
    with pytest.raises(Missing, match=f"does not load: {error}"):
        peers.timm(TINY, 2)


def test_minimal_beside_the_standard_block() -> None:
    found = complete(suites.minimal(TINY, heads=2, batch=2)[0])
    assert list(found) == ["standard", "standard, 1 head", "no MLP", "minimum"]
    assert found["minimum"].flops < found["no MLP"].flops < found["standard"].flops
    assert found["minimum"].parameters < found["no MLP"].parameters < found["standard"].parameters


def test_steps_of_the_minimum_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, mode=None: model)
    captured = stand_in(monkeypatch)
    found = complete(replays.steps(TINY, heads=2, batch=4))
    whole = [f"{name}, whole" for name in ("effi", *peers.PEERS)]
    assert list(found) == [replays.BY_HAND, *replays.WAYS, "step of 3 seeds replayed", *whole]
    assert len(captured.graphs) == 2 and all(graph.replays > FEWEST for graph in captured.graphs)


def test_the_full_size_minimum_needs_a_sixth_of_the_flops() -> None:
    made = {name: make() for name, make in suites.minimal()[0].competitors.items() if name in ("standard", "minimum")}
    assert made["standard"].flops / made["minimum"].flops == pytest.approx(6.4, abs=0.1)


def test_fit_beside_a_loop_by_hand() -> None:
    for case in suites.loop(TINY, batch=8, train=24, validation=8):
        assert case.title.endswith(", 3 steps")
        complete(case)


def test_the_loop_by_hand_learns_as_fit_does() -> None:
    """Both train: the benchmark compares work that is done."""
    data = suites.noise(TINY, 24, 8)
    model = suites.ViT(TINY, heads=2)
    before = model.head.weight.detach().clone()
    suites.epoch_by_hand(model, data, 8)
    assert not torch.equal(model.head.weight, before)


def test_imports_are_timed_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(suites.subprocess, "run", lambda words, check: asked.append(words))
    found = complete(suites.imports()[0])
    assert {"torch", "effi", "effi in the terminal", "effi in a notebook"} <= set(found)
    assert [words[2] for words in asked[:2]] == ["import torch", "import effi"]


def test_what_a_notebook_imports_exists() -> None:
    imported: dict[str, object] = {}
    exec(suites.NOTEBOOK, imported)
    assert set(imported) > {"__builtins__"}


def test_without_a_gpu_one_sentence_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bench.main("gpu", results_dir=tmp_path)
    assert capsys.readouterr().out == "No GPU: torch sees no CUDA device, so that there was nothing to measure.\n\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cases", "calls", "clock"),
    [
        ("small", gpu.CALLS, gpu.seconds),
        ("rounds_of_votes", 1, gpu.seconds),
        ("parts", gpu.PART_CALLS, gpu.queued_seconds),
        ("texts", 1, gpu.seconds),
    ],
)
def test_gpu_competitors_step_often_and_their_memory_is_known(
    monkeypatch: pytest.MonkeyPatch, cases: str, calls: int, clock: Callable[[Callable[[], object]], float]
) -> None:
    stepped: list[str] = []
    makers = {"a": lambda: Competitor(lambda: stepped.append("a")), "b": lambda: Competitor(list, extra_bytes=5)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("small", "rounds_of_votes", "parts", "texts"):
        monkeypatch.setattr(gpu, name, lambda mine=name == cases: [Case("fp32", "a", makers)] if mine else [])
    monkeypatch.setattr(gpu, "needed_bytes", lambda step, device: step() or 7)
    (case,) = [*gpu.timed_by_events(), *gpu.texts_by_events()]
    assert (case.calls, case.clock) == (calls, clock)
    rows = complete(case)
    assert set(rows["a"].seconds) == {1 / calls} and (rows["a"].extra_bytes, rows["b"].extra_bytes) == (7, 5)
    assert len(stepped) == 2 + calls * (2 + 1 + FEWEST)


def test_a_benchmark_of_a_gpu_measures_what_is_asked_of_it() -> None:
    """Cases at full size, none of them made."""
    titles = [case.title for case in gpu.small(gpu.Sizes("cpu"))]
    assert titles[0] == "ceilings, side 8,192"
    assert titles[1:5] == [f"ViT, {how}, batch 64" for how in ("fp32", "bf16", "fp32, compiled", "bf16, compiled")]
    assert titles[5:8] == ["paper 4, fp32, batch 64", "a step of the minimum, batch 64", "step under a mask, batch 512"]
    assert titles[8:10] == ["training step, batch 512", "training step by share removed, batch 512"]
    assert titles[10:] == ["magnitude, 5 M in 100", "magnitude, 85 M in 100"]
    lengths = {"512": 32, "1,024": 16, "2,048": 8, "4,096": 4, "8,192": 2, "16,384": 1}
    longer = [f"attention, {tokens} tokens, batch {batch}, bfloat16" for tokens, batch in lengths.items()]
    words = [case.title for case in gpu.parts()]
    assert words[:12] == longer + [f"{each}, forward" for each in longer]
    widths = ("768 -> 3072", "2048 -> 8192", "4096 -> 16384")
    blocks = [f"{each}, 16,384 tokens, blocks of" for each in widths]
    whole = [f"{each} {size}, bf16" for each in blocks for size in (64, 128)]
    assert words[12:] == whole + [f"{each} 64, bf16, forward" for each in blocks]
    small, words = "GPT 768 x 12, 1,024 tokens, batch 8, bf16", [case.title for case in gpu.texts(gpu.Sizes("cpu"))]
    assert words[:2] == [f"{small}, by phase", f"{small}, schedule to 90 %"]
    assert words[2] == "GPT 6 x 512 to 12 x 768, batch 128 of 128, bf16"
    assert words[3] == "BERT 6 x 512 to 12 x 768, weights and gradients"
    assert words[4] == "head of 768 x 50,304, 8,192 tokens, bf16"
    assert words[5:] == [small, f"{small}, compiled", f"{small}, 80 % pruned"]
    assert [case.title for case in gpu.rounds_of_votes(gpu.Sizes("cpu"))] == [
        "votes of 5 nets, 85 M",
        "5 weak nets of 4 steps",
    ]


TOY = gpu.Sizes(
    device="cpu",
    image=TINY,
    heads=2,
    model=lambda: cifar_vit(image_size=8, width=16, depth=2, heads=4, hidden=32),
    batch=2,
    weak=TINY,
    masked=((2, (5, 10)),),
    text=gpts.Shape(TextSize(64, 1, 2, 128), 16, 64),
    machine=replace(schedules.GPU, device="cpu"),
    parts=4,
    grown=(TextSize(16, 2, 2, 32), TextSize(24, 4, 3, 48)),
    vocabulary=40,
    tokens=256,
    lengths=(32, 64),
    shape=(2, 4),
    window=8,
    widths=((128, 256),),
    sparsities=(0.5, 0.9),
)


@pytest.mark.slow
def test_a_benchmark_of_a_gpu_runs_on_a_cpu_at_toy_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a GPU would be given: what it would first find wrong is found without one."""
    monkeypatch.setattr(torch, "compile", lambda model, mode=None: model)
    stand_in(monkeypatch)
    monkeypatch.setattr(tickets, "CPU_ONLY", tickets.GPU_ONLY)
    monkeypatch.setattr(tickets, "apart", tickets.extra_bytes)  # processes share no GPU
    monkeypatch.setattr(soups, "WAYS", ("in_turn", "stacked"))
    monkeypatch.setattr(gpu, "ceilings", partial(gpu.ceilings, side=8))
    cases = [*gpu.small(TOY), *gpu.parts(TOY), *gpu.texts(TOY), *gpu.rounds_of_votes(TOY)]
    rows = [row for case in cases for row in complete(case).values()]
    notes = {row.competitor: row.note for row in rows if row.note and not row.note.startswith(peers.NOT_INSTALLED)}
    flexible = {f"{kind}, {what}" for kind in patterns.KINDS for what in ("kernel", "FlexAttention")}
    for name in notes.keys() & {*flexible, "causal, FlexAttention"}:
        assert notes.pop(name) == patterns.NO_BACKWARD
    assert {"causal, cuDNN", "torch, 2:4"} <= notes.keys()
    assert notes.keys() <= {"causal, cuDNN", "torch, 2:4", "torchao, 2:4", "torchao, 50 %", "torchao, 90 %"}
    assert all(note.startswith("does not run here: ") for note in notes.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device")
@pytest.mark.parametrize("clock", [gpu.seconds, gpu.queued_seconds])
def test_a_gpu_s_clock_times_what_it_computes(clock: Callable[[Callable[[], object]], float]) -> None:
    """Ten products take ten times as long as one, however much waits before them."""
    product = gpu.ceilings("cuda", side=4096).competitors["product"]().step
    clock(product)
    one, ten = clock(product), clock(gpu.repeated(product, 10))
    assert one > 0 and 5 * one < ten < 20 * one
    assert (gpu.needed_bytes(product, "cuda") or 0) >= 2 * 4096**2


def test_what_is_launched_while_a_gpu_waits_is_timed_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: said.append(cycles))
    monkeypatch.setattr(gpu, "seconds", lambda step: said.append(step()) or 0.5)
    assert gpu.queued_seconds(lambda: "step") == 0.5 and said == [gpu.WAIT_CYCLES, "step"]


def test_an_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match=r'no benchmark "vits"; did you mean .vit.\? Known: vit, minimal, loop'):
        bench.main("vits")


def test_the_full_shape_is_the_one_documented() -> None:
    assert ViTShape(32, 4, 3, 10, 128, 6, 512, positions="learned", final_norm=True) == suites.SHAPE
    assert (suites.SHAPE.tokens, suites.HEADS, suites.BATCH) == (64, 4, 64)
    assert isinstance(suites.ViT(TINY), nn.Module)
