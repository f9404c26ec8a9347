"""What an arm saves and loses, and the advice drawn from that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from effi.claims import Results
from effi.claims.stats import Interval
from effi.errors import ParameterError
from effi.records.arms import packed
from effi.report import Recommendation, advice, choose, trades
from effi.report.trades import NONE_AT_SMOKE, unlearned_sentence, validation_of
from tests.claims import synthetic
from tests.claims.synthetic import REPORT, paper
from tests.report.synthetic import trained

SCORED = REPORT | {"baseline": "dense", "score": "test_accuracy", "margin": "accuracy"}
MARGINS = {"accuracy": {"e": 0.3, "other": 1.0}, "loss": {"other": 1.0}}
PAPER = paper(report=SCORED, margins=MARGINS)


def arm(name: str, accuracies: Sequence[float], validation: float | None = None, **cost: Any) -> list[dict[str, Any]]:
    """A record per accuracy, seeds from 0; on validation the same accuracy, or one of its own."""
    records = [trained(name, seed, accuracy, **cost) for seed, accuracy in enumerate(accuracies)]
    for record in records:
        record["metrics"] |= {} if validation is None else {"validation_accuracy": validation}
    return records


def hitting(name: str, hits: np.ndarray, **options: Any) -> list[dict[str, Any]]:
    """Records of hits, bool (seeds, test examples)."""
    records = arm(name, hits.mean(1).tolist(), **options)
    for record, own in zip(records, hits, strict=True):
        record["marks"] = {"test_accuracy": packed(torch.from_numpy(own))}
    return records


def missing(count: int, examples: int, seeds: int = 3) -> np.ndarray:
    """Hits of seeds that all miss the same first `count` examples."""
    return np.tile(np.arange(examples) >= count, (seeds, 1))


def found(records: Sequence[dict[str, Any]], **options: Any) -> Recommendation:
    (only,) = choose(Results(records), PAPER, baseline="dense", **options)
    return only


def said(records: Sequence[dict[str, Any]], **options: Any) -> str:
    return advice(choose(Results(records), PAPER, baseline="dense", **options), 3.6)


def about(accuracy: float) -> list[float]:
    """Three seeds that scatter little."""
    return [accuracy - 0.001, accuracy, accuracy + 0.001]


def runs(dataset: str = "d") -> list[dict[str, Any]]:
    """Three seeds: near loses 0.4 points for 60 % of the FLOPs, nearer none for 80 %, far ten for 10 %."""
    return [
        *arm(f"{dataset}/dense", [0.8, 0.8, 0.8]),
        *arm(f"{dataset}/near", [0.795, 0.796, 0.797], flops=60.0),
        *arm(f"{dataset}/nearer", about(0.8), flops=80.0),
        *arm(f"{dataset}/far", about(0.7), flops=10.0),
    ]


UNKNOWN = "The number of test examples is not recorded: the interval leaves their error out."


def test_the_cheapest_arm_that_surely_keeps_the_score_is_taken() -> None:
    assert said(runs()) == (
        "d: take near instead of dense, for 60.0 % of its FLOPs; test accuracy changes by -0.4 points [-0.6, -0.2] "
        f"over 3 seeds, so that surely less than 1 point is lost. {UNKNOWN}"
    )


def test_the_margin_is_that_of_the_data_set() -> None:
    assert said(runs("e")).startswith("e: take nearer instead of dense, for 80.0 %")
    assert "less than 0.3 points is lost" in said(runs("e"))


def test_a_group_each_and_only_what_is_on_offer() -> None:
    first, second = said([*runs("d"), *runs("e")], arms=["d/nearer", "e/far"]).split("\n")
    assert first.startswith("d: take nearer")
    assert second.startswith(
        "e: stay with dense: of far, chosen on validation, test accuracy changes by -10.0 points [-10.2, -9.8] "
        "over 3 seeds, so that surely more than 0.3 points is lost."
    )


def test_validation_chooses_and_test_alone_decides() -> None:
    # By test `thin` would win; by validation `lucky` does, and its test is what counts.
    records = [
        *arm("d/dense", [0.8, 0.8, 0.8]),
        *arm("d/thin", about(0.8), validation=0.7, flops=10.0),
        *arm("d/lucky", about(0.6), validation=0.8, flops=20.0),
    ]
    chosen = found(records)
    assert chosen.decision == "stay" and chosen.trade is not None and chosen.trade.label == "lucky"
    better = found([*records[:6], *arm("d/lucky", about(0.8), validation=0.8, flops=20.0)])
    assert better.decision == "take" and better.trade is not None and better.trade.label == "lucky"


def test_without_an_arm_that_validation_keeps_the_best_there_is_told_of() -> None:
    records = [
        *arm("d/dense", [0.8, 0.8, 0.8]),
        *arm("d/bad", about(0.7), flops=10.0),
        *arm("d/worse", about(0.6), flops=5.0),
    ]
    assert found(records).why.startswith(
        "stay with dense: of bad, chosen on validation, test accuracy changes by -10.0"
    )


def test_validation_is_never_the_test_split() -> None:
    assert validation_of("test_accuracy") == validation_of("best_test_accuracy") == "validation_accuracy"
    assert validation_of("test_loss") == "validation_loss"
    for wrong in ("validation_accuracy", "test_f1", "parameters"):
        with pytest.raises(ParameterError, match=f"Nothing can be chosen on validation for '{wrong}'"):
            said(runs(), told=wrong)


@pytest.mark.parametrize(
    ("seconds", "why"),
    [
        ([105, 106, 107], "stay with dense: no arm on offer saves seconds"),
        (
            [101, 102, 103],
            "cannot tell, because no arm surely saves seconds: ticket, the cheapest on offer, takes 102.0 % [99.5, "
            "104.5] of its seconds",
        ),
        (
            [60, 60, 60],
            "cannot tell, because no arm surely saves seconds: ticket, the cheapest on offer, takes 60.0 % of its "
            "seconds",
        ),
        (
            [60, 100, 140],
            "cannot tell, because no arm surely saves seconds: ticket, the cheapest on offer, takes 94.4 % [32.7, "
            "272.3] of its seconds",
        ),
    ],
)
def test_who_saves_nothing_and_whose_saving_is_noise(seconds: Sequence[float], why: str) -> None:
    tickets = [arm("d/ticket", about(0.8), seconds=each)[seed] for seed, each in enumerate(seconds)]
    assert found([*arm("d/dense", [0.8] * 3, seconds=100.0), *tickets], by="seconds").why == why


def test_by_seconds_it_tells_what_is_saved() -> None:
    tickets = [arm("d/ticket", about(0.8), seconds=each)[seed] for seed, each in enumerate((60, 61, 59))]
    words = said([*arm("d/dense", [0.8] * 3, seconds=100.0), *tickets], by="seconds")
    assert words.startswith("d: take ticket instead of dense, for 60.0 % [57.6, 62.5] of its seconds; ")
    assert words.endswith(" Saved: 40.0 s a training, and 40.01 of money in a thousand of them.")


TIMED = paper(report=SCORED | {"timing": "check/time"}, margins={"accuracy": {"other": 1.0}}, timed=["time_ratio/*"])


def test_seconds_of_steps_timed_alone_count_more_than_those_of_trainings_side_by_side() -> None:
    # Side by side `same` looked twice as fast as dense; alone it takes as long, and `slim` 60 %.
    records = [*arm("d/dense", [0.8] * 3, seconds=100.0), *arm("d/same", about(0.8), seconds=50.0)]
    records += [*arm("d/slim", about(0.8), seconds=130.0), *arm("d/untimed", about(0.8), seconds=10.0)]
    for seed, noise in enumerate((-0.01, 0.0, 0.01)):
        ratios: dict[str, Any] = {"time_ratio/d/same": 1.02 + noise / 2, "time_ratio/d/slim": 0.6 + noise}
        records.append(synthetic.record("check/time", seed, **ratios))
    words = advice(choose(Results(records), TIMED, baseline="dense", by="seconds"), 3.6)
    assert words.startswith("d: take slim instead of dense, for 60.0 % [57.6, 62.5] of its seconds; ")
    assert words.endswith(" Saved: 40.0 s a training, and 40.01 of money in a thousand of them.")
    (beside,) = choose(Results(records[:-3]), TIMED, baseline="dense", by="seconds")
    assert "untimed, the cheapest on offer" in beside.why


def test_seconds_of_trainings_side_by_side_are_said_to_be_so() -> None:
    records = [*arm("d/dense", [0.8] * 3, seconds=100.0, side_by_side=2), *arm("d/slim", about(0.8), seconds=60.0)]
    note = "Seconds are those of trainings side by side, which a training alone need not take."
    assert note in found(records, by="seconds").notes and note not in found(records).notes


def test_accuracy_that_is_noise_cannot_be_told() -> None:
    records = [*arm("d/dense", [0.8] * 3), *arm("d/ticket", [0.75, 0.8, 0.85], validation=0.8, flops=60.0)]
    assert found(records).why == (
        "cannot tell: of ticket, chosen on validation, test accuracy changes by 0.0 points [-12.4, 12.4] over 3 seeds; "
        "whether less than 1 point is lost, about 99 seeds would tell"
    )


def test_one_seed_is_never_sure() -> None:
    one = found([each for each in runs() if each["seed"] == 0])
    assert one.decision == "cannot tell"
    assert one.why == "cannot tell, because one seed shows no spread: train three or more"


def test_without_a_validation_metric_nothing_is_chosen() -> None:
    records = runs()[:6]
    for record in records:
        del record["metrics"]["validation_accuracy"]
    assert found(records).why == "cannot tell, because near holds no validation metric to be chosen by"


def test_seeds_that_agree_by_chance_are_not_sure() -> None:
    told = found([*arm("d/dense", [0.8] * 3), *arm("d/small", [0.8] * 3, flops=20.0)])
    assert told.decision == "cannot tell" and told.why.endswith("more seeds would tell")


def test_a_group_with_another_score_is_advised_by_that() -> None:
    """All arms cost what dense training does, which no score is needed to say."""
    records = [record for record in runs() if record["variant"] in ("dense", "near")]
    for record in records:
        record["metrics"]["test_pearson"] = record["metrics"].pop("test_accuracy")
        record["cost"]["flops"] = 100.0
    of_numbers = paper(report=SCORED, margins=MARGINS, scores={"task": {"other": "test_pearson"}})
    (told,) = choose(Results(records), of_numbers, baseline="dense")
    assert (told.decision, told.why) == ("stay", "stay with dense: no arm on offer saves FLOPs")


def test_arms_that_were_never_drawn_are_not_on_offer() -> None:
    records = runs()[:6]
    for record in records[3:]:
        record["metrics"] = {}
    assert found(records).decision == "cannot tell"
    assert found(records).why == "cannot tell, because no arm on offer was measured beside dense"


def test_of_a_loss_more_is_worse() -> None:
    records = runs()
    for record in records:
        loss = {"d/dense": 3.0, "d/near": 2.0 + record["seed"] / 10}.get(record["arm"], 9.0 + record["seed"] / 10)
        record["metrics"] |= {"test_loss": loss, "validation_loss": loss}
    lossy = paper(report=SCORED | {"score": "test_loss", "margin": "loss"}, margins={"loss": {"other": 1.0}})
    assert advice(choose(Results(records), lossy, baseline="dense"), 1.0).startswith("d: take near instead")
    with pytest.raises(ParameterError, match="The margin of advice is one of test accuracy: tell test_accuracy"):
        said(records, told="test_loss")


def test_at_smoke_nothing_is_advised() -> None:
    records = [{**record, "scale": "smoke"} for record in runs()]
    assert said(records) == NONE_AT_SMOKE and choose(Results(records), PAPER, baseline="dense") == []


# --- a finite test set ---------------------------------------------------------------------------------------


def test_two_dozen_images_that_all_arms_hit_leave_twelve_points_open() -> None:
    both = missing(0, 24)
    told = found([*hitting("d/dense", both), *hitting("d/small", both, flops=20.0)])
    assert told.decision == "cannot tell"
    assert told.why == (
        "cannot tell: of small, chosen on validation, test accuracy changes by 0.0 points [-11.7, 11.7] over 3 seeds "
        "and 24 test examples; whether less than 1 point is lost, about 300 test examples would tell"
    )


def test_as_many_as_are_asked_for_decide() -> None:
    both = missing(0, 300)
    assert found([*hitting("d/dense", both), *hitting("d/small", both, flops=20.0)]).decision == "take"


def test_noise_of_which_one_class_is_the_most_is_not_learned() -> None:
    # 230 images of one class and 10 of the other: every arm says the first, as the majority class does.
    both = missing(2, 48)
    records = [*hitting("d/dense", both), *hitting("d/small", both, flops=20.0), *hitting("d/majority", both)]
    told = found(records)
    assert told.decision == "cannot tell"
    assert told.why == (
        "cannot tell, because dense has not learned: test accuracy 95.8 % [89.8, 100.0], not surely above 95.8 % "
        "[89.8, 100.0] of the majority class"
    )


def test_a_model_at_chance_is_not_advised_for_its_speed() -> None:
    generator = np.random.default_rng(0)
    same = generator.random((3, 60)) < 0.5
    learned = np.tile(generator.random(60) < 0.75, (3, 1))
    records = [
        *hitting("d/dense", same, seconds=5.0),
        *hitting("d/structured", same, seconds=0.6),
        *hitting("d/logistic", learned),
    ]
    told = found(records, by="seconds")
    assert told.decision == "cannot tell" and "dense has not learned" in told.why
    assert told.why.endswith("of logistic regression")


def test_an_arm_that_has_not_learned_is_not_taken() -> None:
    # The ordinary model beats logistic regression surely, the arm within the margin does not.
    records = [
        *hitting("d/dense", missing(500, 5000)),
        *hitting("d/small", missing(520, 5000), flops=20.0),
        *hitting("d/logistic", missing(521, 5000)),
    ]
    assert found(records[:6]).decision == "take"
    assert found(records).why.startswith("cannot tell, because small has not learned")


def test_groups_whose_baseline_has_not_learned_are_named() -> None:
    hits = {"d/dense": 500, "d/logistic": 600, "e/dense": 600, "e/logistic": 599}
    records = [record for name, missed in hits.items() for record in hitting(name, missing(missed, 5000))]
    said = unlearned_sentence(Results(records), PAPER)
    simple = "one answer for all, logistic regression, counts of words"
    assert said == f" Its baseline is not surely better than a simple one ({simple}) on e."
    assert unlearned_sentence(Results(records[:6]), PAPER) == ""
    assert unlearned_sentence(Results(hitting("d/small", missing(5, 50))), PAPER) == "", "there is no baseline"


def test_a_file_may_say_which_arms_are_on_offer() -> None:
    both = missing(10, 1000)
    records = [*hitting("d/dense", both), *hitting("d/small", both, flops=20.0), *hitting("d/tiny", both, flops=2.0)]
    assert "take small" in found(records).why
    offering = paper(report=SCORED | {"offered": ["tiny"]}, margins={"accuracy": {"other": 1.0}})
    (told,) = choose(Results(records), offering, baseline="dense")
    assert "take tiny" in told.why
    (told,) = choose(Results(records), offering, baseline="dense", arms=["d/small"])
    assert "take small" in told.why, "what is asked for by name comes first"


def test_sanity_baselines_are_no_arms_on_offer() -> None:
    both = missing(10, 1000)
    records = [*hitting("d/dense", both), *hitting("d/logistic", both, flops=0.1)]
    assert trades(Results(records), PAPER, baseline="dense", metric="test_accuracy") == []


def test_old_records_are_judged_by_the_worst_case_of_their_test_set() -> None:
    # Misses of 10 % each on 5,000 examples disagree on 20 % at most: 196 sqrt(0.2 / 5000) = 1.24 points.
    settings = {"data": {"subset": {"test": 5000}}}
    records = [*arm("d/dense", [0.9] * 3), *arm("d/small", [0.9] * 3, flops=20.0)]
    told = found([{**record, "settings": settings} for record in records])
    assert "changes by 0.0 points [-1.2, 1.2] over 3 seeds and 5,000 test examples" in told.why
    assert told.decision == "cannot tell" and "the most that two models can disagree" in told.notes[0]


# --- when to train longer ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("best", "longer"), [(8, False), (9, True)])
def test_a_validation_loss_that_still_falls_is_said(best: int, longer: bool) -> None:
    records = runs()[:6]
    for record in records:
        losses = [abs(epoch - best) + 1.0 for epoch in range(10)]
        record["history"]["validation_loss"] = losses if record["variant"] == "near" else [1.0, 2.0]
    wanted = "The validation loss of near was still falling at the end: train longer."
    assert (wanted in found(records).notes) is longer


def test_all_that_should_train_longer_are_said_at_once() -> None:
    records = runs()[:6]
    for record in records:
        record["history"]["validation_loss"] = [2.0, 1.0]
    wanted = "The validation loss of dense and of near was still falling at the end: train longer."
    assert wanted in found(records).notes


# --- trades --------------------------------------------------------------------------------------------------


def test_a_trade_is_paired_by_seed_and_says_what_it_costs() -> None:
    records = [*arm("d/dense", [0.6, 0.7, 0.8]), *arm("d/thin", [0.55, 0.65, 0.75], flops=10.0)]
    (thin,) = trades(Results(records), PAPER, baseline="dense", metric="test_accuracy")
    assert thin.change == pytest.approx(Interval(-5.0, -5.0, -5.0))
    assert thin.cost == pytest.approx(Interval(10.0, 10.0, 10.0))
    assert (thin.kept, thin.saves, thin.margin, thin.gain) == ("against", True, 1.0, pytest.approx(-5.0))


def test_without_a_baseline_there_is_no_trade() -> None:
    with pytest.raises(ParameterError, match="No arm is called 'sparse'"):
        trades(Results(runs()), PAPER, baseline="sparse", metric="test_accuracy")
