"""What attention does after training."""

from __future__ import annotations

import itertools

from effi.claims import Results
from effi.report.tables import Table

# What effi.minimal.diagnose finds, in words.
FACTS = {
    "symmetric_fraction": "symmetric share of Wqk",
    "negative_share": "negative eigenvalues",
    "effective_rank": "effective rank",
    "self_weight": "weight on itself",
    "entropy": "entropy, nats",
    "token_similarity": "likeness of tokens",
}


def attention_table(results: Results) -> Table:
    """Mean over layers and seeds of every arm that kept the histories layer_*; RecordError when none did."""
    found = results.remembering(*(f"layer_{fact}" for fact in FACTS))
    rows = ((arm, *(_mean(found, arm, f"layer_{fact}") for fact in FACTS)) for arm in found.arms)
    return Table("Attention after training", ("arm", *FACTS.values()), tuple(rows))


def _mean(results: Results, arm: str, name: str) -> str:
    layers = list(itertools.chain.from_iterable(results.history(arm, name)))
    return f"{sum(layers) / len(layers):.2f}"
