"""Blocks that live or die together: the same method on grids, layers that follow, their FLOPs, and a kill."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from effi import masks
from effi.cost import Ledger, count_flops
from effi.data.opening import Opened
from effi.errors import ParameterError
from effi.mixed_sparsity.attending import Attending
from effi.mixed_sparsity.blocks import BlockSparseEmbedding, BlockSparseLinear, Layout, block_mask
from effi.mixed_sparsity.densities import erdos_renyi
from effi.mixed_sparsity.evolution import Evolution
from effi.mixed_sparsity.experiment import Experiment, shapes
from effi.mixed_sparsity.granularity import Blocks
from effi.mixed_sparsity.outcome import outcome
from effi.mixed_sparsity.positions import Pattern
from effi.mixed_sparsity.recipes import PHASES, Dense, Sparse, Task, evolutionary, mst, rigl, static
from effi.mixed_sparsity.schedule import Phases
from effi.mixed_sparsity.settings import Model, Settings
from effi.training import Step, checkpoint
from tests.instant_soup.tiny import same_mask, same_weights, weights_of
from tests.mixed_sparsity.toy import BATCH, MODEL, SIZE, STEPS, TOKENS, TRAINING, VOCABULARY, accounting, task, text
from tests.training.conftest import one_thread as one_thread
from tests.training.curves import learnt
from tests.training.test_checkpoints import Cut, cut_at

EVERY, SIDE = 2, 4
# Of 40 steps the restoration has 8, and the last 4 train all weights.
SCHEDULE = replace(PHASES, restoration=0.2, settle=0.5)
SINGLE = mst(EVERY, Pattern("merged", 4), SCHEDULE)
METHOD = replace(SINGLE, blocks=SIDE)


@pytest.fixture(autouse=True)
def parted(monkeypatch) -> None:
    """Live blocks alone are multiplied wherever some are dead; the rule never would with blocks so small."""
    monkeypatch.setattr(Layout, "pays", property(lambda layout: not layout.whole))


def trained(recipe, *, early=(), late=(), **options):
    """Task and result; other listeners look at each step before and after the method's own."""
    one, fit = task(**options), Task.fit

    def watched(self, **how):
        listeners = {"before_step": [*early, *how["before_step"]], "after_step": [*how["after_step"], *late]}
        return fit(self, **how | listeners)

    with pytest.MonkeyPatch.context() as patch:
        if early or late:
            patch.setattr(Task, "fit", watched)
        return one, recipe(one)


@cache
def whole():
    """The method with blocks, which many look at and none changes, and what was seen of each step."""
    masks_seen, flops = {}, []

    def before(step: Step) -> None:
        flops.append(step.model.train_flops(BATCH, TOKENS))

    def after(step: Step) -> None:
        masks_seen[step.index] = dict(step.mask)

    one, found = trained(METHOD, early=[before], late=[after])
    return one, found, masks_seen, flops


def layers(model) -> dict[str, nn.Module]:
    kinds = (BlockSparseLinear, BlockSparseEmbedding)
    return {name: layer for name, layer in model.each_linear() if isinstance(layer, kinds)}


def close(one, other, tolerance: float = 1e-4) -> bool:
    """Whether weights of two models differ by rounding."""
    pairs = zip(weights_of(one).values(), weights_of(other).values(), strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in pairs)


# --- special cases -------------------------------------------------------------------------------------------


def test_blocks_of_one_weight_are_single_weights_to_the_bit(monkeypatch):
    """Computed at once, as the rule has it; by parts sums are rounded otherwise, until the masks part, too."""
    monkeypatch.setattr(Layout, "pays", False)
    (one, found), (single, expected) = trained(replace(METHOD, blocks=1)), trained(SINGLE)
    assert found.told == expected.told and same_mask(found.mask, expected.mask)
    assert same_weights(one.model, single.model) and learnt(found.history) == learnt(expected.history)


