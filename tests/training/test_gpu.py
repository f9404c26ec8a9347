"""What only a GPU can show; without one every check is skipped and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from effi.cost import Ledger
from effi.data import Dataset
from effi.minimal import Variant
from effi.seeds import seeded
from effi.training import Training, baselines, fit
from effi.training.evaluation import outcome
from effi.training.replay import Replay

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch sees no CUDA device")

TRAINING = Training(epochs=3, batch_size=16, optimizer="sgd", lr=1e-2, clip=0.5)
VARIANT = Variant(width=16, hidden=24, depth=2, heads=2)


def curves(data: Dataset, settings: Training, *seeds: int) -> list[list[float]]:
    device = data.train.inputs.device
    models = [VARIANT.model((3, 8, 8), 4, 4, seed=seed).to(device) for seed in seeds]
    return [h.curves["train_loss"] for h in fit(models, data, settings, seeds=seeds, ledger=Ledger(str(device)))]


def test_a_gpu_follows_the_cpu(data):
    assert curves(data.to("cuda"), TRAINING, 0)[0] == pytest.approx(curves(data, TRAINING, 0)[0], abs=1e-3)


def test_seeds_together_are_seeds_alone(data):
    together = curves(data.to("cuda"), TRAINING, 0, 1)
    for seed in (0, 1):
        assert together[seed] == pytest.approx(curves(data.to("cuda"), TRAINING, seed)[0], abs=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_step_replayed_whole_is_the_step(data, optimizer, seeds, monkeypatch):
    made = []
    monkeypatch.setattr(Replay, "_capture", lambda *args, capture=Replay._capture: made.append(1) or capture(*args))
    settings = replace(TRAINING, epochs=8, optimizer=optimizer, augment=("flip", "crop"), schedule="cosine")
    usual, replayed = (curves(data.to("cuda"), replace(settings, compile=how), *seeds) for how in (False, "step"))
    for ours, theirs in zip(replayed, usual, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    assert made


def test_bf16_augmentation_and_outcome(data):
    device_data = data.to("cuda")
    settings = Training(epochs=2, batch_size=16, precision="auto", augment=("flip", "crop"))
    model, ledger = VARIANT.model((3, 8, 8), 4, 4, seed=0).to("cuda"), Ledger("cuda")
    history = fit(model, device_data, settings, seeds=[0], ledger=ledger)[0]
    metrics = outcome(model, history, device_data).metrics
    assert all(torch.isfinite(torch.tensor(value)) for value in metrics.values())
    assert ledger.total()["peak_bytes"] > 0


def test_seeded_covers_the_device():
    before = torch.cuda.get_rng_state()
    draws = []
    for _ in range(2):
        with seeded(1, "dropout", "cuda"):
            draws.append(torch.rand(8, device="cuda"))
    assert torch.equal(*draws)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_sanity_baselines_do_not_care_where_data_lie(data):
    for kind in baselines.KINDS:
        assert baselines.fit(kind, data.to("cuda")).metrics == baselines.fit(kind, data).metrics
