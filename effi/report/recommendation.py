"""The sentence a practitioner wants of tickets: take this one, it saves so much, or leave it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from effi.claims import measures, stats
from effi.claims.measures import Record
from effi.cost import money
from effi.report.arms import shown
from effi.report.costs import Pair, differences, pairs_with


def recommendation(
    records: Iterable[Record], arms: Sequence[str], *, price: float, baseline: str = "dense", margin: float = 1.0
) -> str:
    """A sentence per group: the one of `arms` that surely saves most time and surely loses less than `margin` points.

    Search included; surely: the 95 % interval over seeds lies wholly on that side. Chosen on validation, told on test.
    Arms that were never drawn have no accuracy and are passed over. ParameterError when no arm is the baseline.
    """
    found: dict[str, list[tuple[float, str]]] = {}
    for arm, pairs in pairs_with(records, baseline).items():
        offers = found.setdefault(measures.dataset(arm), [])
        if arm in arms and pairs and all("validation_accuracy" in pair.arm["metrics"] for pair in pairs):
            offers += filter(None, [_offer(arm, pairs, price, margin)])
    return "\n".join(_sentence(group, offers, margin) for group, offers in found.items())


def _offer(arm: str, pairs: Sequence[Pair], price: float, margin: float) -> tuple[float, str] | None:
    """Seconds saved and the sentence; None when the saving or the accuracy is not sure."""
    dense = [measures.value(pair.baseline, "cost.seconds") for pair in pairs]
    saved = [whole - measures.value(pair.arm, "cost.seconds") for whole, pair in zip(dense, pairs, strict=True)]
    gaps = differences(pairs, "validation_accuracy")
    if stats.interval(saved).low <= 0 or stats.interval(gaps).low <= -margin:
        return None
    mean, tested = sum(saved) / len(saved), shown(differences(pairs, "test_accuracy"), "points", 1)
    words = f"{measures.variant(arm)} {_where(pairs)}saves {mean:.1f} s ({100 * sum(saved) / sum(dense):.0f} %)"
    return mean, f"{words} and {money(mean, price):.4f} of money a training, at {tested}"


def _where(pairs: Sequence[Pair]) -> str:
    """How much of the dense training had passed when the ticket was found."""
    found = [
        (pair.arm["metrics"]["found"], pair.baseline["metrics"]["snapshots"])
        for pair in pairs
        if "found" in pair.arm["metrics"]
    ]
    share = 100 * sum(at / last for at, last in found) / len(found) if found else 0
    return f"(found after {share:.0f} % of training) " if found else ""


def _sentence(group: str, offers: Sequence[tuple[float, str]], margin: float) -> str:
    if not offers:
        return f"{group}: not worth it here; no ticket surely saves time at a loss of less than {margin:g} points."
    return f"{group}: take {max(offers)[1]}."
