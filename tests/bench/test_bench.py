"""Benchmarks give complete rows on tiny shapes; what is not installed is named, not raised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from effi import bench
from effi.bench import gpu, peers, replays, soups, suites, tickets
from effi.bench.rounds import FEWEST, Case, Competitor, Missing
from effi.bench.slimming import steps_after_removal, steps_by_share
from effi.errors import ParameterError
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
    found = complete(replays.steps(TINY, batch=4))
    assert list(found) == [replays.BY_HAND, *replays.WAYS, "step of 3 seeds replayed"]
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


def test_gpu_competitors_step_often_in_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    stepped: list[str] = []
    plain = Case("fp32", "a", {"a": lambda: Competitor(lambda: stepped.append("a"))})
    monkeypatch.setattr(gpu, "gpu", lambda: [plain])
    monkeypatch.setattr(gpu, "rounds_of_votes", list)
    (case,) = gpu.timed_by_events()
    assert (case.calls, case.clock) == (gpu.CALLS, gpu.seconds)
    assert set(complete(case)["a"].seconds) == {1 / gpu.CALLS}
    assert len(stepped) == gpu.CALLS * (2 + 1 + FEWEST)


def test_gpu_cases_are_those_of_a_cpu_on_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same makers, run here on the CPU: what a GPU would first find wrong is found without one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    rooms = {
        suites: ("vit", "minimal"),
        replays: ("steps",),
        tickets: ("held", "selection"),
        soups: ("votes", "weak_nets"),
    }
    for room, name in ((room, name) for room, names in rooms.items() for name in names):
        made = getattr(room, name)
        monkeypatch.setattr(room, name, lambda made=made, **how: made(**how | {"device": "cpu"}))
    for made in (steps_after_removal, steps_by_share):
        monkeypatch.setattr(gpu, made.__name__, lambda made=made, **how: made(**how | {"device": "cpu"}))
    titles = [case.title for case in gpu.gpu()]
    assert titles[:4] == [f"ViT, {how}, batch 64" for how in ("fp32", "bf16", "fp32, compiled", "bf16, compiled")]
    assert titles[4:6] == ["paper 4, fp32, batch 64", "a step of the minimum, batch 64"]
    assert titles[6:8] == ["step under a mask, batch 512", "training step, batch 512"]
    assert titles[8] == "training step by share removed, batch 512"
    assert titles[9:] == ["magnitude, 5 M in 100", "magnitude, 85 M in 100"]
    small, words = "GPT 768 x 12, 1,024 tokens, batch 8, bf16", [case.title for case in gpu.gpt()]
    assert words[:3] == [small, f"{small}, compiled", f"{small}, 80 % pruned"]
    assert words[3] == "GPT 6 x 512 to 12 x 768, batch 256 of 128, bf16"
    lengths = {"1,024": 16, "2,048": 8, "4,096": 4, "8,192": 2}
    assert words[4:6] == [f"768 -> 3072, 16,384 tokens, blocks of {size}" for size in (64, 128)]
    assert words[6:8] == ["GPT 768 x 12, 1,024 tokens, batch 8, bf16, by phase", f"{small}, schedule to 90 %"]
    assert words[8:] == [f"attention, {tokens} tokens, batch {batch}, bfloat16" for tokens, batch in lengths.items()]
    assert [case.title for case in gpu.rounds_of_votes()] == ["votes of 5 nets, 85 M", "5 weak nets of 4 steps"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device")
def test_gpu_steps_are_timed_by_events() -> None:
    for case in gpu.timed_by_events() + gpu.gpt_by_events():
        measured = [row for row in complete(case).values() if not row.note]
        assert measured and all(second > 0 for row in measured for second in row.seconds)


def test_an_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParameterError, match=r'no benchmark "vits"; did you mean .vit.\? Known: vit, minimal, loop'):
        bench.main("vits")


def test_the_full_shape_is_the_one_documented() -> None:
    assert ViTShape(32, 4, 3, 10, 128, 6, 512, positions="learned", final_norm=True) == suites.SHAPE
    assert (suites.SHAPE.tokens, suites.HEADS, suites.BATCH) == (64, 4, 64)
    assert isinstance(suites.ViT(TINY), nn.Module)
