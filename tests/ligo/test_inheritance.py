"""Knowledge inheritance: the mixture of losses, how long it lasts, and what the teacher costs."""

from __future__ import annotations

import pytest
import torch

from effi.data import IGNORED
from effi.errors import ParameterError
from effi.ligo.clock import Clock
from effi.ligo.inheritance import Distilled, Inheritance, Taught
from effi.training import LanguageModelling, evaluate
from tests.ligo.toy import STEPS, VOCABULARY, task
from tests.training.conftest import one_thread as one_thread


def test_the_share_falls_on_a_line() -> None:
    how = Distilled(0.8, 0.5)
    assert [how.share(passed) for passed in (0, 0.25, 0.5, 1)] == [0.8, 0.4, 0, 0]


@pytest.mark.parametrize("wrong", [{"first": 0.0}, {"until": 1.5}])
def test_shares_outside_are_refused(wrong) -> None:
    with pytest.raises(ParameterError, match="of knowledge inheritance: give more than 0 and at most 1"):
        Distilled(**wrong)


def test_losses_are_mixed_and_a_teacher_like_the_student_teaches_nothing() -> None:
    one = task()
    taught = Taught(one.model, one.small)
    outputs = taught(one.data.prepare(one.data.train.inputs[:2]))
    labels = one.data.train.labels[:2].clone()
    labels[:, 0] = IGNORED
    own, theirs = outputs.split(VOCABULARY, -1)
    mixed = Inheritance(LanguageModelling(), taught, Distilled(), Clock(0.25)).losses(outputs, labels)
    task_loss = torch.nn.functional.cross_entropy(own.flatten(0, 1), labels.flatten(), reduction="none").view(2, -1)
    divergence = torch.nn.functional.kl_div(own.log_softmax(-1), theirs.softmax(-1), reduction="none").sum(-1)
    wanted = 0.5 * task_loss + 0.5 * divergence * (labels != IGNORED)
    torch.testing.assert_close(mixed, wanted)
    alike = Taught(one.model, one.model)
    alike.train()
    first = Inheritance(LanguageModelling(), alike, Distilled(), Clock(0.0))
    assert first.losses(torch.cat([own, own], -1), labels).abs().max() < 1e-6


def test_the_student_alone_is_trained_and_evaluated_and_the_teacher_paid() -> None:
    one = task()
    before = {name: value.clone() for name, value in one.small.state_dict().items()}
    found = Distilled()(one)
    assert all(torch.equal(value, before[name]) for name, value in one.small.state_dict().items())
    curves = found.history.curves
    loss = evaluate(one.model, one.data.validation, one.data, one.objective)["loss"]
    assert curves["validation_loss"][-1] == pytest.approx(loss, abs=1e-6) and loss < curves["validation_loss"][0]
    batch = one.training.batch_size, 16
    step = one.model.train_flops(*batch) + sum(one.small.forward_flops(*batch).values())
    assert curves["spent_flops"][-1] == STEPS * step
    assert curves["steps/4x24-taught"][-1] == STEPS
