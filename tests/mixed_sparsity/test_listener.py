"""Masks that move during a training: when, by what, what they leave zero, and that a kill changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from effi import data as named
from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.mixed_sparsity.densities import erdos_renyi, uniform
from effi.mixed_sparsity.evolution import Evolution
from effi.mixed_sparsity.listener import MixedSparsity, first_mask
from effi.seeds import generator
from effi.training import Step, checkpoint, fit
from tests.instant_soup.tiny import EXAMPLES, TOTAL, TRAINING, WEIGHTS, obeys, same_mask, same_weights, vit, weights_of
from tests.training.conftest import one_thread as one_thread
from tests.training.curves import learnt
from tests.training.test_checkpoints import Cut, cut_at

NAMES = list(masks.prunable(vit()))
CLIPPED = replace(TRAINING, clip=0.5, betas=(0.9, 0.95), weight_decay=0.1)
EVERY = 4
OFTEN = Evolution(every=EVERY)


@dataclass(frozen=True)
class Line:
    """Sparsity from `first` to `ultra` in a quarter of the training, and back to `last` in the last quarter."""

    first: float
    ultra: float
    last: float

    def sparsity(self, share: float) -> float:
        ramp = min(1.0, 4 * share, 4 * (1 - share))
        return self.ultra - (self.ultra - (self.first if share < 0.5 else self.last)) * (1 - ramp)

    def starts(self) -> list[float]:
        return [0.0, 0.25, 0.75]


def steady(sparsity: float) -> Line:
    return Line(sparsity, sparsity, sparsity)


THERE_AND_BACK = Line(0.0, 0.8, 0.0)


@pytest.fixture(scope="session")
def data():
    return named.load("digits", train=EXAMPLES, validation=80, test=80)


def method(model, schedule=THERE_AND_BACK, evolution=OFTEN, *, seed=0, distribution=erdos_renyi, **options):
    return MixedSparsity(model, schedule, distribution, evolution, names=NAMES, seed=seed, **options)


def trained(data, mst=None, *, model=None, training=CLIPPED, early=(), first=(), late=(), **options):
    """Model, history and ledger; other listeners look before and after the method's own call."""
    model, ledger = model or vit(), options.pop("ledger", None) or Ledger()
    given = mst.arguments() if mst else {"before_step": [], "after_step": []}
    given["before_step"] = [*early, *given["before_step"], *first]
    given["after_step"] = [*given["after_step"], *late]
    (history,) = fit(model, data, training, seeds=[0], ledger=ledger, **given, **options)
    return model, history, ledger


def run(data, schedule=THERE_AND_BACK, evolution=OFTEN, *, training=CLIPPED, **options):
    """What `trained` gives, the method, and mask and weights after every step."""
    model, seen = vit(), []
    mst = method(model, schedule, evolution, **options)

    def look(step: Step) -> None:
        seen.append((mst.mask, weights_of(model)))

    model, history, ledger = trained(data, mst, model=model, training=training, late=[look])
    return model, history, ledger, mst, seen


def moments(step: Step, name: str) -> list[torch.Tensor]:
    state = step.optimizer.state[step.model.get_parameter(name)]
    return [state["exp_avg"], state["exp_avg_sq"]]


def changes(seen) -> list[int]:
    """Steps after which another mask holds."""
    return [index + 2 for index, ((a, _), (b, _)) in enumerate(pairwise(seen)) if not same_mask(a, b)]


# --- the first mask ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["random", "magnitude"])
def test_the_first_mask_has_the_sparsity_of_every_layer(how):
    model = vit()
    mst = method(model, steady(0.7), first=how)
    densities = erdos_renyi({name: tuple(mst.weights[name].shape) for name in NAMES}, 0.7)
    assert list(mst.mask) == NAMES
    for name, kept in mst.mask.items():
        count = kept.numel() - int((1 - densities[name]) * kept.numel() + 1e-9)
        assert int(kept.count_nonzero()) == count, name
        large = weights_of(model)[name].abs().flatten().topk(count).indices
        assert bool(kept.flatten()[large].all()) is (how == "magnitude"), name
    assert mst.told["step"] == [0] and mst.told["target"] == [0.7]
    assert mst.told["sparsity"] == [masks.sparsity(mst.mask)] and mst.told["active"] == [
        sum(int(kept.count_nonzero()) for kept in mst.mask.values())
    ]


@pytest.mark.parametrize("order", ["instead", "after"])
def test_the_first_mask_holds_from_the_first_step_on(data, order):
    *_, seen = run(data, steady(0.7), replace(OFTEN, order=order))
    first = method(vit(), steady(0.7)).mask
    assert all(same_mask(mask, first) and obeys(weights, first) for mask, weights in seen[: EVERY - 1])