def test_at_sparsity_0_it_is_dense_training_to_the_bit():
    """Layers of which all blocks live compute and cost what linear ones do."""
    recipe = Sparse(Phases(0.0), Evolution(EVERY, order="after"), blocks=SIDE)
    (one, found), (plain, expected) = trained(recipe), trained(Dense())
    assert same_weights(one.model, plain.model) and learnt(found.history) == learnt(expected.history)
    assert len(layers(one.model)) == 9 and found.told["pruned"][1] > 0 == sum(found.told["churn"])
    assert one.ledger.total()["flops"] == plain.ledger.total()["flops"]


@pytest.mark.parametrize("norm", ["l1", "frobenius"])
@pytest.mark.parametrize("tied", [True, False])
def test_it_is_dense_training_under_the_same_masks(tied, norm):
    """A dense model is held to the masks, and skips the steps that changed them."""
    seen, how = {}, {"model": Model(SIZE, tied)}
    late = [lambda step: seen.update({step.index: dict(step.mask)})]
    one, found = trained(replace(METHOD, norm=norm), late=late, **how)
    other = task(**how)

    def follow(step: Step) -> None:
        if step.index in found.told["step"]:
            step.skip()
            step.hold(seen[step.index])

    attending = Attending(other.model, SCHEDULE, METHOD.attention, METHOD.within)
    history = other.fit(before_step=[follow], after_step=[attending])
    assert len(layers(one.model)) == 9 and not layers(other.model)
    assert close(one.model, other.model)
    losses = (each.curves["validation_loss"] for each in (found.history, history))
    assert all(a == pytest.approx(b, abs=1e-5) for a, b in zip(*losses, strict=True))


# --- masks on grids ------------------------------------------------------------------------------------------


def test_masks_are_of_whole_blocks_with_the_counts_of_their_grids():
    one, found, seen, _ = whole()
    sides = {name: one.model.get_parameter(name).shape for name in found.mask}
    for row, step in enumerate(found.told["step"][1:], 1):
        blocks, told = block_mask(seen[step], SIDE), {name: values[row] for name, values in found.told.items()}
        for name, density in erdos_renyi(sides, told["target"]).items():
            count = blocks[name].numel()
            assert count - int(blocks[name].sum()) == math.floor((1 - density) * count + 1e-6), (step, name)
            assert told[f"sparsity/{name}"] == masks.sparsity({name: seen[step][name]})
        assert told["sparsity"] == pytest.approx(masks.sparsity(seen[step]), abs=1e-12)
        assert told["active"] == sum(int(kept.sum()) for kept in seen[step].values())
        before = seen[step - 1] or masks.everything(found.mask)
        new = sum(int((kept & ~before[name]).sum()) for name, kept in seen[step].items())
        assert told["activated/gradient"] + told["activated/random"] == new == round(told["churn"] * told["active"])
        assert (told["gradient"] + told["random"]) % SIDE**2 == 0 == told["pruned"] % SIDE**2
    assert masks.sparsity(found.mask) == 0 and max(found.told["sparsity"]) > 0.75


def test_rigl_grows_the_blocks_with_the_largest_gradients():
    """The first update by hand, from the gradients of all weights."""
    seen = {}

    def before(step: Step) -> None:
        if step.index == EVERY:
            seen["mask"] = dict(step.mask)
            parameters = {name: step.model.get_parameter(name) for name in step.mask}
            seen["weights"] = {name: weight.detach().clone() for name, weight in parameters.items()}
            seen["gradients"] = {name: weight.grad.clone() for name, weight in parameters.items()}

    def after(step: Step) -> None:
        if step.index == EVERY:
            seen["next"] = dict(step.mask)

    trained(replace(rigl(0.7, EVERY), blocks=SIDE), early=[before], late=[after])
    fraction = 0.15 * (1 + math.cos(math.pi * (EVERY / STEPS) / 0.75))
    for name, kept in block_mask(seen["mask"], SIDE).items():
        sizes, wanted = (_l1(seen[key][name]).flatten() for key in ("weights", "gradients"))
        active = kept.flatten().nonzero()[:, 0]
        count = int(fraction * len(active))
        expected = torch.zeros(kept.numel(), dtype=torch.bool)
        expected[active[sizes[active].sort(stable=True).indices[count:]]] = True
        free = (~expected).nonzero()[:, 0]
        expected[free[wanted[free].topk(count).indices]] = True
        assert torch.equal(block_mask(seen["next"], SIDE)[name].flatten(), expected), name


