"""What reads what: an encoder for texts by what is here, and which images teach the small CLIP."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from effi import data
from effi.cost import Ledger
from effi.data import opening
from effi.errors import DataError
from effi.instant_soup import Dense, Experiment, Model, Settings, groups, published_clip, reader, taught, text_model
from effi.models import clip, language
from effi.training import Training

ROWS = [
    ("the cat sat", "a cat sat down", 4.0),
    ("one dog ran", "rain fell all day", 0.5),
    ("it rains", "rain falls", 4.5),
]


@pytest.fixture
def pairs(tmp_path):
    """Forty pairs of sentences with a number each."""
    lines = [f"{first} {n},{second},{score}" for n in range(14) for first, second, score in ROWS]
    (tmp_path / "pairs.csv").write_text("\n".join(["text,text2,score", *lines]))
    name = f"csv:{tmp_path / 'pairs.csv'}"
    (one,) = opening.open_parts([name], {}, scale="cpu", device="cpu", whole={"text": {"length": 24}}).values()
    return one


@pytest.fixture
def encoder(tmp_path, pairs, monkeypatch):
    """A small BERT where MiniLM would lie, with a tokenizer of its own."""
    words, size = pairs.data.tokenizer, language.TextSize(16, 1, 2, 32)
    made = language.classifier("minilm", 2, vocabulary=words.vocabulary, length=32, size=size, pad=words.special[0])
    folder = tmp_path / "all-MiniLM-L6-v2"
    made.net.base_model.save_pretrained(folder)
    words.save(folder / "tokenizer.json")
    monkeypatch.setattr(language, "find_checkpoint", lambda kind: str(folder) if kind == "minilm" else None)
    return folder


@pytest.mark.parametrize("scale", ["hours", "gpu"])
def test_minilm_reads_pairs_where_bert_is_not_here(pairs, encoder, scale):
    read, model = text_model(pairs, scale)
    assert (model.kind, model.full, model.pairs, model.length) == ("minilm", False, True, 24)
    assert read.data.vocabulary == pairs.data.vocabulary


def test_bert_reads_at_published_size_only(pairs, encoder, monkeypatch):
    monkeypatch.setattr(language, "find_checkpoint", lambda kind: str(encoder))
    kinds = {scale: text_model(pairs, scale)[1] for scale in ("hours", "gpu")}
    assert (kinds["hours"].kind, kinds["gpu"].kind, kinds["gpu"].full) == ("minilm", "bert", True)


def test_what_reads_a_group_is_told(pairs, encoder, monkeypatch):
    _, model = text_model(pairs, "gpu")
    assert reader(model, "hours") == "an encoder from all-MiniLM-L6-v2"
    assert reader(model, "gpu").startswith("an encoder from all-MiniLM-L6-v2; no bert-base-uncased with config.json")
    monkeypatch.setattr(clip, "find_checkpoint", lambda: "/data/clip-vit-base-patch32")
    small, full = Model("clip"), Model("clip", full=True)
    assert reader(full, "gpu") == "CLIP from clip-vit-base-patch32"
    assert reader(small, "cpu") == "a small CLIP, pretrained below"
    assert "no clip-vit-base-patch32 with" in reader(small, "paper")


def test_without_an_encoder_it_says_how_to_get_one(pairs, monkeypatch):
    monkeypatch.setattr(language, "find_checkpoint", lambda kind: None)
    with pytest.raises(DataError, match="all-MiniLM-L6-v2 is on this machine"):
        text_model(pairs, "hours")


def test_an_arm_of_numbers_is_trained_to_meet_them(pairs, encoder):
    read, model = text_model(pairs, "hours")
    training = Training(epochs=1, batch_size=8, optimizer="adamw", lr=1e-3)
    settings = Settings("pairs/minilm", read.settings, model, training, Dense(), "pearson", ("pooler.dense",))
    kept = {}
    own = {"settings": settings, "seed": 0, "ledger": Ledger(), "checkpoint": None, "dry_run": False}
    arm = SimpleNamespace(**own, record=lambda metrics, curves, marks: kept.update(metrics))
    experiment = Experiment({"pairs/minilm": read})
    experiment.train(arm)
    assert -1 <= kept["test_pearson"] <= 1 and kept["test_loss"] > 0 and "test_accuracy" not in kept
    task = experiment.task(settings, 0, Ledger())
    assert any(name.endswith("pooler.dense.weight") for name in task.names)
    assert task.model.separator == read.data.tokenizer.special[3]


@pytest.mark.parametrize(
    ("here", "pictures", "sets"),
    [(True, ["cifar10"], ("cifar10", "mnist")), (True, ["digits"], ("digits",)), (False, ["mine"], ("digits",))],
)
def test_digits_teach_where_nothing_else_can(monkeypatch, here, pictures, sets):
    found = ("cifar10", "mnist") if here else ("digits",)
    monkeypatch.setattr(groups.data, "resolve", lambda name, names: (found, None))
    assert taught(pictures) == sets


def test_the_published_clip_is_asked_for_at_published_size_only(monkeypatch):
    monkeypatch.setattr(clip, "find_checkpoint", lambda: "somewhere")
    assert [published_clip(scale) for scale in ("smoke", "cpu", "hours", "gpu", "paper")] == [False] * 3 + [True] * 2
    monkeypatch.setattr(clip, "find_checkpoint", lambda: None)
    assert not published_clip("gpu") and data.kind("stsb") == "text"
