"""A callback in transformers' Trainer and a listener in the workbook's loop come to the same masks and weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from effi import masks
from effi.errors import DataError, ParameterError
from effi.instant_soup import Denoiser, InstantSoup, Rounds
from effi.mixed_sparsity import Evolution, MixedSparsity, Phases, Sparse, erdos_renyi
from effi.own_loop import EarlyBird
from effi.own_loop.callbacks import EarlyBirdCallback, InstantSoupCallback, ListenerCallback, MixedSparsityCallback
from tests.own_loop import toy

PHASES = Phases(0.8, warmup=0.2, restoration=0.3, settle=0.4)
BIRD: dict[str, Any] = {"sparsity": 0.5, "every": 5, "threshold": 0.08}


def same_weights(a: Any, b: Any) -> bool:
    """Bit by bit, of all weights."""
    return all(value.equal(b.net.state_dict()[name]) for name, value in a.net.state_dict().items())


def inside(mask: masks.Mask) -> masks.Mask:
    """By the names of the network inside."""
    return {name.removeprefix("net."): kept for name, kept in mask.items()}


def equal(a: masks.Mask, b: masks.Mask) -> bool:
    return a.keys() == b.keys() and all(kept.equal(b[name]) for name, kept in a.items())


def obeyed(own: Any, mask: masks.Mask) -> bool:
    weights = dict(own.net.named_parameters())
    return bool(mask) and all(not weights[name][~kept].any() for name, kept in mask.items())


def test_without_a_listener_both_loops_train_alike(tmp_path: Path) -> None:
    data, ours, theirs = toy.text(), toy.model(), toy.model()
    toy.by_workbook(ours, data)
    toy.trainer(theirs, data, tmp_path, ListenerCallback(lambda model, steps: {})).train()
    assert same_weights(ours, theirs) and not same_weights(ours, toy.model())


def test_an_early_bird_draws_the_same_ticket_and_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    data, ours, theirs = toy.text(), toy.model(), toy.model()
    bird = EarlyBird(ours, **BIRD)
    toy.by_workbook(ours, data, after_step=[bird])
    callback = EarlyBirdCallback(**BIRD)
    toy.trainer(theirs, data, tmp_path, callback).train()
    assert bird.ticket is not None and bird.drawn_at is not None and 5 < bird.drawn_at < toy.STEPS
    assert callback.method.drawn_at == bird.drawn_at and callback.method.distances == bird.distances
    assert equal(inside(bird.ticket), callback.mask) and obeyed(theirs, callback.mask)
    assert same_weights(ours, theirs)


def test_an_early_bird_sees_what_the_search_of_the_workbook_sees() -> None:
    from effi.early_bird import Search

    data, ours, theirs = toy.text(), toy.model(), toy.model()
    search = Search(ours, masks.prunable(ours), [0.5], toy.STEPS, toy.STEPS // 5, threshold=0.08)
    toy.by_workbook(ours, data, after_step=[search])
    bird = EarlyBird(theirs, **BIRD, hold=False)
    toy.by_workbook(theirs, data, after_step=[bird])
    drawn = search.detectors[0.5]
    assert drawn.ticket is not None and bird.ticket is not None
    assert equal(drawn.ticket, bird.ticket) and drawn.found_at == (bird.drawn_at or 0) // 5
    assert same_weights(ours, theirs)  # as neither changes anything


def test_an_early_bird_can_end_the_training(tmp_path: Path) -> None:
    data, own = toy.text(), toy.model()
    callback = EarlyBirdCallback(**BIRD, stop=True)
    trained = toy.trainer(own, data, tmp_path, callback)
    trained.train()
    assert trained.state.global_step == callback.method.drawn_at and callback.method.drawn_at < toy.STEPS
    assert callback.mask == {} and callback.method.ticket is not None
    assert equal(masks.magnitude(masks.prunable(own.net), 0.5), callback.method.ticket)


@pytest.mark.slow
@pytest.mark.parametrize(
    "evolution",
    [Evolution(every=6), Evolution(every=6, mix=0.0, order="after"), Evolution(every=6, score="mest")],
    ids=["gradient and random", "SET", "MEST"],
)
def test_mixed_sparsity_moves_the_same_masks(evolution: Evolution, tmp_path: Path) -> None:
    data, ours, theirs = toy.text(), toy.model(), toy.model()
    names, how = list(masks.prunable(ours)), Sparse(PHASES, evolution).carried_out()
    method = MixedSparsity(ours, PHASES, erdos_renyi, how, names=names, seed=toy.SEED)
    toy.by_workbook(ours, data, **method.arguments())
    callback = MixedSparsityCallback(PHASES, evolution, seed=toy.SEED)
    toy.trainer(theirs, data, tmp_path, callback).train()
    told = {name.replace("sparsity/net.", "sparsity/"): values for name, values in method.told.items()}
    assert callback.method.told == told and max(told["sparsity"]) == pytest.approx(0.8, abs=0.01)
    assert told["sparsity"][-1] == 0 and sum(told["churn"]) > 0
    assert equal(inside(method.mask), callback.mask) and same_weights(ours, theirs)


@pytest.mark.slow
def test_gradients_asked_for_under_clipping_need_a_step_of_their_own(tmp_path: Path) -> None:
    data, ours, theirs = toy.text(), toy.model(), toy.model()
    evolution = Evolution(every=6, order="after")
    with pytest.raises(ParameterError, match="max_grad_norm=0"):
        toy.trainer(theirs, data, tmp_path, MixedSparsityCallback(PHASES, evolution)).train()
    unclipped, theirs = replace(toy.TRAINING, clip=None), toy.model()
    names, how = list(masks.prunable(ours)), Sparse(PHASES, evolution).carried_out()
    method = MixedSparsity(ours, PHASES, erdos_renyi, how, names=names, seed=0)
    toy.by_workbook(ours, data, unclipped, **method.arguments())
    callback = MixedSparsityCallback(PHASES, evolution)
    toy.trainer(theirs, data, tmp_path, callback, unclipped).train()
    assert equal(inside(method.mask), callback.mask) and same_weights(ours, theirs)


@pytest.mark.slow
def test_instant_soup_cuts_the_same_masks(tmp_path: Path) -> None:
    data, ours, theirs = toy.text(), toy.model(), toy.model()
    rounds, denoiser = Rounds(0.4, rate=0.2, first=0.2), Denoiser(nets=2, steps=3)
    options: dict[str, Any] = {"objective": toy.OBJECTIVE, "seed": toy.SEED}
    soup = InstantSoup(ours, data, toy.TRAINING, rounds, denoiser, **options)
    toy.by_workbook(ours, data, after_step=[soup])
    callback = InstantSoupCallback(theirs, data, toy.TRAINING, rounds, denoiser, **options)
    toy.trainer(theirs, data, tmp_path, callback).train()
    assert callback.method.told == soup.told and masks.sparsity(soup.mask) == pytest.approx(0.4, abs=1e-3)
    assert max(soup.told["decided"]) > 0  # weak nets, and not magnitude alone, chose
    assert equal(soup.mask, callback.mask) and obeyed(theirs, inside(callback.mask))
    assert same_weights(ours, theirs)


def test_a_soup_wants_the_steps_of_its_training(tmp_path: Path) -> None:
    data, own = toy.text(), toy.model()
    rounds, denoiser = Rounds(0.4, rate=0.2, first=0.2), Denoiser(nets=1, steps=1)
    callback = InstantSoupCallback(own, data, toy.TRAINING, rounds, denoiser, objective=toy.OBJECTIVE)
    with pytest.raises(ParameterError, match="takes 61 steps and the soup's training 60"):
        toy.trainer(own, data, tmp_path, callback, max_steps=61).train()


@pytest.mark.slow
@pytest.mark.parametrize("which", ["early bird", "mixed sparsity"])
def test_a_resumed_training_ends_with_the_same_bits(which: str, tmp_path: Path) -> None:
    def callback() -> ListenerCallback:
        if which == "early bird":
            return EarlyBirdCallback(**BIRD)
        return MixedSparsityCallback(PHASES, Evolution(every=6), seed=toy.SEED)

    data, whole, cut = toy.text(), toy.model(), toy.model()
    saves = {"save_strategy": "steps", "save_steps": 20}
    straight = callback()
    toy.trainer(whole, data, tmp_path / "whole", straight, **saves).train()
    resumed = callback()
    toy.trainer(cut, data, tmp_path / "whole", resumed).train(
        resume_from_checkpoint=str(tmp_path / "whole/checkpoint-20")
    )
    assert same_weights(whole, cut) and equal(straight.mask, resumed.mask) and straight.mask
    (kept,) = (tmp_path / "whole/checkpoint-20").glob("effi.*.safetensors")
    kept.unlink()
    with pytest.raises(DataError, match=r"checkpoint-20/effi\.\w+\.safetensors is no state"):
        toy.trainer(toy.model(), data, tmp_path / "whole", callback()).train(
            resume_from_checkpoint=str(tmp_path / "whole/checkpoint-20")
        )


def test_hooks_are_gone_when_the_training_ends(tmp_path: Path) -> None:
    data, own = toy.text(), toy.model()
    callback = EarlyBirdCallback(**BIRD)
    toy.trainer(own, data, tmp_path, callback).train()
    ids, labels = data.train.inputs[:4].long(), data.train.labels[:4]
    toy.loss(own.net(input_ids=ids), labels).backward()
    weights = dict(own.net.named_parameters())

    def gradients() -> list[Tensor]:
        return [weights[name].grad[~kept] for name, kept in callback.mask.items() if weights[name].grad is not None]

    assert gradients() and all(each.count_nonzero() > 0 for each in gradients())


def test_what_a_trainer_must_not_do_is_named(tmp_path: Path) -> None:
    data = toy.text()
    built = toy.trainer(toy.model(), data, tmp_path, EarlyBirdCallback(**BIRD))
    object.__setattr__(built.args, "fp16", True)
    with pytest.raises(ParameterError, match="bf16"):
        built.train()
    with pytest.raises(ParameterError, match="every=0"):
        EarlyBird(toy.model(), 0.5, every=0)
    with pytest.raises(ParameterError, match=r"has no weight 'net.transformer.h.0.attn.c_attn.weigh'"):
        EarlyBird(toy.model(), 0.5, every=1, names=["net.transformer.h.0.attn.c_attn.weigh"])


def test_accumulated_gradients_obey_the_mask_before_they_are_clipped(tmp_path: Path) -> None:
    data, own = toy.text(), toy.model()
    callback = MixedSparsityCallback(Phases(0.5, 0, 0), Evolution(every=1000, drop=0.0, mix=0.0), seed=1)
    norms: list[float] = []

    class Watch(ListenerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            norms.extend(
                float(p.grad[~callback.mask[name]].abs().max())
                for name, p in own.net.named_parameters()
                if name in callback.mask and p.grad is not None
            )

    built = toy.trainer(own, data, tmp_path, callback, gradient_accumulation_steps=2, max_steps=10)
    built.callback_handler.callbacks.insert(0, Watch(lambda model, steps: {}))
    torch.manual_seed(0)
    built.train()
    assert norms and max(norms) == 0