def _l1(matrix: torch.Tensor) -> torch.Tensor:
    """By loops over the grid."""
    rows = [torch.stack([block.abs().sum() for block in row.split(SIDE, 1)]) for row in matrix.split(SIDE)]
    return torch.stack(rows)


def test_the_first_mask_may_keep_the_strongest_blocks():
    one = task()
    method, _ = replace(static(0.7), first="magnitude", blocks=SIDE).prepared(one)
    for name, kept in method.units.items():
        scores = _l1(one.model.get_parameter(name).detach())
        assert scores[kept].min() > scores[~kept].max() and layers(one.model)[
            name.removesuffix(".weight")
        ].layout.kept.equal(kept)


# --- gradients of what would grow ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "dense"),
    [(METHOD, True), (replace(METHOD, evolution=Evolution(3, order="after")), True), (evolutionary(0.7, EVERY), False)],
)
def test_gradients_of_dead_blocks_are_made_for_updates_alone(recipe, dense):
    seen = []

    def before(step: Step) -> None:
        dead = {name: ~kept for name, kept in (step.mask or {}).items() if name.startswith("blocks.")}
        if any(step.model.get_parameter(name).grad[gone].any() for name, gone in dead.items()):
            seen.append(step.index)

    _, found = trained(replace(recipe, blocks=SIDE), early=[before])
    sparse = [step for step, before in zip(found.told["step"][1:], found.told["sparsity"], strict=False) if before]
    assert seen == (sparse if dense else []) and len(sparse) > 10


# --- FLOPs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_flops_are_those_that_torch_counts(tied):
    """Of live blocks alone; with all gradients; and of blocks that all live."""
    one = task(model=Model(SIZE, tied))
    method, _ = replace(METHOD, phases=Phases(0.7, 0, 0)).prepared(one)
    found, ids = [], one.data.train.inputs[:3].long()

    def count() -> int:
        found.append(one.model.train_flops(3, TOKENS))
        assert found[-1] == count_flops(lambda: one.model(ids).sum().backward())
        return found[-1]

    versions = [one.model.flops_version]
    live = sum(int(kept.sum()) for kept in method.mask.values())
    scores = 3 * 4 * 3 * SIZE.depth * SIZE.width * TOKENS**2
    assert count() == scores + 6 * 3 * TOKENS * live
    assert sum(one.model.forward_flops(3, TOKENS).values()) == found[0] // 3
    method.grain.expect(True)
    versions.append(one.model.flops_version)
    size = sum(kept.numel() for kept in method.mask.values())
    assert count() == found[0] + 2 * 3 * TOKENS * (size - live)
    method.grain.expect(False)
    method.grain.follow({name: torch.ones_like(kept) for name, kept in method.units.items()})
    versions.append(one.model.flops_version)
    assert count() == task(model=Model(SIZE, tied)).model.train_flops(3, TOKENS)
    assert len(set(versions)) == 3


def test_where_it_does_not_pay_the_whole_masked_weight_is_counted(monkeypatch):
    monkeypatch.setattr(Layout, "pays", False)
    one = task()
    replace(static(0.7), blocks=SIDE).prepared(one)
    assert one.model.train_flops(3, TOKENS) == task().model.train_flops(3, TOKENS)
    ids = one.data.train.inputs[:3].long()
    assert one.model.train_flops(3, TOKENS) == count_flops(lambda: one.model(ids).sum().backward())


def test_the_loop_counts_what_each_step_computes():
    """Anew with every mask, and with the attention of each phase; the paper's count is that of kept weights."""
    one, found, _, flops = whole()
    train = one.ledger.total()["phases"]["train"]
    assert train["flops"] == sum(flops) and len(set(flops)) > 5
    dense = task().model.train_flops(BATCH, TOKENS)
    assert flops[0] < dense == flops[-1] and min(flops) < 0.4 * dense
    assert train["flops"] < 0.6 * STEPS * dense
    counted = found.course.ledger(found.told, accounting())
    per_token = sum(value for parts in counted.values() for value in parts.values())
    assert train["paper_flops"] == pytest.approx(per_token * BATCH * TOKENS, rel=1e-6)


