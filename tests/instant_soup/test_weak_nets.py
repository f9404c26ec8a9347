"""Weak nets: the same weights whichever way they are trained, protocols as drawn, a main model that stays as it is."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from effi import masks
from effi.cost import Ledger
from effi.errors import ParameterError
from effi.instant_soup import Look, Noise, Protocol, draw, fastest, look_ahead, nets_at_once, seconds_of_ways
from effi.instant_soup.weak_nets import moments_of
from effi.models.vit import ViT
from effi.training import Group, LanguageModelling, Training, fit
from tests.instant_soup.tiny import EXAMPLES, SHAPE, TRAINING, apart, obeys, same_weights, vit
from tests.training.tiny import Reader, sentences

SGD = Training(steps=9, batch_size=16, optimizer="sgd", lr=0.05, weight_decay=0.1, clip=0.5)
SETTINGS = {
    "sgd": SGD,
    "clipped": replace(SGD, clip=0.01, momentum=0.0, accumulate=2),
    "adamw": replace(TRAINING, eps=1e-3),
    "groups": replace(SGD, groups=(Group("*.mlp.*", lr=0.2, weight_decay=0.3),), warmup=3),
}


def protocols(training=SGD, nets=3, steps=8, rate=0.02, seed=0, **noise) -> list[Protocol]:
    ranges = Noise(**{"fraction": 0.2, **noise})
    return draw(ranges, training, rate=rate, steps=steps, examples=EXAMPLES, nets=nets, seed=seed)


def trained(data, drawn, own_masks=None, *, model=None, way="in_turn", moments=None, **options):
    """Nets and the ledger."""
    look, ledger = Look(model or vit(), data, moments=moments), Ledger()
    own_masks = own_masks or [None] * len(drawn)
    return list(look_ahead(look, drawn, own_masks, ledger=ledger, way=way, **options)), ledger


def half(seed: int) -> masks.Mask:
    return masks.random(masks.prunable(vit()), 0.5, generator=torch.Generator().manual_seed(seed))


def assert_same(some, others, tolerance=2e-6) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert apart(one.parameters(), other.parameters()) <= tolerance


# --- ways ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_a_stack_of_nets_is_the_nets_one_after_another(data, name):
    """Each under its own mask, at its own rate and decay, on its own part of the data."""
    drawn, own_masks = protocols(SETTINGS[name]), [half(0), half(1), None]
    (alone, one), (stacked, other) = (trained(data, drawn, own_masks, way=way) for way in ("in_turn", "stacked"))
    assert_same(stacked, alone)
    assert one.total()["flops"] == other.total()["flops"]
    for nets in (alone, stacked):
        assert all(obeys(dict(net.named_parameters()), mask) for net, mask in zip(nets, own_masks, strict=True) if mask)
        assert apart(nets[0].parameters(), nets[1].parameters()) > 1e-3


def test_texts_are_stacked_too():
    """Every net reads texts of its own, cut at the longest of all."""
    texts, model = sentences(rows=40), Reader()
    drawn = draw(Noise(fraction=0.5), SGD, rate=0.05, steps=6, examples=40, nets=3, seed=0)
    look = Look(model, texts, LanguageModelling())
    alone, stacked = (
        list(look_ahead(look, drawn, [None] * 3, ledger=Ledger(), way=way)) for way in ("in_turn", "stacked")
    )
    assert_same(stacked, alone)
    assert apart(alone[0].parameters(), alone[1].parameters()) > 1e-3


@pytest.mark.slow
def test_nets_in_processes_are_the_nets_one_after_another(data):
    drawn, own_masks = protocols(TRAINING), [half(0)] * 3
    (alone, one), (apart_, other) = (trained(data, drawn, own_masks, way=way) for way in ("in_turn", "processes"))
    assert all(same_weights(a, b) for a, b in zip(alone, apart_, strict=True)), "one thread here, too"
    assert one.total()["flops"] == other.total()["flops"]


def test_the_model_stays_as_it_is(data):
    model = vit()
    for way in ("in_turn", "stacked"):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            trained(data, protocols(), model=model, way=way)
            after = torch.rand(1)
            torch.manual_seed(5)
            assert torch.rand(1) == after, "nor does the main training's dropout notice"
    assert same_weights(model, vit()) and model.training


def test_nets_have_no_dropout_in_common_but_when_stacked(data):
    model = ViT(replace(SHAPE, dropout=0.3), heads=2, seed=0)
    drawn = protocols(same_data=True)
    same = [replace(each, training=drawn[0].training) for each in drawn]
    nets, _ = trained(data, same, model=model)
    assert all(same_weights(nets[0], net) for net in nets), "the same protocol is the same net"
    stacked, _ = trained(data, same, model=model, way="stacked")
    assert apart(stacked[0].parameters(), stacked[1].parameters()) > 1e-4


@pytest.mark.parametrize("way", ["in_turn", "stacked"])
def test_memory_bounds_how_many_are_trained_at_once(data, way, monkeypatch):
    model = vit()
    size = sum(parameter.nbytes for parameter in model.parameters())
    assert [nets_at_once(model, copies * size) for copies in (6, 18, 23)] == [1, 3, 3]
    stacks = []

    def counted(nets, *rest, **options):
        stacks.append(1 if isinstance(nets, nn.Module) else len(nets))
        return fit(nets, *rest, **options)

    monkeypatch.setattr("effi.instant_soup.weak_nets.fit", counted)
    free, _ = trained(data, protocols(nets=5))
    stacks.clear()
    held, _ = trained(data, protocols(nets=5), way=way, memory=13 * size)
    assert stacks == {"in_turn": [1] * 5, "stacked": [2, 2, 1]}[way]
    assert_same(held, free)
    with pytest.raises(ParameterError, match=r"a weak net takes [\d,]+ bytes in training, more than memory=1,000"):
        trained(data, protocols(), way=way, memory=1000)


def test_the_fastest_way_must_be_worth_it():
    times = {"in_turn": [1.0, 2.0, 1.0], "stacked": [0.97, 1.9, 1.0], "processes": [3.0, 3.0, 3.0]}
    assert fastest(times) == "in_turn"
    assert fastest(times | {"stacked": [0.9, 1.8, 1.1]}) == "stacked"
    assert fastest({"in_turn": [1.0]}) == "in_turn"


class Unstackable(nn.Module):
    """A model that looks at its values, as vmap cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = vit()

    def forward(self, images):
        return self.inner(images * (2.0 if bool(images.mean() > 1e9) else 1.0))


