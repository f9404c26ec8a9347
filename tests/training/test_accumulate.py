"""A batch in parts has the gradients and the curves of the batch whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from effi.cost import Ledger
from effi.data import IGNORED
from effi.errors import ParameterError
from effi.training import Classification, Contrastive, LanguageModelling, Regression, Step, Training, fit
from tests.training.tiny import Reader, first_batch, gradients_of, numbers, sentences, vit, weights_of

WHOLE = Training(epochs=2, batch_size=16, optimizer="sgd", lr=0.05, clip=1.0)
CURVES = ("train_loss", "train_accuracy", "validation_loss", "flops")


def seen(model, data, training: Training, **options):
    """The gradients of every step, the curves and the trained weights."""
    gradients: list[dict[str, torch.Tensor]] = []

    def look(step: Step) -> None:
        gradients.append(gradients_of(step.model))

    (history,) = fit(model, data, training, seeds=[0], ledger=Ledger(), before_step=[look], **options)
    return gradients, history.curves, weights_of(model)


def assert_close(a, b) -> None:
    (gradients, curves, weights), (others, expected, kept) = a, b
    for mine, other in zip(gradients, others, strict=True):
        assert all((mine[name] - other[name]).abs().max() < 5e-6 for name in other)
    assert all((weights[name] - kept[name]).abs().max() < 1e-6 for name in kept)
    for name in expected.keys() & set(CURVES):
        assert curves[name] == pytest.approx(expected[name], abs=1e-6), name


@pytest.mark.parametrize("parts", [2, 3, 5, 16, 40])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_classes(data, parts, loss):
    """Batches of 16, 16 and 8; in three parts 6, 6, 4 and 3, 3, 2; in forty one by one."""
    objective = Classification(loss)
    whole = seen(vit(), data, WHOLE, objective=objective)
    assert_close(seen(vit(), data, replace(WHOLE, accumulate=parts), objective=objective), whole)


@pytest.mark.parametrize("parts", [2, 3])
def test_tokens_that_are_ignored_count_in_no_part(parts):
    """Parts have different numbers of labels that count, so that a mean of means would be another loss."""
    text, training = sentences(), replace(WHOLE, batch_size=8)
    whole = seen(Reader(), text, training, objective=LanguageModelling())
    assert_close(seen(Reader(), text, replace(training, accumulate=parts), objective=LanguageModelling()), whole)


def test_the_gradient_is_that_of_the_mean_over_labels_that_count():
    text, model = sentences(), Reader()
    gradients, _, _ = seen(Reader(), text, replace(WHOLE, batch_size=8, accumulate=3), objective=LanguageModelling())
    rows = text.train.take(first_batch(20, 8))
    F.cross_entropy(model(rows.inputs.long()).flatten(0, 1), rows.labels.flatten(), ignore_index=IGNORED).backward()
    for name, expected in gradients_of(model).items():
        assert (gradients[0][name] - expected).abs().max() < 1e-6, name


def test_a_part_or_a_batch_where_no_label_counts():
    """The first eight rows in the order of seed 0 hide nothing: that step leaves the weights, and no loss is lost."""
    text = sentences()
    text.train.labels[first_batch(20, 8)] = IGNORED
    gradients, curves, _ = seen(
        Reader(), text, replace(WHOLE, epochs=1, batch_size=8, accumulate=2), objective=LanguageModelling()
    )
    assert all(gradient.count_nonzero() == 0 for gradient in gradients[0].values())
    assert gradients[1]["head.weight"].count_nonzero() > 0
    assert 0 < curves["train_loss"][0] < 10


def test_numbers(data):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1))
    twin = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1))
    twin.load_state_dict(model.state_dict())
    told = numbers(data)
    whole = seen(model, told, WHOLE, objective=Regression())
    assert_close(seen(twin, told, replace(WHOLE, accumulate=3), objective=Regression()), whole)


def test_seeds_together(data):
    """Each seed's batch is cut in the same places."""
    losses = []
    for parts in (1, 3):
        histories = fit([vit(0), vit(1)], data, replace(WHOLE, accumulate=parts), seeds=[0, 1], ledger=Ledger())
        losses.append([history.curves["train_loss"] for history in histories])
    for mine, other in zip(*losses, strict=True):
        assert mine == pytest.approx(other, abs=1e-6)


def test_pairs_are_told_from_all_others_of_their_batch(data):
    with pytest.raises(ParameterError, match="a contrastive batch is taken whole: leave accumulate at 1"):
        fit(vit(), data, replace(WHOLE, accumulate=2), objective=Contrastive(), seeds=[0], ledger=Ledger())
