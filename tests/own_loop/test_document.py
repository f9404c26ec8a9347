"""The examples of docs/own_loop.md run as they stand, and do what the page says."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from effi import masks, paths
from effi.cli import app

PAGE = paths.ROOT / "docs" / "own_loop.md"
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
LONGEST = 10


def lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page leaves behind, run from top to bottom in an empty folder."""
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        for kind, text in BLOCKS:
            if kind == "python":
                exec(compile(text, str(PAGE), "exec"), found)
            else:
                done = CliRunner().invoke(app, shlex.split(text)[1:])
                assert done.exit_code == 0 and text.startswith("effi "), done.output
                found["said"] = done.output
    return found


def obeyed(model: torch.nn.Module, mask: masks.Mask) -> bool:
    weights = dict(model.named_parameters())
    return all(not weights[name][~kept].any() for name, kept in mask.items())


def test_no_example_is_longer_than_it_says() -> None:
    _ground, *others = [text for kind, text in BLOCKS if kind == "python"]
    assert len(others) >= 9 and max(map(lines, others)) <= LONGEST


@pytest.mark.slow
def test_the_ticket_is_drawn_and_obeyed(names: dict[str, Any]) -> None:
    ticket = names["detector"].ticket
    assert masks.sparsity(ticket) == pytest.approx(0.5, abs=1e-4) and obeyed(names["model"], ticket)
    assert masks.sparsity(names["bird"].mask) == pytest.approx(0.5, abs=1e-4)
    assert names["bird"].method.drawn_at < names["STEPS"]


@pytest.mark.slow
def test_the_slim_model_is_smaller_and_of_the_same_class(names: dict[str, Any]) -> None:
    gated, slimmed = names["gated"], names["slimmed"]
    assert type(slimmed) is type(gated) and not hasattr(gated, "gates")
    assert slimmed.transformer.h[0].attn.num_heads == 1
    assert sum(p.numel() for p in slimmed.parameters()) < sum(p.numel() for p in gated.parameters())
    assert slimmed(torch.arange(5)[None]).logits.shape == (1, 5, names["data"].vocabulary)


@pytest.mark.slow
def test_the_schedule_is_followed_and_connections_move(names: dict[str, Any]) -> None:
    for method in (names["mst"], names["topology"].method):
        told = method.told
        assert max(told["sparsity"]) == pytest.approx(0.8, abs=0.01) and told["sparsity"][-1] == 0
        assert told["sparsity"] == pytest.approx(told["target"], abs=0.01)
        assert sum(told["activated/gradient"]) > sum(told["activated/random"]) > 0
    assert names["loop"].done == names["STEPS"]


@pytest.mark.slow
def test_the_soup_reaches_its_target(names: dict[str, Any]) -> None:
    for method, model in ((names["soup"], names["soup"].model), (names["votes"].method, names["votes"].method.model)):
        assert masks.sparsity(method.mask) == pytest.approx(0.4, abs=1e-4) and obeyed(model, method.mask)
        assert max(method.told["moved"]) > 0


@pytest.mark.slow
def test_a_vit_with_minimal_attention_trains(names: dict[str, Any]) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=2)
    torch.manual_seed(0)
    vit = ViTForImageClassification(config)
    before = sum(p.numel() for p in vit.parameters())
    names["minimal"](vit)
    # Four matrices of 16 x 16 with biases were there, and one is left.
    assert before - sum(p.numel() for p in vit.parameters()) == 2 * 3 * (16 * 16 + 16)
    pixels = torch.randn(32, 1, 8, 8)
    labels = (pixels.mean((1, 2, 3)) > 0).long()
    optimizer, losses = torch.optim.AdamW(vit.parameters(), lr=3e-3), []
    for _ in range(60):
        loss = vit(pixel_values=pixels, labels=labels).loss
        loss.backward(), optimizer.step(), optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_the_grown_checkpoint_is_the_one_asked_for(names: dict[str, Any]) -> None:
    large, small = names["large"], names["new"]()
    config = large.config
    assert (config.n_embd, config.n_layer, config.n_head) == (24, 4, 3) and "by stack" in names["said"]
    # Stacked: the third layer is the first once more, and old units stay where they are.
    assert large.transformer.h[2].mlp.c_fc.weight.equal(large.transformer.h[0].mlp.c_fc.weight)
    assert large.transformer.wte.weight[:, :16].equal(small.transformer.wte.weight)
