"""Objectives and metrics against closed forms, scikit-learn and scipy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn
from torch import Tensor, nn
from torch.nn import functional as F

from effi.cost import Ledger
from effi.data import IGNORED, Dataset, Examples
from effi.errors import ParameterError, TrainingError
from effi.training import Classification, Contrastive, LanguageModelling, Regression, Training, evaluate, fit, outcome
from effi.training.evaluation import predict, score
from effi.training.objectives import fitting
from tests.training.tiny import Reader, examples, first_batch, gradients_of, numbers, sentences, vit

TRAINING = Training(epochs=3, batch_size=16, lr=1e-2)
DRAW = torch.Generator().manual_seed(3)


def trained(model: nn.Module, data, objective, training: Training = TRAINING, **options):
    (history,) = fit(model, data, training, objective=objective, seeds=[0], ledger=Ledger(), **options)
    return history


# --- regression ----------------------------------------------------------------------------------------------


def brightness(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3, 1))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 2, 1)])
def test_squared_errors_by_hand(shape):
    outputs, labels = torch.tensor([1.0, 2.0, -1.0, 0.5]).view(shape), torch.tensor([1.5, 0.0, -1.0, 3.5])
    labels = labels.view(2, 2) if len(shape) == 3 else labels
    assert Regression().losses(outputs, labels).flatten().tolist() == [0.25, 4.0, 0.0, 9.0]
    assert Regression().hits(outputs, labels) is None
    assert Regression().counted(labels).all()


def test_a_regression_learns_what_it_is_told(data):
    told, model = numbers(data), brightness()
    history = trained(model, told, Regression(), replace(TRAINING, epochs=60, lr=0.05))
    assert set(history.curves) == {"train_loss", "validation_loss", "step", "flops", "seconds"}, "no accuracy"
    predicted = predict(model, told.validation, told).flatten()
    assert history.curves["validation_loss"][-1] == pytest.approx(
        (predicted - told.validation.labels).square().mean().item(), rel=1e-5
    )
    assert history.curves["validation_loss"][-1] < 0.02 < history.curves["validation_loss"][0]


def test_the_gradient_of_a_regression_is_that_of_the_mean_square(data):
    told, seen = numbers(data), []
    trained(brightness(), told, Regression(), before_step=[lambda step: seen.append(gradients_of(step.model))])
    by_hand, batch = brightness(), told.train.take(first_batch(40, 16))
    F.mse_loss(by_hand(told.prepare(batch.inputs)).flatten(), batch.labels).backward()
    for name, expected in gradients_of(by_hand).items():
        assert torch.allclose(seen[0][name], expected, atol=1e-6)


def test_the_outcome_of_a_regression(data):
    told, model = numbers(data), brightness()
    history = trained(model, told, Regression())
    found = outcome(model, history, told, Regression(), ["pearson", "spearman"]).metrics
    predicted = predict(model, told.test, told).flatten().numpy()
    assert found["test_pearson"] == pytest.approx(stats.pearsonr(predicted, told.test.labels.numpy()).statistic)
    assert found["test_spearman"] == pytest.approx(stats.spearmanr(predicted, told.test.labels.numpy()).statistic)
    assert found["test_loss"] == pytest.approx(float(((predicted - told.test.labels.numpy()) ** 2).mean()), rel=1e-5)
    assert "scaled_test_loss" not in found and "test_accuracy" not in found
    assert {"step", "flops", "seconds"}.isdisjoint(found)


# --- contrastive ---------------------------------------------------------------------------------------------


class Halves(nn.Module):
    """Similarities (B, B) of the upper halves of images to the lower ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.upper, self.lower = nn.Linear(96, 6), nn.Linear(96, 6)

    def forward(self, x: Tensor) -> Tensor:
        layers, parts = (self.upper, self.lower), (x[:, :, :4].flatten(1), x[:, :, 4:].flatten(1))
        upper, lower = (F.normalize(layer(part), dim=-1) for layer, part in zip(layers, parts, strict=True))
        return 5 * upper @ lower.T


def clip_loss(similarities: Tensor) -> Tensor:
    """As CLIP's pseudocode has it (Fig. 3)."""
    pairs = torch.arange(len(similarities))
    return (F.cross_entropy(similarities, pairs) + F.cross_entropy(similarities.T, pairs)) / 2


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_contrastive_loss_is_that_of_clip(count):
    similarities, labels = torch.randn(count, count, generator=DRAW), torch.arange(count)
    losses = Contrastive().losses(similarities, labels)
    assert losses.shape == (count,)
    assert losses.mean().item() == pytest.approx(clip_loss(similarities).item(), rel=1e-5, abs=1e-7)
    stacked = torch.stack([similarities, 2 * similarities])
    both = Contrastive().losses(stacked, labels.expand(2, -1))
    assert both[1].mean().item() == pytest.approx(clip_loss(2 * similarities).item(), rel=1e-5, abs=1e-7)


