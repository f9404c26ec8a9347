"""Benchmarks give complete rows on tiny shapes; what is not installed is named, not raised."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from torch import nn

from effi import bench, paths
from effi.bench import peers, rounds, suites
from effi.bench.rounds import Case, Competitor, Missing, save, table, timed
from effi.errors import ParameterError
from effi.models.vit import ViTShape
from effi.records import store

TINY = replace(suites.SHAPE, image_size=8, width=16, depth=1, hidden=32)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sleeper(seconds: float) -> Competitor:
    return Competitor(lambda: time.sleep(seconds), parameters=1234, flops=5 * 10**9)


def absent() -> Competitor:
    raise Missing("not installed: uv pip install absent")


SLEEPERS = Case("naps", "short", {"short": lambda: sleeper(0.002), "long": lambda: sleeper(0.008), "gone": absent})


def test_ratios_are_to_the_reference_and_a_missing_competitor_says_why():
    short, long, gone = timed(SLEEPERS, budget_s=0.1)
    assert short.ratio == 1.0
    assert long.ratio == pytest.approx(4.0, rel=0.3)
    assert min(short.seconds) >= 0.002
    assert len(short.seconds) == len(long.seconds)
    assert (long.reference, long.parameters, long.flops) == ("short", 1234, 5 * 10**9)
    assert (gone.seconds, gone.ratio, gone.note) == ([], None, "not installed: uv pip install absent")


def test_several_calls_in_one_clocked_call_count_as_one_each():
    case = Case("clock", "a", {"a": lambda: sleeper(0.0)}, calls=10, clock=lambda step: 0.5)
    assert set(timed(case, budget_s=0.0)[0].seconds) == {0.05}


def test_table_and_saved_rows(tmp_path):
    rows = timed(SLEEPERS, budget_s=0.0)
    shown = table("naps", rows)
    assert shown.columns[4] == "x short"
    assert [row[1] for row in shown.rows] == ["short", "long", "gone"]
    assert shown.rows[0][4:] == ("1.000", "1", "1,234", "5.00", "")
    assert shown.rows[2][2] == "not installed: uv pip install absent"
    assert "threads, torch" in shown.notes[0]
    for _ in range(2):
        save("naps", rows, tmp_path)
    held = store.rows(paths.bench_file(tmp_path, "naps"))
    assert [row["competitor"] for row in held] == ["short", "long", "gone"] * 2
    assert held[1]["seconds"] == rows[1].seconds
    assert held[0]["provenance"]["versions"]["torch"] == version("torch")
    assert json.dumps(held[0]["written"])


def complete(case: Case) -> dict[str, rounds.Row]:
    """Rows of one round by competitor, checked: each has seconds and a ratio, or says why not."""
    found = {row.competitor: row for row in timed(case, budget_s=0.0)}
    assert list(found) == list(case.competitors)
    for row in found.values():
        assert row.note or (row.ratio > 0 and all(second > 0 for second in row.seconds)), row
    assert found[case.reference].ratio == 1.0
    return found


def test_vit_beside_its_peers():
    cases = suites.vit(TINY, heads=2, batch=2)
    assert [case.title for case in cases] == ["fp32", "bf16"]
    for case in cases:
        found = complete(case)
        assert found["effi"].flops == 2 * suites.ViT(TINY, heads=2).train_flops(1)
        assert {"timm", "SimpleViT", "x-transformers", "transformers"} <= set(found)


@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_have_the_shape_of_ours(name):
    try:
        model = peers.PEERS[name](suites.SHAPE, suites.HEADS)
    except Missing as reason:
        pytest.skip(f"{name} {reason}")
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    ours = sum(p.numel() for p in suites.ViT(suites.SHAPE, heads=suites.HEADS).parameters())
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(ours, rel=0.01)


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    found = complete(suites.vit(TINY, heads=2, batch=2)[0])
    assert found["effi"].ratio == 1.0
    notes = [row.note for name, row in found.items() if name != "effi"]
    packages = ["timm", "vit-pytorch", "x-transformers", "x-transformers", "transformers"]
    assert notes == [f"not installed: uv pip install {package}" for package in packages]


@pytest.mark.parametrize("error", [ImportError("libfoo is absent"), RuntimeError("torchvision::nms does not exist")])
def test_a_peer_that_does_not_load_says_why(monkeypatch, error):
    def fail(module: str) -> None:
        raise error

    monkeypatch.setattr(peers, "find_spec", lambda module: object())
    monkeypatch.setattr(peers, "import_module", fail)
    with pytest.raises(Missing, match=f"does not load: {error}"):
        peers.timm(TINY, 2)


def test_minimal_beside_the_standard_block():
    found = complete(suites.minimal(TINY, heads=2, batch=2)[0])
    assert list(found) == ["standard", "standard, 1 head", "no MLP", "minimum"]
    assert found["minimum"].flops < found["no MLP"].flops < found["standard"].flops
    assert found["minimum"].parameters < found["no MLP"].parameters < found["standard"].parameters


def test_the_full_size_minimum_needs_a_sixth_of_the_flops():
    made = {name: make() for name, make in suites.minimal()[0].competitors.items() if name in ("standard", "minimum")}
    assert made["standard"].flops / made["minimum"].flops == pytest.approx(6.4, abs=0.1)


def test_fit_beside_a_loop_by_hand():
    for case in suites.loop(TINY, batch=8, train=24, validation=8):
        assert case.title.endswith(", 3 steps")
        complete(case)


def test_the_loop_by_hand_learns_as_fit_does():
    """Both train: the benchmark compares work that is done."""
    data = suites.noise(TINY, 24, 8)
    model = suites.ViT(TINY, heads=2)
    before = model.head.weight.detach().clone()
    suites.epoch_by_hand(model, data, 8)
    assert not torch.equal(model.head.weight, before)


def test_imports_are_timed_in_processes_of_their_own(monkeypatch):
    asked: list[list[str]] = []
    monkeypatch.setattr(suites.subprocess, "run", lambda words, check: asked.append(words) or time.sleep(0.001))
    found = complete(suites.imports()[0])
    assert {"torch", "effi", "effi in the terminal", "effi in a notebook"} <= set(found)
    assert [words[2] for words in asked[:2]] == ["import torch", "import effi"]


def test_what_a_notebook_imports_exists():
    imported: dict[str, object] = {}
    exec(suites.NOTEBOOK, imported)
    assert set(imported) > {"__builtins__"}


def test_without_a_gpu_one_sentence_and_nothing_is_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bench.main("gpu", results_dir=tmp_path)
    assert capsys.readouterr().out == "No GPU: torch sees no CUDA device, so that there was nothing to measure.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device")
def test_gpu_steps_are_timed_by_events():
    for case in suites.gpu():
        measured = [row for row in complete(case).values() if not row.note]
        assert measured and all(second > 0 for row in measured for second in row.seconds)


def test_main_prints_and_appends_every_benchmark(monkeypatch, capsys, tmp_path):
    tiny = {"one": lambda: [SLEEPERS], "two": lambda: [SLEEPERS, replace(SLEEPERS, title="more naps")]}
    monkeypatch.setattr(bench, "BENCHES", tiny)
    bench.main(results_dir=tmp_path, budget_s=0.0)
    out = capsys.readouterr().out
    assert "Benchmark one" in out
    assert "more naps" in out
    assert len(store.rows(paths.bench_file(tmp_path, "one"))) == 3
    assert len(store.rows(paths.bench_file(tmp_path, "two"))) == 6


def test_an_unknown_benchmark_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match=r'no benchmark "vits"; did you mean .vit.\? Known: vit, minimal, loop'):
        bench.main("vits")


def test_the_full_shape_is_the_one_documented():
    assert ViTShape(32, 4, 3, 10, 128, 6, 512, positions="learned", final_norm=True) == suites.SHAPE
    assert (suites.SHAPE.tokens, suites.HEADS, suites.BATCH) == (64, 4, 64)
    assert isinstance(suites.ViT(TINY), nn.Module)
