"""Two processes under torchrun against one: the same curves and masks, through a kill and on another number of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from effi import paths
from effi.bench.processes import ALONE
from effi.errors import ParameterError
from effi.records import store
from effi.training import Training
from effi.training.ranks import Ranks
from tests.parallel import trainings
from tests.parallel.trainings import IN_PARTS, KINDS, STEPS, Found, file
from tests.training.conftest import one_thread as one_thread
from tests.training.tiny import images

pytestmark = pytest.mark.slow
CLOSE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes found; torchrun starts them once, and once more after a kill."""
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "tests.parallel", str(folder)]
    # Else processes that were started anew may find the addresses of those before them.
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    ended = subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Found]:
    return {name: kind(None) for name, kind in KINDS.items()}


def close(found: list[float], wanted: list[float]) -> None:
    assert len(found) == len(wanted)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=CLOSE, atol=0)


def same(a: Any, b: Any) -> bool:
    """Whether named tensors are the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


EVERY = [*KINDS, *(f"{name} in parts" for name in IN_PARTS)]


@pytest.mark.parametrize("name", EVERY)
def test_losses_are_those_of_one_process(name: str, ranks: Any, alone: Any) -> None:
    found, wanted = ranks[0][name], alone[name.removesuffix(" in parts")]
    assert len(found["losses"]) == STEPS
    close(found["losses"], wanted["losses"])
    close(found["validation"], wanted["validation"])
    assert found["flops"] == wanted["flops"], "all processes are counted once"
    assert found.get("accuracies") == wanted.get("accuracies")


@pytest.mark.parametrize("name", EVERY)
def test_processes_hold_the_same_bits(name: str, ranks: Any) -> None:
    assert same(ranks[0][name]["weights"], ranks[1][name]["weights"])
    assert ranks[0][name]["losses"] == ranks[1][name]["losses"]


def test_masks_that_move_are_the_same_on_all_processes(ranks: Any) -> None:
    for name in ("moving", "precisely", "in blocks"):
        first, second = (rank[name]["masks"] for rank in ranks)
        assert len(first) == STEPS and all(map(same, first, second))
        assert not same(first[0], first[-1]), "they move"


def test_in_float64_masks_are_those_of_one_process(ranks: Any, alone: Any) -> None:
    assert all(map(same, ranks[0]["precisely"]["masks"], alone["precisely"]["masks"]))
    assert ranks[0]["precisely"]["told"] == alone["precisely"]["told"]


def test_a_killed_process_comes_back_and_changes_no_bit(ranks: Any) -> None:
    killed, undisturbed = ranks[0]["killed"], ranks[0]["undisturbed"]
    assert 10 <= killed["steps"][0] <= 11, "from the last checkpoint"
    assert killed["losses"] == undisturbed["losses"]
    assert same(killed["weights"], undisturbed["weights"])


def test_dropout_is_drawn_by_each_process(ranks: Any) -> None:
    assert ranks[0]["undisturbed"]["losses"] != trainings.noisy(None)["losses"]


def test_one_process_goes_on_where_two_ended(ranks: Any, alone: Any, folder: Path) -> None:
    left = list(file(folder, "cut").parent.glob("cut.*.shards"))
    assert len(left) == 1 and not list(left[0].glob("*.distcp")), "one checkpoint, and no pickle"
    assert len(list(left[0].glob("*.safetensors"))) == 2, "each process wrote a part"
    seen: list[int] = []
    found = trainings.dense("ddp", checkpoint=file(folder, "cut"), after_step=[lambda step: seen.append(step.index)])
    assert seen == list(range(11, STEPS + 1)) or seen == list(range(10, STEPS + 1))
    close(found["losses"], alone["dense"]["losses"])
    assert found["flops"] == alone["dense"]["flops"]


def test_one_process_goes_on_where_two_held_parts(ranks: Any, alone: Any, folder: Path) -> None:
    found = trainings.masked("fsdp", checkpoint=file(folder, "parts"))
    close(found["losses"], alone["masked"]["losses"])
    pruned = [int((weight == 0).sum()) for weight in found["weights"].values()]
    assert pruned == [int((weight == 0).sum()) for weight in alone["masked"]["weights"].values()]


def test_the_first_process_writes_and_all_see_the_records(ranks: Any, folder: Path) -> None:
    first, second = (rank["recorded"] for rank in ranks)
    assert first["records"] == second["records"] and first["failed"] == second["failed"]
    assert [arm for arm, _, _ in first["records"]] == ["fine", "fine", "both"]
    assert len(first["failed"]) == 2 and "is not a number" in first["failed"][0]
    rows = store.records(paths.records_file(folder / "results", "smoke", "paper"))
    assert len(rows) == 5, "no arm is written twice"
    assert {row["provenance"]["processes"] for row in rows} == {2}
    assert torch.equal(first["made"], second["made"]), "artefacts are the first process's"
    assert not list((folder / "results").rglob("*.shards"))
    assert json.loads((folder / "results/smoke/paper/progress.json").read_text())["failed"] == 2


def test_what_cannot_be_shared_is_refused_on_every_process(ranks: Any) -> None:
    assert ranks[0]["refused"] == ranks[1]["refused"]
    masks, seeds, pairs, norms, listeners, muon, rest = ranks[0]["refused"]
    assert "hold different masks" in masks and "together=1" in seeds
    assert "contrastive" in pairs and "batch norm" in norms
    assert "fsdp has weights and gradients in parts" in listeners and 'take parallel="ddp"' in muon
    assert "none may rest" in rest


def test_steps_are_timed_alone_apart_and_together(ranks: Any) -> None:
    counts = [{name: len(seconds) for name, seconds in rank["step"].items()} for rank in ranks]
    assert list(counts[0].values()) == [2, 2, 2], "without the round that warms up"
    assert counts[1] == {**counts[0], ALONE: 0}, "the second process waits"
    assert all(second > 0 for seconds in ranks[0]["step"].values() for second in seconds)


def test_after_they_part_each_is_alone(ranks: Any) -> None:
    assert [rank["size"] for rank in ranks] == [2, 2]
    assert [rank["alone"] for rank in ranks] == [1, 1]


def test_rows_are_shared_out_whole_and_in_order() -> None:
    for count in range(1, 12):
        taken = [Ranks(rank, 3).rows(count) for rank in range(3)]
        rows = [row for place, times in taken for row in list(range(count))[place] * times]
        assert rows == list(range(count))
        sizes = [len(range(count)[place]) for place, _ in taken]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1


def test_alone_a_parallel_training_has_the_bits_of_a_plain_one(alone: Any) -> None:
    found = trainings.dense("ddp")
    assert same(found["weights"], alone["dense"]["weights"]) and found["losses"] == alone["dense"]["losses"]


def test_an_unknown_way_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match="unknown parallel 'dpp' of a training; use ddp, fsdp or None"):
        Training(steps=1, parallel="dpp")  # type: ignore[arg-type]


def test_images_leave_a_batch_of_one() -> None:
    """Else nothing here would see a process without an example."""
    assert len(images().train) % trainings.COMMON["batch_size"] == 1