# --- cut off, and what is made of a trained model ------------------------------------------------------------


@pytest.mark.parametrize("place", [3, 22, 23, 37])
def test_a_training_cut_off_goes_on_to_the_same_bits(tmp_path, place):
    """In each of the phases, before a step that updates and after one."""
    one, found, _, _ = whole()
    with pytest.MonkeyPatch.context() as often, pytest.raises(Cut):
        often.setattr(checkpoint, "EVERY_S", 0.0)
        trained(METHOD, late=[cut_at(place + 1)], checkpoint=tmp_path / "arm")
    again, resumed = trained(METHOD, checkpoint=tmp_path / "arm")
    assert same_weights(again.model, one.model) and same_mask(resumed.mask, found.mask)
    assert resumed.told == found.told and learnt(resumed.history) == learnt(found.history)
    ours, theirs = (each.ledger.total()["phases"]["train"] for each in (again, one))
    assert (ours["flops"], ours["paper_flops"]) == (theirs["flops"], theirs["paper_flops"])


def test_an_arm_with_blocks_has_an_outcome():
    one, found = trained(replace(static(0.7), blocks=SIDE))
    metrics = outcome(one, found).metrics
    assert metrics["final_sparsity"] == found.told["sparsity"][0] == 1 - metrics["alive"]
    assert metrics["kept_zero"] < 0.01 and metrics["test_loss"] < math.log(VOCABULARY)
    state = one.model.state_dict()
    assert state.keys() == task().model.state_dict().keys()
    plain = task(seed=1).model
    plain.load_state_dict(state)
    ids = one.data.test.inputs.long()
    assert torch.allclose(plain(ids), one.model(ids), atol=1e-5)


def test_a_dry_run_leaves_masks_alone():
    one, found = trained(METHOD, ledger=Ledger(dry_run=True))
    assert found.told["step"] == [0] and one.ledger.forecast()["steps"] == STEPS


# --- refused -------------------------------------------------------------------------------------------------


def test_blocks_that_do_not_divide_a_matrix_are_refused_before_a_training():
    message = r'"embedding.weight" of shape \(32, 16\) does not part into blocks of 5 x 5; give a size that divides'
    bad, data = replace(METHOD, blocks=5), text()
    with pytest.raises(ParameterError, match=message):
        bad.check(STEPS, TOKENS, shapes(MODEL, data))
    one = task()
    with pytest.raises(ParameterError, match=message):
        bad(one)
    assert not layers(one.model), "the model is as it was"
    toy = Opened("toy", data, {"length": TOKENS + 1, "whole": 1})
    settings = Settings(toy.settings, MODEL, TRAINING, METHOD)
    work = Experiment({"toy": toy})
    work.check({"an arm": settings})
    for recipe, what in ((bad, message), (replace(METHOD, blocks=0), "blocks of 0 x 0")):
        with pytest.raises(ParameterError, match=f"an arm: .*{what}"):
            work.check({"an arm": replace(settings, recipe=recipe)})
    # The head's other side is the vocabulary.
    with pytest.raises(ParameterError, match=r'"embedding.weight" of shape \(30, 16\)'):
        METHOD.check(STEPS, TOKENS, {"embedding.weight": (30, 16)})
    replace(bad, blocks=None).check(STEPS, TOKENS, shapes(MODEL, data))


def test_what_has_no_products_to_spare_and_unknown_norms_are_refused():
    model = task().model
    with pytest.raises(ParameterError, match=r'"positions.weight" is the matrix of a Embedding, which has no products'):
        Blocks.of(model, ["blocks.0.mlp.0.weight", "positions.weight"], SIDE)
    assert not layers(model)
    with pytest.raises(ParameterError, match='unknown norm "l2" of blocks; use l1 or frobenius'):
        replace(METHOD, norm="l2").prepared(task())
