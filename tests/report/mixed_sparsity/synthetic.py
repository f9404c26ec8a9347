"""Records of paper 3, made up for tests: forty steps, evaluated every ten, with updates of the mask between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.claims import synthetic

STEPS = (10, 20, 30, 40)
PHASES = {"ultra": 0.8, "warmup": 0.25, "restoration": 0.25}
LADDER = {"dense-eighth": 0.125, "dense-quarter": 0.25, "dense-half": 0.5, "dense": 1.0}


def arm(name: str) -> str:
    return f"d/gpt/{name}"


def run(name: str, seed: int, flops: float, loss: float, **more: Any) -> dict[str, Any]:
    """A training whose validation loss falls by 3.0, 0.5 and 0.25 to its last, 1 below that of the test split."""
    ratios = {"flops_ratio/causal": flops, "flops_ratio/square": 0.9 * flops}
    found = synthetic.record(arm(name), seed, test_loss=loss, validation_loss=loss - 1, **ratios, **more)
    spent = {ratio: [value * step / STEPS[-1] for step in STEPS] for ratio, value in ratios.items()}
    losses = [loss - 1 + above for above in (3.75, 0.75, 0.25, 0.0)]
    found["history"] = {"step": list(STEPS), "tokens": [100 * step for step in STEPS], "validation_loss": losses}
    found["history"] |= spent
    return found


def ladder(at_one: float = 3.0, spread: float = 0.0) -> list[dict[str, Any]]:
    """Three seeds of dense runs; halving the FLOPs raises the loss by 0.4."""
    losses = dict(zip(LADDER, (at_one + 0.4 * power for power in (3, 2, 1, 0)), strict=True))
    return [
        run(name, seed, flops, losses[name] + spread * (seed - 1))
        for name, flops in LADDER.items()
        for seed in range(3)
    ]


def sparse(
    name: str, seed: int = 0, *, phases: Mapping[str, float] | None = PHASES, shift: float = 0.0, **metrics: float
) -> dict[str, Any]:
    """A training whose mask changes after 10, 20 and 30 steps; `shift` moves what an update activates, by seed."""
    found = run(name, seed, 0.25, 3.0, **metrics)
    found["settings"] = {"recipe": {} if phases is None else {"phases": dict(phases)}}
    layers = {"attention.qkv": 0.85, "attention.out": 0.7, "mlp.0": 0.8, "mlp.2": 0.8, "embedding": 0.9}
    told: dict[str, Sequence[float]] = {
        "step": [0, 10, 20, 30],
        "target": [0.0, 0.8, 0.8, 0.0],
        "churn": [0.0, 0.1 + shift, 0.2 + shift, 0.3 + shift],
        "ever": [0.5, 0.6, 0.7, 1.0],
        **{f"sparsity/{layer}": [0.0, most, most, 0.0] for layer, most in layers.items()},
    }
    found["history"] |= {f"mask/{each}": list(values) for each, values in told.items()}
    return found


def counted(name: str, seed: int = 0, *, gradients: float = 0.02) -> dict[str, Any]:
    """FLOPs of two phases in both ways of counting; by the causal one attention counts half."""
    ledger = {}
    for convention, attention in (("square", 0.1), ("causal", 0.05)):
        for phase in ("ultra", "restoration"):
            parts = {"linears": 0.06, "head": 0.03, "attention": attention, "dense_gradients": gradients}
            ledger |= {f"ledger/{convention}/{phase}/{part}": value for part, value in parts.items()}
    found = run(name, seed, 0.0, 3.0)
    found["metrics"] |= ledger
    for convention in ("square", "causal"):
        own = [value for each, value in ledger.items() if f"/{convention}/" in each]
        found["metrics"][f"flops_ratio/{convention}"] = sum(own)
    return found
