"""The FLOP ledger: GPT-2 small to the digits of its closed form, a counter, realised steps, and wanted ratios."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from effi.cost import count_flops
from effi.errors import ParameterError
from effi.mixed_sparsity.flops import Accounting, GPTSize, Stretch, solve
from effi.mixed_sparsity.schedule import Phases

GPT2 = GPTSize(depth=12, width=768, hidden=3072, tokens=1024, vocabulary=50304)
SMALL = GPTSize(depth=2, width=8, hidden=32, tokens=16, vocabulary=24)
SQUARE, CAUSAL = Accounting(GPT2, "square"), Accounting(GPT2, "causal")
TINY = Accounting(SMALL)
PAIRS = 126_528 / 1024**2  # local or strided, s = 128
HYBRID = {"warm-up": PAIRS, "ultra": PAIRS}
TRAINED = 600_000 * 480 * 1024  # tokens

# Ultra sparsity, warm-up, restoration, shape; ratio by T^2 and by causal half, attention sparse until restoration.
NEAR_A_QUARTER = [
    (Phases(0.80, 0.10, 0.10, "mirror"), 0.236, 0.245),
    (Phases(0.80, 0.05, 0.20, "mirror"), 0.256, 0.260),
    (Phases(0.85, 0.20, 0.10, "fast"), 0.250, 0.261),
    (Phases(0.90, 0.05, 0.20, "fast"), 0.253, 0.257),
    (Phases(0.95, 0.20, 0.20, "fast"), 0.247, 0.251),
    (Phases(0.90, 0.10, 0.10, "mirror"), 0.153, 0.157),
]


def constant(sparsity: float) -> Phases:
    return Phases(sparsity, 0, 0)


def total(parts) -> float:
    return sum(parts.values())


# --- GPT-2 small in closed form ------------------------------------------------------------------------------


def test_weights_of_gpt2_small():
    assert (GPT2.block_weights, GPT2.head_weights) == (84_934_656, 38_633_472)
    assert GPT2.block_weights + GPT2.head_weights == 123_568_128


@pytest.mark.parametrize(
    ("accounting", "millions", "whole", "shares"),
    [
        (SQUARE, (509.6, 231.8, 113.2), 854.7, (0.596, 0.271, 0.133)),
        # Half of T^2 gives 56.6; with the diagonal, (T + 1) / 2T, it would be 56.7, and the sum 798.1.
        (CAUSAL, (509.6, 231.8, 56.6), 798.0, (0.639, 0.290, 0.071)),
    ],
)
def test_flops_of_a_token(accounting, millions, whole, shares):
    flops = accounting.flops()
    parts = [flops[name] for name in ("linears", "head", "attention")]
    assert [part / 1e6 for part in parts] == pytest.approx(list(millions), abs=0.05)
    assert total(flops) / 1e6 == pytest.approx(whole, abs=0.05)
    assert [part / total(flops) for part in parts] == pytest.approx(list(shares), abs=5e-4)
    assert flops["dense gradients"] == 0


def test_flops_of_the_dense_run():
    assert total(SQUARE.flops()) * TRAINED == pytest.approx(2.52e20, rel=1e-3)
    assert total(SQUARE.flops()) * TRAINED / 4 == pytest.approx(6.3e19, rel=1e-3)


@pytest.mark.parametrize(
    ("sparsity", "sparse", "dense"), [(0.75, 0.3494, 0.5528), (0.8, 0.3060, 0.5230), (0.9, 0.2193, 0.4634)]
)
def test_ratios_of_a_constant_sparsity(sparsity, sparse, dense):
    assert SQUARE.ratio(constant(sparsity)) == pytest.approx(sparse, abs=5.1e-5)
    assert replace(SQUARE, head="dense").ratio(constant(sparsity)) == pytest.approx(dense, abs=5.1e-5)


def test_ratio_without_the_head():
    """Neither side counts it, so that the blocks weigh more, and no dense head can stand in the way."""
    left_out = replace(SQUARE, head="left out")
    assert left_out.flops()["head"] == 0
    assert left_out.ratio(constant(0.8)) == pytest.approx((0.2 * 509.6 + 113.2) / (509.6 + 113.2), abs=1e-4)


@pytest.mark.parametrize(("phases", "square", "causal"), NEAR_A_QUARTER)
def test_schedules_near_a_quarter(phases, square, causal):
    assert SQUARE.ratio(phases, HYBRID) == pytest.approx(square, abs=5e-4)
    assert CAUSAL.ratio(phases, HYBRID) == pytest.approx(causal, abs=5e-4)


def test_without_sparse_attention_ratios_rise_by_a_tenth():
    assert SQUARE.ratio(NEAR_A_QUARTER[-1][0]) == pytest.approx(0.258, abs=5e-4)
    for phases, square, _ in NEAR_A_QUARTER:
        assert SQUARE.ratio(phases) - square == pytest.approx(0.10, abs=0.01)


@pytest.mark.parametrize("accounting", [SQUARE, CAUSAL])
@pytest.mark.parametrize("phases", [phases for phases, *_ in NEAR_A_QUARTER] + [Phases(0.75, 0, 0.2, stairs=1)])
def test_the_ratio_follows_from_the_two_means(accounting, phases):
    dense = 1.0 if accounting is SQUARE else 0.5
    mean = phases.restoration * dense + (1 - phases.restoration) * PAIRS
    share = accounting.flops()["attention"] / total(accounting.flops())
    expected = (1 - share) * (1 - phases.mean()) + share * mean / dense
    assert accounting.ratio(phases, HYBRID) == pytest.approx(expected)
    assert total(accounting.flops(phases.mean(), mean)) / total(accounting.flops()) == pytest.approx(expected)
    if accounting is SQUARE:
        assert expected == pytest.approx(0.8675 * (1 - phases.mean()) + 0.1325 * mean, abs=1e-4)


def test_the_ledger_by_phase_and_part_sums_to_the_ratio():
    accounting = replace(SQUARE, dense_every=100)
    phases = Phases(0.8, 0.1, 0.1)
    shares = accounting.shares(phases, HYBRID)
    assert list(shares) == ["warm-up", "ultra", "restoration"]
    assert sum(map(total, shares.values())) == pytest.approx(accounting.ratio(phases, HYBRID))
    whole = total(accounting.flops())
    assert shares["ultra"] == pytest.approx(
        {
            "linears": 0.8 * 0.2 * 6 * 84_934_656 / whole,
            "head": 0.8 * 0.2 * 6 * 38_633_472 / whole,
            "attention": 0.8 * PAIRS * 12 * 12 * 768 * 1024 / whole,
            "dense gradients": 0.8 * 0.8 * 2 * 123_568_128 / 101 / whole,
        }
    )
    assert shares["restoration"]["attention"] == pytest.approx(0.1 * 12 * 12 * 768 * 1024 / whole)


# --- against counters ----------------------------------------------------------------------------------------


class Net(nn.Module):
    """The matrix products of a GPT with one head of attention, and nothing else."""

    def __init__(self, size: GPTSize) -> None:
        super().__init__()
        d, h = size.width, size.hidden
        shapes = [(d, 3 * d), (d, d), (d, h), (h, d)]
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Linear(*shape, bias=False) for shape in shapes) for _ in range(size.depth)
        )
        self.head = nn.Linear(d, size.vocabulary, bias=False)

    def forward(self, x_BTN):
        for qkv, out, up, down in self.blocks:
            q_BTN, k_BTN, v_BTN = qkv(x_BTN).chunk(3, -1)
            x_BTN = down(up(out(q_BTN @ k_BTN.mT @ v_BTN)))
        return self.head(x_BTN)


@pytest.mark.parametrize("size", [SMALL, replace(SMALL, depth=3, hidden=20, tokens=7, vocabulary=5)])
def test_dense_flops_are_those_that_torch_counts(size):
    net = Net(size)
    assert sum(weight.numel() for weight in net.blocks.parameters()) == size.block_weights
    assert net.head.weight.numel() == size.head_weights
    x_BTN = torch.zeros(3, size.tokens, size.width, requires_grad=True)
    counted = count_flops(lambda: net(x_BTN).sum().backward())
    assert total(Accounting(size).flops()) * 3 * size.tokens == counted


def mean_step(sparse: float, dense: float, every: int) -> float:
    """Of RigL: so many sparse steps, and one whose gradient of the weights is dense."""
    return (3 * sparse * every + 2 * sparse + dense) / (every + 1)


@pytest.mark.parametrize(("every", "percent"), [(100, 2.97), (300, 1.00)])
def test_overhead_of_dense_gradients_on_update_steps(every, percent):
    assert mean_step(0.1, 1, every) / 0.3 - 1 == pytest.approx(percent / 100, abs=5.1e-5)
    flops = replace(SQUARE, dense_every=every).flops(0.9)
    overhead = flops["dense gradients"] / (flops["linears"] + flops["head"])
    assert overhead == pytest.approx(percent / 100, abs=5.1e-5)
    assert overhead == pytest.approx(mean_step(0.1, 1, every) / 0.3 - 1)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("head", ["sparse", "dense", "left out"])
def test_steps_of_the_three_rules_of_growth(sparsity, head):
    """SET never needs a dense gradient, SNFS always, RigL at updates; only sparse matrices cost more."""
    forward = 2 * (GPT2.block_weights + (GPT2.head_weights if head == "sparse" else 0))
    for every in (None, 0, 1, 50):
        flops = Accounting(GPT2, head=head, dense_every=every).flops(sparsity)
        found = flops["linears"] + (flops["head"] if head == "sparse" else 0) + flops["dense gradients"]
        sparse = (1 - sparsity) * forward
        expected = 3 * sparse if every is None else mean_step(sparse, forward, every)
        assert found == pytest.approx(expected), every
    snfs = Accounting(GPT2, head=head, dense_every=0).flops(sparsity)
    assert snfs["dense gradients"] == pytest.approx(sparsity * forward)


# --- realised steps ------------------------------------------------------------------------------------------


def test_realised_steps_by_brute_force():
    """Matrix by matrix: three products of the kept weights, and one whole where the gradient is dense."""
    generator = torch.Generator().manual_seed(0)
    accounting = Accounting(SMALL, "causal")
    blocks, head = SMALL.block_weights, SMALL.head_weights
    stretches, flops = [], 0.0
    for index in range(40):
        kept = (torch.rand(blocks, generator=generator) < 0.3, torch.rand(head, generator=generator) < 0.2)
        linears, own = (int(each.count_nonzero()) for each in kept)
        sparse, gradients = index < 25, index % 4 == 3
        mask = torch.ones(SMALL.tokens, SMALL.tokens).tril() * (torch.rand(SMALL.tokens, generator=generator) < 0.6)
        pairs = max(1, int(mask.count_nonzero())) if sparse else SMALL.tokens**2 / 2
        per_sequence = 2 * SMALL.depth * SMALL.width * 2 * pairs  # scores and values, forward
        flops += 3 * per_sequence / SMALL.tokens + 3 * 2 * (linears + own)
        flops += 2 * (blocks + head - linears - own) if gradients else 0
        density = pairs / SMALL.tokens**2 if sparse else None
        stretches.append(Stretch(1, linears, own, density, gradients))
    found = accounting.realised(stretches)
    assert total(found) == pytest.approx(flops / (40 * total(accounting.flops())))
    assert found["dense gradients"] > 0


def test_a_stretch_is_as_many_steps():
    few, many = Stretch(1, 500, 100, 0.2, True), Stretch(7, 900, 150)
    assert TINY.realised([few, many]) == pytest.approx(TINY.realised([few, *[many._replace(steps=1)] * 7]))
    assert TINY.realised(iter([few])) == TINY.realised([few])


def test_dense_steps_are_worth_one():
    dense = Stretch(5, SMALL.block_weights, SMALL.head_weights)
    for convention in ("square", "causal"):
        for head in ("sparse", "dense", "left out"):
            assert total(Accounting(SMALL, convention, head).realised([dense])) == pytest.approx(1)
            assert Accounting(SMALL, convention, head, dense_every=3).ratio(Phases(0, 0, 0)) == pytest.approx(1)


@pytest.mark.parametrize("head", ["sparse", "dense", "left out"])
def test_realised_steps_agree_with_the_closed_form(head):
    """A schedule carried out on 5,500 steps, with updates on every eleventh."""
    accounting = Accounting(GPT2, "causal", head, dense_every=10)
    phases, steps = Phases(0.9, 0.2, 0.4, "fast", stairs=5), 5500
    stretches = []
    for index in range(steps):
        share = (index + 0.5) / steps
        kept = 1 - phases.sparsity(share)
        attention = HYBRID.get(phases.phase(share))
        own = kept * GPT2.head_weights
        stretches.append(Stretch(1, kept * GPT2.block_weights, own, attention, gradients=index % 11 == 10))
    found = accounting.realised(stretches)
    closed = accounting.shares(phases, HYBRID)
    for part, share in found.items():
        assert share == pytest.approx(sum(parts[part] for parts in closed.values()), abs=1e-6), part


def test_only_the_sum_of_weights_kept_counts():
    """How a distribution shares a sparsity out between the blocks and the head changes no FLOPs."""
    one, other = Stretch(1, 700, 100), Stretch(1, 650, 150)
    assert total(TINY.realised([one])) == pytest.approx(total(TINY.realised([other])))


# --- wanted ratios -------------------------------------------------------------------------------------------


def test_the_constant_sparsity_of_a_quarter():
    found = solve(SQUARE, constant(0.5), 0.25, by="ultra")
    assert found.ultra == pytest.approx(0.865, abs=5e-4)
    assert found == constant(found.ultra) and SQUARE.ratio(found) == pytest.approx(0.25)


@pytest.mark.parametrize("convention", ["square", "causal"])
@pytest.mark.parametrize("head", ["sparse", "left out"])
@pytest.mark.parametrize("ultra", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("shape", ["mirror", "fast"])
def test_the_restoration_of_a_quarter(convention, head, ultra, shape):
    accounting = Accounting(GPT2, convention, head, dense_every=100)
    found = solve(accounting, Phases(ultra, 0.1, shape=shape), 0.25, HYBRID, by="restoration")
    assert accounting.ratio(found, HYBRID) == pytest.approx(0.25, abs=1e-12)
    assert 0 < found.restoration < 0.9 and replace(found, restoration=0.1) == Phases(ultra, 0.1, shape=shape)


@pytest.mark.parametrize("phases", [Phases(0.1), Phases(0.5, 0.3, 0.2, "fast", end=0.5), Phases(0.9, 0.5, 0)])
@pytest.mark.parametrize("stairs", [None, 10])
def test_the_ultra_sparsity_of_a_ratio(phases, stairs):
    phases = replace(phases, stairs=stairs)
    found = solve(SQUARE, phases, 0.32, HYBRID, by="ultra")
    assert SQUARE.ratio(found, HYBRID) == pytest.approx(0.32, abs=1e-12)
    assert replace(found, ultra=phases.ultra) == phases


@pytest.mark.parametrize("phases", [Phases(0.8, settle=0.3), Phases(0.5, 0.3, 0.2, "fast", end=0.5)])
def test_the_constant_sparsity_of_phases_that_stay(phases):
    """Attention hangs on them: its mean is the same as that of the schedule."""
    found = solve(SQUARE, phases, 0.3, HYBRID, by="constant")
    assert found.start == found.ultra == found.end and SQUARE.ratio(found, HYBRID) == pytest.approx(0.3, abs=1e-12)
    assert replace(found, ultra=phases.ultra, start=phases.start, end=phases.end) == phases
    by_ultra = solve(SQUARE, Phases(0.8, phases.warmup, phases.restoration), 0.3, HYBRID, by="ultra")
    assert found.ultra == pytest.approx(by_ultra.mean(), abs=1e-9)


def test_settling_costs_what_it_restores_sooner():
    settled = Phases(0.8, 0.1, 0.2, settle=0.4)
    more = SQUARE.ratio(settled, HYBRID) - SQUARE.ratio(replace(settled, settle=0), HYBRID)
    assert more == pytest.approx((1 - 0.1325) * 0.2 * 0.4 * 0.75 * 0.8, abs=1e-5)
    found = solve(SQUARE, settled, 0.4, HYBRID, by="restoration")
    assert SQUARE.ratio(found, HYBRID) == pytest.approx(0.4, abs=1e-12) and found.settle == 0.4


def test_static_and_then_dense_of_a_quarter():
    found = solve(SQUARE, Phases(0.9, 0, stairs=1), 0.25, by="restoration")
    kept = (0.25 - 0.132505) / 0.867495
    assert 0.1 * (1 - found.restoration) + found.restoration == pytest.approx(kept, abs=1e-5)
    assert found.sparsity(1 - found.restoration / 2) == 0


def test_solving_reaches_the_ends_of_its_range():
    phases = Phases(0.8, 0.1)
    for restoration in (0.0, 0.9):
        wanted = SQUARE.ratio(replace(phases, restoration=restoration), HYBRID)
        assert solve(SQUARE, phases, wanted, HYBRID, by="restoration").restoration == pytest.approx(restoration)
    assert solve(SQUARE, constant(0.8), 1.0, by="ultra") == constant(0.0)
    assert solve(SQUARE, Phases(0.8, end=0.5), SQUARE.ratio(Phases(0.5, end=0.5)), by="ultra").ultra == 0.5


def test_a_dense_head_alone_is_out_of_reach_of_a_quarter():
    accounting = replace(SQUARE, head="dense")
    message = r"ratio of 0\.25 is out of reach: any ultra sparsity .* 0\.404 to 1\.000; .* head sparse, .* costs 27\.1%"
    with pytest.raises(ParameterError, match=message):
        solve(accounting, constant(0.8), 0.25, by="ultra")
    least = 0.2712 + 0.1325 * PAIRS
    with pytest.raises(ParameterError, match=f"gives {least:.3f} to {least + 0.5963:.3f}"):
        solve(accounting, constant(0.8), 0.25, dict.fromkeys(("warm-up", "ultra", "restoration"), PAIRS), by="ultra")
    solve(accounting, constant(0.8), 0.41, by="ultra")


def test_a_restoration_out_of_reach_names_its_range():
    phases = Phases(0.8, 0.1)
    low = SQUARE.ratio(replace(phases, restoration=0), HYBRID)
    high = SQUARE.ratio(replace(phases, restoration=0.9), HYBRID)
    for ratio in (low - 1e-3, high + 1e-3, float("nan")):
        with pytest.raises(
            ParameterError, match=f"any length of the restoration .* {low:.3f} to {high:.3f}; "
        ) as found:
            solve(SQUARE, phases, ratio, HYBRID, by="restoration")
        assert "head" not in str(found.value)
    with pytest.raises(ParameterError, match="out of reach"):
        solve(SQUARE, Phases(0.8, 0, end=0.8), 0.25, by="restoration")


# --- what cannot be ------------------------------------------------------------------------------------------


def test_values_outside_their_ranges_are_named():
    with pytest.raises(ParameterError, match="convention 'half' is unknown; give one of square, causal"):
        Accounting(GPT2, "half")
    with pytest.raises(ParameterError, match="head 'tied' is unknown; give one of sparse, dense, left out"):
        Accounting(GPT2, head="tied")
    with pytest.raises(ParameterError, match="dense_every=-1 steps"):
        Accounting(GPT2, dense_every=-1)
    with pytest.raises(ParameterError, match=r"vocabulary=0\) has a size below 1"):
        replace(GPT2, vocabulary=0)
    for sparsity in (-0.1, 1, float("nan")):
        with pytest.raises(ParameterError, match=f"a sparsity of {sparsity:g} is outside"):
            SQUARE.flops(sparsity)
    for attention in (0, 1.1, float("nan")):
        with pytest.raises(ParameterError, match=f"a share of {attention:g} of T"):
            SQUARE.flops(0.5, attention)
    with pytest.raises(ParameterError, match="unknown phase 'warmup'; did you mean 'warm-up'"):
        SQUARE.ratio(Phases(0.8), {"warmup": 0.1})
    with pytest.raises(ParameterError, match="solved by 'warmup'"):
        solve(SQUARE, Phases(0.8), 0.25, by="warmup")


def test_realised_steps_that_cannot_be_are_named():
    for linears, head in ((SMALL.block_weights + 1, 5), (5, SMALL.head_weights + 1), (-1, 5), (5, -1)):
        with pytest.raises(ParameterError, match="count those of the masks"):
            TINY.realised([Stretch(1, linears, head)])
    with pytest.raises(ParameterError, match="no steps"):
        TINY.realised([])
