"""What listeners see of a step, and what they may do to it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.masks import Mask
from effi.training import Step, Training, fit
from tests.training.curves import learnt
from tests.training.tiny import first_batch, gradients_of, vit, weights_of

TRAINING = Training(epochs=3, batch_size=16, lr=1e-2)
PLAIN = replace(TRAINING, epochs=None, steps=1, optimizer="sgd", momentum=0.0, lr=0.1)


def half(seed: int = 0, share: float = 0.5) -> Mask:
    return masks.random(masks.prunable(vit()), share, generator=torch.Generator().manual_seed(seed))


def trained(data, training: Training = TRAINING, **options):
    model = options.pop("model", None) or vit()
    (history,) = fit(model, data, training, seeds=[0], ledger=Ledger(), **options)
    return model, history


def moments(step: Step, name: str) -> list[Tensor]:
    weight = step.model.get_parameter(name)
    return [v for v in step.optimizer.state[weight].values() if torch.is_tensor(v) and v.shape == weight.shape]


# --- before the optimiser ------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_whole_batch_unmasked_and_unclipped(data, accumulate, masked):
    """The mask zeroes weights, and pruned weights have gradients all the same."""
    mask, seen = half() if masked else {}, []
    settings = replace(PLAIN, accumulate=accumulate, clip=1e-3)
    trained(data, settings, mask=mask, before_step=[lambda step: seen.append(gradients_of(step.model))])
    by_hand = vit()
    with torch.no_grad():
        for name, kept in mask.items():
            by_hand.get_parameter(name).mul_(kept)
    batch = data.train.take(first_batch(40, 16))
    F.cross_entropy(by_hand(data.prepare(batch.inputs)), batch.labels).backward()
    for name, expected in gradients_of(by_hand).items():
        assert (seen[0][name] - expected).abs().max() < 1e-6, name
    assert all(seen[0][name][~kept].count_nonzero() > 0 for name, kept in mask.items())


def test_the_mask_acts_before_clipping(data):
    """The norm that is clipped is that of kept weights alone: w - rate g m c / |g m|."""
    mask, gradients, before = half(share=0.8), {}, {}
    model = vit()

    def look(step: Step) -> None:
        gradients.update(gradients_of(step.model))
        before.update(weights_of(step.model))

    trained(data, replace(PLAIN, clip=0.01), model=model, mask=mask, before_step=[look])
    kept = {name: gradient * mask[name] if name in mask else gradient for name, gradient in gradients.items()}
    norm = sum(gradient.double().square().sum() for gradient in kept.values()).sqrt().item()
    whole = sum(gradient.double().square().sum() for gradient in gradients.values()).sqrt().item()
    assert norm < 0.99 * whole, "the pruned weights' share of the norm would show"
    for name, gradient in kept.items():
        change = (before[name] - weights_of(model)[name]) / 0.1
        assert (change - gradient * 0.01 / (norm + 1e-6)).abs().max() < 1e-6, name


def test_a_listener_may_change_the_gradient(data):
    def only_the_head(step: Step) -> None:
        for name, parameter in step.model.named_parameters():
            if not name.startswith("head"):
                parameter.grad = None

    model, _ = trained(data, before_step=[only_the_head])
    for name, weight in weights_of(model).items():
        assert torch.equal(weight, weights_of(vit())[name]) is not name.startswith("head"), name


def test_a_mask_held_before_the_optimiser_leaves_gradients_to_the_listeners_that_follow(data):
    """But not to the optimiser: what is pruned is zero after the step."""
    mask, seen = half(), []

    def move(step: Step) -> None:
        step.hold(mask)

    def look(step: Step) -> None:
        seen.append([step.model.get_parameter(name).grad[~kept].count_nonzero() for name, kept in mask.items()])

    model, _ = trained(data, PLAIN, before_step=[move, look])
    assert min(seen[0]) > 0
    assert not any(model.get_parameter(name)[~kept].any() for name, kept in mask.items())


# --- after the optimiser -------------------------------------------------------------------------------------


def test_new_weights_are_seen_and_no_gradients(data):
    """Plain SGD: what is seen after a step is what was seen before it, less rate times gradient."""
    seen: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    steps = replace(PLAIN, steps=5)

    def after(step: Step) -> None:
        before, gradients = seen[-1]
        for name, weight in weights_of(step.model).items():
            assert torch.allclose(weight, before[name] - step.rate * gradients[name], atol=1e-7), name
        assert gradients_of(step.model) == {}

    before = [lambda step: seen.append((weights_of(step.model), gradients_of(step.model)))]
    trained(data, steps, before_step=before, after_step=[after])
    assert len(seen) == 5


def test_a_step_says_where_it_is(data):
    seen: list[tuple[int, int, int, float]] = []
    settings, ledger, model = replace(TRAINING, schedule="linear", warmup=2), Ledger(), vit()
    steps: list[Step] = []

    def look(step: Step) -> None:
        seen.append((step.index, step.steps, step.epoch, step.rate))
        steps.append(step)

    fit(model, data, settings, seeds=[0], ledger=ledger, before_step=[look], after_step=[look])
    expected = [(index, 9, (index + 2) // 3, settings.rate(index - 1, 9)) for index in range(1, 10)]
    assert seen == [each for each in expected for _ in range(2)]
    assert all(step.model is model and step.ledger is ledger for step in steps)
    assert all(step is steps[0] for step in steps)


# --- skip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "muon"])
def test_a_skipped_step_leaves_weights_and_moments(data, optimizer):
    settings = replace(TRAINING, optimizer=optimizer, weight_decay=0.1, schedule="cosine")
    states, rates, batches = [], [], []

    def skip(step: Step) -> None:
        rates.append(step.rate)
        batches.append(gradients_of(step.model)["stem.bias"])
        if step.index in (1, 5):
            step.skip()

    def look(step: Step) -> None:
        moments = [dict(step.optimizer.state[p]) for p in step.model.parameters()]
        states.append((weights_of(step.model), copy.deepcopy(moments)))

    _, history = trained(data, settings, before_step=[skip], after_step=[look])
    assert rates == [settings.rate(step, 9) for step in range(9)], "a step of the schedule is used up"
    assert history.curves["step"] == [3, 6, 9]
    weights, moments = zip(*states, strict=True)
    start = weights_of(vit())
    assert all(torch.equal(weights[0][name], start[name]) for name in start)
    assert all(not state for state in moments[0]), "no moments yet"
    assert all(torch.equal(weights[4][name], weights[3][name]) for name in start)
    for mine, before in zip(moments[4], moments[3], strict=True):
        assert all(torch.equal(mine[key], before[key]) for key in before)
    for place in (1, 2, 3, 5, 6, 7, 8):
        assert not torch.equal(weights[place]["head.weight"], weights[place - 1]["head.weight"]), place
    assert len({tuple(batch.tolist()) for batch in batches}) == 9


def test_a_skipped_step_uses_up_its_batch(data):
    """Skipping all but the third step trains on the third batch, from the first weights."""
    third = torch.tensor([])

    def skip(step: Step) -> None:
        nonlocal third
        if step.index == 3:
            third = gradients_of(step.model)["head.weight"]
        else:
            step.skip()

    trained(data, replace(PLAIN, steps=4), before_step=[skip])
    by_hand, order = vit(), first_batch(40, 40)
    batch = data.train.take(order[32:])
    F.cross_entropy(by_hand(data.prepare(batch.inputs)), batch.labels).backward()
    assert torch.allclose(third, by_hand.head.weight.grad, atol=1e-6)


def test_all_steps_skipped_train_nothing_and_cost_their_gradients(data):
    (model, history), (_, other) = trained(data, before_step=[Step.skip]), trained(data)
    assert all(torch.equal(weight, weights_of(vit())[name]) for name, weight in weights_of(model).items())
    assert history.curves["flops"] == other.curves["flops"]
    assert len(set(history.curves["validation_loss"])) == 1


# --- masks that move -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before_step", "after_step"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "muon"])
def test_a_mask_may_change_at_any_step(data, optimizer, when):
    """Step 4 goes from one half of the weights to another, with the same optimiser."""
    first, second, seen = half(1), half(2), []
    settings = replace(TRAINING, optimizer=optimizer, weight_decay=0.1, clip=1.0)

    def change(step: Step) -> None:
        if step.index != 4:
            return
        kept_before = {name: [m.clone() for m in moments(step, name)] for name in first}
        weights_before = weights_of(step.model)
        step.hold(second)
        for name in first:
            weight, kept = step.model.get_parameter(name), first[name] & second[name]
            revived = second[name] & ~first[name]
            assert revived.any() and kept.any()
            assert not weight[~kept].any(), "revived or pruned, it starts at zero"
            assert torch.equal(weight[kept], weights_before[name][kept])
            for moment, before in zip(moments(step, name), kept_before[name], strict=True):
                assert before[first[name]].any()
                assert not moment[~kept].any()
                assert torch.equal(moment[kept], before[kept])

    def look(step: Step) -> None:
        seen.append((step.optimizer, weights_of(step.model)))
        changed = step.index > 4 or (step.index == 4 and when == "before_step")
        held = second if changed else first
        for name, kept in held.items():
            assert not seen[-1][1][name][~kept].any()
            assert not any(moment[~kept].any() for moment in moments(step, name)), name

    listeners = {"before_step": [], "after_step": [look]}
    listeners[when] = [change, *listeners[when]] if when == "before_step" else [look, change]
    trained(data, settings, mask=first, **listeners)
    assert len({id(optimizer) for optimizer, _ in seen}) == 1 and len(seen) == 9
    for name in first:
        revived = second[name] & ~first[name]
        assert (seen[-1][1][name][revived] != 0).float().mean() > 0.95, "what is revived learns"


def test_a_revived_weight_takes_the_step_of_a_fresh_one(data):
    """Adam with zero moments at step t: rate (1 - b1) g / (1 - b1^t) / (sqrt((1 - b2) g^2 / (1 - b2^t)) + eps)."""
    mask, t, gradients, before = half(), 4, {}, {}
    settings = replace(TRAINING, betas=(0.8, 0.95), eps=1e-12)

    def free(step: Step) -> None:
        if step.index == t:
            step.hold({})
            gradients.update(gradients_of(step.model))

    def look(step: Step) -> None:
        if step.index == t:
            before.update(weights_of(step.model))

    trained(data, settings, mask=mask, before_step=[free], after_step=[look])
    for name, kept in mask.items():
        g = gradients[name][~kept].double()
        size = 0.01 * (0.2 / (1 - 0.8**t)) / (0.05 / (1 - 0.95**t)) ** 0.5
        clear = g.abs() > 1e-7
        assert torch.allclose(before[name][~kept][clear].double(), (-size * g.sign())[clear], rtol=1e-3), name


def test_a_listener_may_give_what_it_revives_another_start(data):
    """Weights and moments that are set after `hold` stay until the optimiser takes them on."""
    first, second, found = half(1), half(2), []

    def revive(step: Step) -> None:
        if step.index == 4:
            step.hold(second)
            for name in first:
                revived = second[name] & ~first[name]
                with torch.no_grad():
                    step.model.get_parameter(name)[revived] = 0.5
                step.optimizer.state[step.model.get_parameter(name)]["exp_avg"][revived] = 0.25

    def look(step: Step) -> None:
        if step.index == 5:
            for name in first:
                revived = second[name] & ~first[name]
                found.append(step.model.get_parameter(name)[revived])
                found.append(2 * step.optimizer.state[step.model.get_parameter(name)]["exp_avg"][revived])

    trained(data, mask=first, before_step=[look], after_step=[revive])
    assert found and all(torch.equal(values, torch.full_like(values, 0.5)) for values in found)


def test_a_mask_set_by_a_listener_is_the_mask_that_was_given(data):
    """Held before the first step, it makes the same training, and is counted in the bytes that are held."""
    mask = half()
    model, expected = trained(data, mask=mask)

    def start(step: Step) -> None:
        if step.index == 1:
            step.hold(mask)

    plain = vit()
    with torch.no_grad():
        for name, kept in mask.items():
            plain.get_parameter(name).mul_(kept)
    other, history = trained(data, model=plain, before_step=[start])
    assert learnt(history) == learnt(expected)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    bits = sum(kept.numel() for kept in mask.values())
    assert history.held_bytes == expected.held_bytes == trained(data)[1].held_bytes + 2 * bits


def test_a_mask_is_refused_where_several_seeds_train_together(data):
    for options in ({"mask": half()}, {"before_step": [lambda step: step.hold(half())]}):
        with pytest.raises(ParameterError, match="a mask belongs to one model: train its seeds one by one"):
            fit([vit(0), vit(1)], data, TRAINING, seeds=[0, 1], ledger=Ledger(), **options)


def test_listeners_see_the_stack_of_several_seeds(data):
    seen = []

    def look(step: Step) -> None:
        seen.append({name: parameter.grad.shape[0] for name, parameter in step.model.named_parameters()})

    fit([vit(0), vit(1)], data, PLAIN, seeds=[0, 1], ledger=Ledger(), before_step=[look])
    assert set(seen[0].values()) == {2} and len(seen[0]) == len(list(vit().parameters()))


# --- FLOPs in two accounts -----------------------------------------------------------------------------------


def test_the_paper_is_asked_once_a_step(data):
    """A method whose paper counts a tenth of what a step takes, and less with every step."""
    asked: list[tuple[int, int]] = []

    def as_paper(step: Step, executed: int) -> int:
        asked.append((step.index, executed))
        return executed // 10 - step.index

    model, ledger = vit(), Ledger()
    settings = replace(TRAINING, epochs=1, accumulate=2)
    fit(model, data, settings, seeds=[0], ledger=ledger, paper_flops=as_paper)
    executed = [sum(map(model.train_flops, sizes)) for sizes in ((8, 8), (8, 8), (4, 4))]
    assert asked == list(zip([1, 2, 3], executed, strict=True))
    phases = ledger.total()["phases"]
    assert phases["train"]["flops"] == sum(executed)
    assert phases["train"]["paper_flops"] == sum(flops // 10 for flops in executed) - 6
    assert phases["evaluate"]["flops"] == phases["evaluate"]["paper_flops"] > 0


def test_without_a_paper_both_accounts_are_one(data):
    ledger = Ledger()
    fit(vit(), data, TRAINING, seeds=[0], ledger=ledger)
    total = ledger.total()
    assert total["flops"] == total["paper_flops"] > 0


def test_a_model_whose_flops_change_is_asked_anew(data):
    """From step 3 on the model says that it does a third of the work, and from step 5 on half of it again."""
    model, ledger, counted = vit(), Ledger(), []
    whole = model.train_flops
    model.flops_version, model.share = 0, 1
    model.train_flops = lambda batch: whole(batch) // model.share

    def shrink(step: Step) -> None:
        counted.append(ledger.phases["train"].flops)
        if step.index in (2, 4):
            model.share *= 3 if step.index == 2 else 2
            model.flops_version += 1

    fit(model, data, replace(TRAINING, epochs=2), seeds=[0], ledger=ledger, after_step=[shrink])
    expected, total = [], 0
    for size, share in zip([16, 16, 8] * 2, [1, 1, 3, 3, 6, 6], strict=True):
        total += whole(size) // share
        expected.append(total)
    assert counted == expected