def test_a_contrastive_hit_is_an_image_closest_to_its_own_text():
    similarities = torch.tensor([[2.0, 1.0, 0.0], [3.0, 1.0, 2.0], [0.0, 1.0, 4.0]])
    assert Contrastive().hits(similarities, torch.zeros(3)).tolist() == [True, False, True]


def test_a_contrastive_training(data):
    """Batches of 16, 16 and 8 pairs: the gradient of the first, and the mean over pairs as the epoch's loss."""
    seen, shown = [], []
    model = Halves()
    history = trained(
        model,
        data,
        Contrastive(),
        replace(TRAINING, epochs=1, optimizer="sgd", lr=1e-12),
        before_step=[lambda step: seen.append(gradients_of(step.model))],
    )
    by_hand, order = Halves(), first_batch(40, 40)
    for batch in order.split(16):
        shown.append(clip_loss(by_hand(data.prepare(data.train.inputs[batch]))) * len(batch))
    shown[0].div(16).backward()
    for name, expected in gradients_of(by_hand).items():
        assert torch.allclose(seen[0][name], expected, atol=1e-6)
    assert history.curves["train_loss"][0] == pytest.approx(sum(shown).item() / 40, rel=1e-5)
    whole = clip_loss(by_hand(data.prepare(data.validation.inputs))).item()
    assert history.curves["validation_loss"][0] == pytest.approx(whole, rel=1e-5)


def test_more_pairs_than_a_batch_are_evaluated_batch_by_batch(data):
    """300 pairs: 250 are told from one another, then 50."""
    model, many = Halves(), examples(300, 5)
    found = evaluate(model, many, data, Contrastive())
    parts = [model(data.prepare(many.inputs[part])) for part in (slice(250), slice(250, None))]
    expected = sum(clip_loss(part) * len(part) for part in parts).item() / 300
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    hits = sum(int((part.argmax(1) == torch.arange(len(part))).sum()) for part in parts)
    assert found["accuracy"] == hits / 300
    assert set(found) == {"loss", "accuracy"}
    with pytest.raises(ParameterError, match="f1 cannot be computed of tokens or pairs"):
        evaluate(model, many, data, Contrastive(), ["f1"])


# --- tokens --------------------------------------------------------------------------------------------------


def test_language_modelling_counts_what_is_not_ignored():
    logits, labels = torch.randn(3, 5, 7, generator=DRAW), torch.randint(7, (3, 5), generator=DRAW)
    labels[0, :3], labels[2] = IGNORED, IGNORED
    found = score(logits, labels, LanguageModelling())
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED).item()
    assert found["loss"] == pytest.approx(expected, rel=1e-6)
    counted = labels != IGNORED
    assert found["accuracy"] == ((logits.argmax(-1) == labels) & counted).sum().item() / counted.sum().item()
    assert LanguageModelling().losses(logits, labels)[~counted].eq(0).all()


def test_no_label_that_counts_is_one_sentence():
    with pytest.raises(TrainingError, match="no label of these examples counts: evaluate on more of them"):
        score(torch.zeros(1, 3, 7), torch.full((1, 3), IGNORED), LanguageModelling())


def test_labels_are_cut_where_the_text_was():
    labels, outputs = torch.arange(12).view(2, 6), torch.zeros(2, 4, 9)
    assert torch.equal(fitting(labels, outputs, LanguageModelling()), labels[:, :4])
    assert fitting(labels[:, 0], outputs, Classification()) is not None
    assert torch.equal(fitting(labels[:, 0], outputs[:, 0], Classification()), labels[:, 0])