def test_ways_that_cannot_are_left_out_of_the_measurement(data, monkeypatch):
    drawn, look = protocols(nets=2), Look(vit(), data)
    monkeypatch.setattr("effi.instant_soup.weak_nets._in_processes", _refuses)
    assert set(seconds_of_ways(look, drawn, [None] * 2, repeats=1)) == {"in_turn", "stacked"}
    found = seconds_of_ways(replace(look, model=Unstackable()), drawn, [None] * 2, repeats=2)
    assert set(found) == {"in_turn"} and len(found["in_turn"]) <= 2 and min(found["in_turn"]) > 0
    assert fastest(found) == "in_turn"


def _refuses(*_):
    raise RuntimeError("no processes here")


# --- protocols -----------------------------------------------------------------------------------------------


def test_protocols_are_drawn_within_their_ranges():
    drawn = protocols(TRAINING, nets=200, rate=2e-4)
    factors = [each.training.lr / 2e-4 for each in drawn]
    assert 0.3 <= min(factors) < 0.35 and 2.5 < max(factors) <= 3.0
    logs = torch.tensor(factors).log()
    assert float(logs.mean()) == pytest.approx(math.log(0.9) / 2, abs=0.15), "log-uniform: the mean of both ends"
    assert float(logs.std()) == pytest.approx(math.log(10) / math.sqrt(12), rel=0.1)
    decays = torch.tensor([each.training.weight_decay for each in drawn])
    assert float(decays.mean()) == pytest.approx(0.05, abs=0.01) and 0 <= decays.min() < decays.max() <= 0.1
    assert len({each.seed for each in drawn}) == 200
    for each in drawn[:3]:
        assert (each.training.steps, each.training.epochs, each.training.schedule) == (8, None, "constant")
        assert each.training.rate(7, 8) == each.training.lr
        assert len(each.rows) == len(set(each.rows.tolist())) == EXAMPLES // 5
    assert not torch.equal(drawn[0].rows, drawn[1].rows)


def test_noise_can_be_of_one_kind_alone():
    sizes = {"rate": 1e-3, "steps": 5, "examples": 50, "nets": 3, "seed": 1}
    still = draw(Noise(rate=None, decay=None, same_data=True), TRAINING, **sizes)
    assert {(each.training.lr, each.training.weight_decay, each.seed) for each in still} == {(1e-3, 0.01, 1)}
    order = draw(Noise(rate=None, decay=None), TRAINING, **sizes)
    assert len({each.seed for each in order}) == 3 and {each.training.lr for each in order} == {1e-3}
    rates = draw(Noise(decay=None, same_data=True), TRAINING, **sizes)
    assert len({each.training.lr for each in rates}) == 3 == sum(each.rows.equal(rates[0].rows) for each in rates)
    dropped = draw(Noise(rate=None, dropout=(0.1, 0.4), same_data=True), TRAINING, **sizes)
    assert len({each.dropout for each in dropped}) == 3 and all(0.1 <= each.dropout <= 0.4 for each in dropped)
    whole = draw(Noise(fraction=1.0), TRAINING, **sizes)
    assert sorted(whole[0].rows.tolist()) == list(range(50))