def test_a_dense_start_keeps_everything_whatever_it_is_drawn_by():
    for how in ("random", "magnitude"):
        assert all(kept.all() for kept in method(vit(), first=how).mask.values())
    with pytest.raises(ParameterError, match="first mask 'largest' is unknown; give one of random, magnitude"):
        first_mask({}, {}, "largest", generator(0, "topology"))


# --- when, and how far ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["instead", "after"])
def test_masks_change_at_steps_divisible_by_every_and_follow_the_schedule(data, order):
    _, _, ledger, mst, seen = run(data, evolution=replace(OFTEN, order=order))
    updates = list(range(EVERY, TOTAL + 1, EVERY))
    assert mst.told["step"] == [0, *updates] and changes(seen) == updates
    assert mst.told["target"] == pytest.approx([THERE_AND_BACK.sparsity(step / TOTAL) for step in [0, *updates]])
    assert max(mst.told["target"]) == 0.8 and mst.told["target"][-1] == 0
    shapes = {name: tuple(weight.shape) for name, weight in mst.weights.items()}
    for row, step in enumerate(updates, 1):
        mask, target = seen[step - 1][0], mst.told["target"][row]
        for name, density in erdos_renyi(shapes, target).items():
            count = mask[name].numel()
            assert abs(mst.told[f"sparsity/{name}"][row] - (1 - density)) * count <= 1 + 1e-6, (step, name)
            assert mst.told[f"sparsity/{name}"][row] == masks.sparsity({name: mask[name]})
        assert mst.told["sparsity"][row] == masks.sparsity(mask) and mst.told["active"][row] == round(
            (1 - masks.sparsity(mask)) * WEIGHTS
        )
    assert all(obeys(weights, mask) for mask, weights in seen)
    assert ledger.total()["phases"]["topology"]["seconds"] > 0 and len({map(len, mst.told.values())}) == 1


def test_nothing_is_changed_or_told_in_a_dry_run(data):
    mst = method(model := vit(), evolution=Evolution(every=1))
    trained(data, mst, model=model, ledger=Ledger(dry_run=True))
    assert mst.told["step"] == [0]


def test_from_until_on_only_the_schedule_moves_masks(data):
    """Constant until three quarters, then back: what is active then stays, and more comes."""
    _, _, _, mst, seen = run(data, steady(0.6), replace(OFTEN, until=0.5))
    assert changes(seen) == mst.told["step"][1:] == [4, 8, 12, 16]
    _, _, _, mst, seen = run(data, evolution=replace(OFTEN, until=0.5))
    assert changes(seen) == mst.told["step"][1:] == [4, 8, 12, 16, 32, 36, 40], "20, 24 and 28 are as sparse as before"
    assert mst.told["pruned"][-3:] == [0, 0, 0] and mst.told["sparsity"][-1] == 0


# --- what is new starts at nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["instead", "after"])
def test_newly_active_weights_and_moments_are_zero(data, order):
    model, found = vit(), []
    mst = method(model, evolution=replace(OFTEN, order=order))
    before = dict(mst.mask)

    def look(step: Step) -> None:
        for name, kept in mst.mask.items():
            new, weight = kept & ~before[name], model.get_parameter(name)
            assert not weight[new].any() and not weight[~kept].any()
            for moment in moments(step, name) if step.index > 1 else ():
                assert not moment[new].any() and not moment[~kept].any()
                assert moment[kept & ~new].count_nonzero() > 0.9 * (kept & ~new).count_nonzero()
            found.append(int(new.count_nonzero()))
            before[name] = kept

    trained(data, mst, model=model, late=[look])
    assert sum(found) == sum(mst.told["activated/gradient"]) + sum(mst.told["activated/random"]) > WEIGHTS / 2
    assert 0.5 < survival_of_all(mst) <= 1


def survival_of_all(mst) -> float:
    return sum(mst.told["outlived/gradient"]) / sum(mst.told["activated/gradient"][:-1])