def test_perplexity_is_the_exponential_of_the_loss():
    text, model = sentences(), Reader()
    history = trained(model, text, LanguageModelling(), replace(TRAINING, batch_size=8, epochs=40, lr=0.03))
    logits, labels = model(text.test.inputs.long()), text.test.labels
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten()).item()
    found = outcome(model, history, text, LanguageModelling()).metrics
    assert found["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert found["test_perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert 0.7 < history.curves["train_accuracy"][-1] <= 1 and history.curves["train_accuracy"][0] < 0.4
    assert "scaled_test_loss" not in found
    with pytest.raises(ParameterError, match="mcc cannot be computed of tokens"):
        evaluate(model, text.test, text, LanguageModelling(), ["mcc"])


# --- metrics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "average"), [(2, "binary"), (3, "macro"), (5, "macro")])
def test_metrics_of_classes_are_those_of_scikit_learn(classes, average):
    logits = torch.randn(60, classes, generator=DRAW)
    labels = torch.where(torch.rand(60, generator=DRAW) < 0.5, logits.argmax(1), torch.arange(60) % classes)
    found = score(logits, labels, more=["f1", "mcc"])
    guesses = logits.argmax(1).numpy()
    assert found["f1"] == pytest.approx(sklearn.f1_score(labels.numpy(), guesses, average=average))
    assert found["mcc"] == pytest.approx(sklearn.matthews_corrcoef(labels.numpy(), guesses))
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(labels.numpy(), guesses))
    assert 0.3 < found["f1"] < 1


def test_f1_by_hand():
    """Three right of class 1, one missed, two taken for it: 2 * 3 / (2 * 3 + 1 + 2)."""
    guesses, labels = torch.tensor([1, 1, 1, 0, 1, 1, 0]), torch.tensor([1, 1, 1, 1, 0, 0, 0])
    assert score(F.one_hot(guesses, 2).float(), labels, more=["f1"])["f1"] == pytest.approx(6 / 9)


def test_f1_of_three_classes_of_which_two_are_there_is_a_mean_over_classes():
    guesses, labels = torch.tensor([1, 1, 1, 0, 1, 1, 0]), torch.tensor([1, 1, 1, 1, 0, 0, 0])
    found = score(F.one_hot(guesses, 3).float(), labels, more=["f1"])["f1"]
    assert found == pytest.approx((6 / 9 + 2 / 5) / 2)


@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_metrics_of_numbers_are_those_of_scipy(shape):
    labels = torch.randn(50, generator=DRAW)
    outputs = (labels + torch.randn(50, generator=DRAW)).exp()
    found = score(outputs.view(shape), labels, Regression(), ["pearson", "spearman"])
    pearson = np.corrcoef(outputs.double(), labels.double())[0, 1]
    assert found["pearson"] == pytest.approx(pearson, abs=1e-6)
    assert found["spearman"] == pytest.approx(stats.spearmanr(outputs, labels).statistic, abs=1e-9)
    assert found["pearson"] < found["spearman"] < 1, "an exponential bends the line and keeps the order"


@pytest.mark.filterwarnings("error")
def test_correlations_with_a_constant_are_zero():
    line, flat = torch.arange(5.0), torch.ones(5)
    for outputs, labels in ((flat, line), (line, flat)):
        found = score(outputs, labels, Regression(), ["pearson", "spearman"])
        assert (found["pearson"], found["spearman"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "name", "told"),
    [
        (torch.zeros(3, dtype=torch.long), "acuracy", "'acuracy'; did you mean 'accuracy'"),
        (torch.zeros(3, dtype=torch.long), "pearson", "'pearson'.*accuracy, f1, mcc"),
        (torch.zeros(3), "f1", "'f1'.*pearson, spearman"),
    ],
)
def test_unknown_metrics_are_named(labels, name, told):
    objective = Regression() if labels.is_floating_point() else Classification()
    outputs = labels if labels.is_floating_point() else torch.zeros(3, 2)
    with pytest.raises(ParameterError, match=told):
        score(outputs, labels, objective, [name])


def test_metrics_are_reported_of_last_and_best_weights(data: Dataset):
    model = vit()
    history = trained(model, data, Classification())
    found = outcome(model, history, data, more=["f1", "mcc"]).metrics
    guesses = predict(model, data.test, data).argmax(1)
    assert found["test_f1"] == pytest.approx(sklearn.f1_score(data.test.labels, guesses, average="macro"))
    model.load_state_dict(history.best_state)
    guesses = predict(model, data.test, data).argmax(1)
    assert found["best_test_mcc"] == pytest.approx(sklearn.matthews_corrcoef(data.test.labels, guesses))


def test_an_unknown_loss_is_refused():
    with pytest.raises(ParameterError, match="unknown loss 'hinge' of a classification; use cross_entropy or mse"):
        Classification("hinge")
    with pytest.raises(ParameterError, match="unknown loss 'mse' of a language model; use cross_entropy"):
        LanguageModelling("mse")


def test_examples_of_numbers_keep_their_type(data):
    assert isinstance(numbers(data).train, Examples) and numbers(data).train.labels.is_floating_point()