def test_the_same_seed_draws_the_same_protocols():
    one, same, other = (protocols(seed=seed) for seed in (3, 3, 4))
    assert [each.training for each in one] == [each.training for each in same]
    assert [each.training.lr for each in one] != [each.training.lr for each in other]
    assert [each.seed for each in protocols(nets=2)] == [each.seed for each in protocols(nets=5)[:2]]


def test_groups_keep_their_place_beside_the_rate():
    training = replace(SGD, groups=(Group("*.mlp.*", lr=0.2, weight_decay=0.3), Group("norm", weight_decay=0.0)))
    for each in protocols(training):
        first, second = each.training.groups
        assert first.lr / each.training.lr == pytest.approx(0.2 / 0.05) and first.weight_decay == 0.3
        assert (second.lr, second.weight_decay) == (None, 0.0)


def test_a_net_is_a_training_on_its_part_of_the_data(data):
    """By hand: the examples of its rows, its settings, its seed."""
    (drawn, _, _), mask, model = protocols(), half(2), vit()
    part = replace(data, train=data.train.take(drawn.rows))
    fit(model, part, drawn.training, seeds=[drawn.seed], ledger=Ledger(), mask=mask)
    (net,), _ = trained(data, [drawn], [mask])
    assert same_weights(net, model)


def test_nets_may_differ_in_dropout_alone(data):
    model = ViT(replace(SHAPE, dropout=0.1), heads=2, seed=0)
    drawn = protocols(dropout=(0.0, 0.5), same_data=True)
    same = [replace(each, training=drawn[0].training) for each in drawn]
    nets, _ = trained(data, same, model=model)
    assert apart(nets[0].parameters(), nets[1].parameters()) > 1e-4
    for net, each in zip(nets, same, strict=True):
        assert {layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)} >= {each.dropout}
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ParameterError, match="Sequential has no dropout that weak nets could differ in"):
        trained(data, drawn, model=plain)
    with pytest.raises(ParameterError, match="dropout cannot differ; train them in_turn"):
        trained(data, drawn, way="stacked")


@pytest.mark.parametrize("way", ["in_turn", "stacked"])
def test_moments_are_inherited_where_asked(data, way):
    """A net that inherits goes on as the main model would, with the batches of its own order."""
    seen = []

    def look(step) -> None:
        if step.index == 5:
            nets, _ = trained(data, drawn, model=step.model, way=way, moments=moments_of(step.model, step.optimizer))
            seen.append((copy.deepcopy(step.model), copy.deepcopy(step.optimizer.state_dict()), nets))

    training = replace(TRAINING, steps=9, epochs=None, schedule="constant", eps=1e-3)
    drawn = protocols(training, nets=2, steps=4, rate=1e-3)
    (history,) = fit(vit(), data, training, seeds=[0], ledger=Ledger(), after_step=[look])
    model, state, nets = seen[0]
    assert history.curves["step"][-1] == 9
    for each, net in zip(drawn, nets, strict=True):
        by_hand = copy.deepcopy(model)
        part = replace(data, train=data.train.take(each.rows))

        def start(step, by_hand=by_hand) -> None:
            if step.index == 1:
                own = copy.deepcopy(state["state"])
                for place, parameter in enumerate(p for group in step.optimizer.param_groups for p in group["params"]):
                    step.optimizer.state[parameter] = own[place]

        fit(by_hand, part, each.training, seeds=[each.seed], ledger=Ledger(), before_step=[start])
        assert apart(net.parameters(), by_hand.parameters()) <= (0 if way == "in_turn" else 1e-5)
    fresh, _ = trained(data, drawn, model=model, way=way)
    assert apart(fresh[0].parameters(), nets[0].parameters()) > 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "fraction=0"),
        ({"rate": (3.0, 0.3)}, r"rate=\(3.0, 0.3\)"),
        ({"decay": (-0.1, 0.1)}, "decay="),
        ({"dropout": (0.1, 1.5)}, "dropout="),
    ],
)
def test_bad_noise_is_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        Noise(**options)


def test_an_unknown_way_is_refused(data):
    with pytest.raises(ParameterError, match="way 'fast' to train weak nets is unknown; give one of in_turn, stacked"):
        trained(data, protocols(), way="fast")