def test_what_is_dropped_and_regrown_at_once_keeps_its_value_and_moments(data):
    """With random growth alone some of what is dropped comes back; its weight is what the optimiser left."""
    model, regrown = vit(), []
    mst = method(model, steady(0.3), replace(OFTEN, mix=0.0, order="after"))
    dropped, kept_before = {}, {}

    def before(step: Step) -> None:
        if step.index % EVERY == 0 and step.index < TOTAL:
            lowest = {name: int(0.3 * kept.count_nonzero()) for name, kept in mst.mask.items()}
            for name, kept in mst.mask.items():
                kept_before[name] = (model.get_parameter(name).detach().clone(), moments(step, name)[0].clone())
                dropped[name] = kept & (
                    kept_before[name][0].abs() < _nth(kept_before[name][0][kept], lowest[name] // 2)
                )

    def after(step: Step) -> None:
        if step.index == EVERY:
            for name, gone in dropped.items():
                back = gone & mst.mask[name]
                regrown.append(int(back.count_nonzero()))
                assert torch.equal(model.get_parameter(name)[back], kept_before[name][0][back])
                assert torch.equal(moments(step, name)[0][back], kept_before[name][1][back])

    arguments = mst.arguments()
    arguments["after_step"] = [before, *arguments["after_step"], after]
    fit(model, data, CLIPPED, seeds=[0], ledger=Ledger(), **arguments)
    assert sum(regrown) > 20


def _nth(values: torch.Tensor, count: int) -> torch.Tensor:
    return values.abs().sort().values[count]


# --- special cases -------------------------------------------------------------------------------------------


def test_the_static_arm_has_no_churn_and_loses_no_step(data):
    """Without a drop a constant sparsity is a training under one mask, bit for bit."""
    model, history, _, mst, seen = run(data, steady(0.8), replace(OFTEN, drop=0.0))
    assert mst.told["step"] == [0] and mst.told["churn"] == [0.0] and changes(seen) == []
    mask = method(other := vit(), steady(0.8)).mask
    _, expected, _ = trained(data, model=other, mask=mask)
    assert same_mask(mst.mask, mask) and same_weights(model, other) and learnt(history) == learnt(expected)


def test_at_sparsity_0_it_is_dense_training_bit_for_bit(data):
    """Whatever is dropped comes back at once with its value and moments, and no step is left out."""
    model, history, _, mst, _ = run(data, steady(0.0), replace(OFTEN, order="after"))
    dense, expected, _ = trained(data)
    assert same_weights(model, dense) and learnt(history) == learnt(expected)
    assert min(mst.told["pruned"][1:-1]) > 0 and mst.told["churn"] == [0.0] * len(mst.told["step"])


def test_in_place_of_the_optimiser_an_update_uses_up_a_step(data):
    model, history, _, mst, _ = run(data, steady(0.0))

    def skip(step: Step) -> None:
        if step.index % EVERY == 0 and step.index < TOTAL:
            step.skip()

    dense, expected, _ = trained(data, early=[skip])
    assert mst.told["step"] == list(range(0, TOTAL, EVERY)), "nothing is dropped at the very end"
    assert same_weights(model, dense) and learnt(history) == learnt(expected)


def test_set_grows_at_random_and_asks_for_no_gradient(data):
    how = replace(OFTEN, mix=0.0, order="after")
    _, _, _, mst, _ = run(data, steady(0.7), how)
    assert mst.arguments()["before_step"] == [] and sum(mst.told["gradient"]) == 0 < min(mst.told["random"][1:])
    assert mst.told["random"] == mst.told["pruned"]
    _, _, _, other, _ = run(data, steady(0.7), how, seed=1)
    assert not same_mask(mst.mask, other.mask)


@pytest.mark.parametrize("order", ["instead", "after"])
def test_rigl_grows_where_the_gradient_of_the_whole_batch_is_largest(data, order):
    """The first update by hand, from whole, unmasked gradients in two parts, before they are clipped."""
    model, seen = vit(), {}
    training = replace(CLIPPED, accumulate=2, clip=1e-3)
    mst = method(model, steady(0.7), replace(OFTEN, mix=math.inf, order=order))
    first = dict(mst.mask)

    def gradients(step: Step) -> None:
        if step.index == EVERY:
            seen["gradients"] = {name: model.get_parameter(name).grad.clone() for name in NAMES}
            seen["weights"] = weights_of(model)

    def weights(step: Step) -> None:
        if step.index == EVERY:
            seen["weights"] = weights_of(model)

    arguments = mst.arguments()
    arguments["before_step"] = [gradients, *arguments["before_step"]]
    arguments["after_step"] = [*([weights] if order == "after" else []), *arguments["after_step"], cut_at(EVERY)]
    with pytest.raises(Cut):
        fit(model, data, training, seeds=[0], ledger=Ledger(), **arguments)
    assert sum(mst.told["random"]) == 0 < mst.told["gradient"][1]
    fraction = 0.15 * (1 + math.cos(math.pi * (EVERY / TOTAL) / 0.25))
    for name, kept in first.items():
        active = kept.flatten().nonzero()[:, 0]
        count = int(fraction * len(active))
        sizes, wanted = (seen[key][name].abs().flatten() for key in ("weights", "gradients"))
        stay = active[sizes[active].sort(stable=True).indices[count:]]
        expected = torch.zeros(kept.numel(), dtype=torch.bool)
        expected[stay] = True
        free = (~expected).nonzero()[:, 0]
        expected[free[wanted[free].topk(count).indices]] = True
        assert torch.equal(mst.mask[name], expected.view(kept.shape)), name


def test_without_growth_it_prunes_gradually(data):
    """Masks nest, each a magnitude cut of the weights that the step before left."""
    _, _, _, mst, seen = run(data, Line(0.0, 0.8, 0.8), replace(OFTEN, drop=0.0, mix=0.0), distribution=uniform)
    assert changes(seen) == mst.told["step"][1:] == [4, 8, 12], "the schedule's only changes, the last one at 10"
    for step in (4, 8, 12):
        (before, weights), (after, _) = seen[step - 2 : step]
        target = min(0.8, 0.8 * 4 * step / TOTAL)
        assert same_mask(after, masks.magnitude(weights, target, scope="tensor", within=before))
    assert sum(mst.told["gradient"]) == sum(mst.told["random"]) == sum(mst.told["churn"]) == 0


# --- what is told --------------------------------------------------------------------------------------------


def test_history_is_what_the_masks_were(data):
    _, _, _, mst, seen = run(data, steady(0.8))
    first = method(vit(), steady(0.8)).mask
    masks_told = [first, *(seen[int(step) - 1][0] for step in mst.told["step"][1:])]
    ever = {name: torch.zeros_like(kept) for name, kept in first.items()}
    for row, mask in enumerate(masks_told):
        ever = masks.union([ever, mask])
        assert mst.told["ever"][row] == 1 - masks.sparsity(ever)
        if row:
            new = {name: kept & ~masks_told[row - 1][name] for name, kept in mask.items()}
            count = sum(int(kept.count_nonzero()) for kept in new.values())
            assert mst.told["churn"][row] == count / mst.told["active"][row]
            assert mst.told["activated/gradient"][row] + mst.told["activated/random"][row] == count
            if row + 1 < len(masks_told):
                left = sum(int((kept & masks_told[row + 1][name]).count_nonzero()) for name, kept in new.items())
                assert mst.told["outlived/gradient"][row + 1] + mst.told["outlived/random"][row + 1] == left
    assert 0.3 < mst.told["ever"][-1] < 1 and mst.told["ever"] == sorted(mst.told["ever"])
    assert mst.told["ever"][0] == 1 - masks.sparsity(first)


# --- the same again, and cut off -----------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_masks(data):
    (one, _, _, mst, _), (two, _, _, again, _), (_, _, _, other, _) = (
        run(data, steady(0.7), seed=seed) for seed in (0, 0, 1)
    )
    assert same_weights(one, two) and same_mask(mst.mask, again.mask) and mst.told == again.told
    assert not same_mask(mst.mask, other.mask)


@pytest.mark.parametrize("order", ["instead", "after"])
def test_a_training_cut_off_goes_on_to_the_same_bits(data, tmp_path, monkeypatch, order):
    """Cut in the ultra phase, right after an update, and in the restoration, from which it is made once more."""
    how = replace(OFTEN, order=order)
    whole, history, ledger, mst, _ = run(data, evolution=how)
    for place in (12, 22, 33):
        file, model = tmp_path / str(place), vit()
        with monkeypatch.context() as often, pytest.raises(Cut):
            often.setattr(checkpoint, "EVERY_S", 0.0)
            trained(data, method(model, evolution=how), model=model, late=[cut_at(place + 1)], checkpoint=file)
        for _ in range(2 if place == 33 else 1):
            again = method(model := vit(seed=9), evolution=how)
            _, resumed, paid = trained(data, again, model=model, checkpoint=file)
            assert same_weights(model, whole) and same_mask(again.mask, mst.mask) and again.told == mst.told
            assert same_mask(again.ever, mst.ever) and learnt(resumed) == learnt(history)
            assert paid.total()["flops"] == ledger.total()["flops"]


# --- refused -------------------------------------------------------------------------------------------------


def test_names_that_are_no_matrices_are_refused():
    model = vit()
    for name in ("blocks.0.mlp.0.bias", "pooler.weight"):
        with pytest.raises(ParameterError, match=f"ViT has no matrix '{name}' to prune"):
            MixedSparsity(model, steady(0.5), uniform, OFTEN, names=[name], seed=0)


def test_a_weight_without_a_gradient_is_refused_at_the_first_update(data):
    model = vit()
    mst = method(model, steady(0.5), replace(OFTEN, order="after"))
    arguments = mst.arguments() | {"before_step": []}
    with pytest.raises(ParameterError, match=r'no gradient of ".*" is there to grow by; .* all of mst\.arguments'):
        fit(model, data, CLIPPED, seeds=[0], ledger=Ledger(), **arguments)
