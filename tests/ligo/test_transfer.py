"""Fine-tuning on other tasks: what is learned, what is left alone, and where it is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from effi.cost import Ledger, forward_flops, train_flops
from effi.data import TextDataset, load_corpus, load_text
from effi.data.opening import Opened
from effi.errors import ParameterError
from effi.ligo.building import build
from effi.ligo.experiment import Experiment, sources_of
from effi.ligo.recipes import Ligo, Scratch
from effi.ligo.settings import Settings, Source
from effi.ligo.transfer import Headed, Transfer
from effi.models.attention import plain_attention
from effi.records import Name, Run
from effi.training import Training
from tests.ligo.toy import PAIRS, TRAINING, images
from tests.training.conftest import one_thread as one_thread

LENGTH = 16
TUNED = Training(epochs=4, batch_size=8, optimizer="adamw", lr=1e-2, schedule="linear")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, and texts that one word tells apart: in classes, and by a number."""
    made = tmp_path_factory.mktemp("texts")
    words = ["sunny day", "rainy day", "a walk", "the road home"]
    (made / "corpus.txt").write_text("\n".join(f"{words[k % 4]} and {words[k * 3 % 4]}" for k in range(400)))
    rows = [(k % 2, f"{words[k // 2 % 4]} was {('poor', 'fine')[k % 2]}") for k in range(160)]
    (made / "classes.csv").write_text("label,text\n" + "".join(f"c{label},{text}\n" for label, text in rows))
    (made / "numbers.csv").write_text("score,text\n" + "".join(f"{label - 0.5},{text}\n" for label, text in rows))
    return made


@pytest.fixture(scope="module")
def corpus(folder: Path) -> TextDataset:
    return load_corpus(f"text:{folder / 'corpus.txt'}", length=LENGTH + 1, vocabulary=300)


def transfer(folder: Path, *names: str) -> Transfer:
    return Transfer({f"csv:{folder / name}.csv": {"length": LENGTH} for name in names}, TUNED)


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_one_word_is_learned_and_the_model_stays(kind: str, folder: Path, corpus: TextDataset) -> None:
    model, ledger = build(PAIRS[kind].small, corpus, 0), Ledger()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = transfer(folder, "classes", "numbers").points(model, corpus, 0, ledger)
    assert list(found) == [f"csv:{folder / name}.csv" for name in ("classes", "numbers")]
    assert all(value > 95 for value in found.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert ledger.total()["flops"] == ledger.total()["seconds"] == 0


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_padding_changes_nothing_and_the_right_token_is_read(kind: str, folder: Path, corpus: TextDataset) -> None:
    read = load_text(f"csv:{folder / 'classes.csv'}", length=LENGTH, tokenizer=corpus.tokenizer)
    model = Headed(build(PAIRS[kind].small, corpus, 0), 2, read.pad, seed=0).eval()
    texts = read.train.inputs[:6].long()
    ends = (texts != read.pad).sum(1)
    assert ends.max() < LENGTH
    for text, end, logits in zip(texts, ends, model(texts), strict=True):
        assert torch.allclose(model(text[None, :end])[0], logits, atol=1e-5)
        states = model.body.hidden(text[None, :end])[0]
        assert torch.allclose(model.score(states[-1 if kind == "gpt" else 0]), logits, atol=1e-5)


def test_flops_are_those_that_torch_counts(corpus: TextDataset) -> None:
    model = Headed(build(PAIRS["gpt"].small, corpus, 0), 3, 0, seed=0)
    ids = torch.ones(4, 10, dtype=torch.int64)
    with plain_attention(), FlopCounterMode(display=False) as counter:
        model(ids)
    assert sum(forward_flops(model, ids).values()) == counter.get_total_flops()
    assert train_flops(model, ids) == 3 * counter.get_total_flops()


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_only_the_head_of_tokens_is_not_paid(kind: str, corpus: TextDataset) -> None:
    body = build(PAIRS[kind].small, corpus, 0)
    whole, own = body.forward_flops(4, 10), Headed(body, 3, 0, seed=0).forward_flops(4, 10)
    left = sum(flops for name, flops in whole.items() if name not in own)
    decoder = 2 * 4 * 10 * corpus.vocabulary * 16
    assert left == decoder + (2 * 4 * 10 * 16 * 16 if kind == "bert" else 0)
    assert own["score"] == 2 * 4 * 3 * 16


def test_images_and_a_corpus_without_its_tokenizer_are_refused(folder: Path, corpus: TextDataset) -> None:
    model = build(PAIRS["gpt"].small, corpus, 0)
    for other in (images(), replace(corpus, tokenizer=None)):
        with pytest.raises(ParameterError, match="has no tokenizer, in whose ids other texts could be read"):
            transfer(folder, "classes").points(model, other, 0, Ledger())


def test_records_tell_points_of_source_growth_and_end_and_training_is_as_without(
    folder: Path, corpus: TextDataset, tmp_path: Path
) -> None:
    opened, pair, tried = Opened("toy", corpus, {"whole": 1}), PAIRS["gpt"], transfer(folder, "classes")
    found: dict[str, dict[str, float]] = {}
    for place, to in (("with", tried), ("without", None)):
        base = Settings(opened.settings, pair.large, TRAINING, Scratch(), Source(pair.small, TRAINING, transfer=to))
        names = {"scratch": Scratch(), "ligo": Ligo(3)}
        arms = {Name(corpus.name, "gpt", k): replace(base, recipe=v, transfer=to) for k, v in names.items()}
        made = Run("ligo", "smoke", results_dir=tmp_path / place, quiet=True, uses=["effi.ligo.experiment"])
        work = Experiment({corpus.name: opened})
        work.share(made)
        made.each(work.train_source, sources_of(arms), [0], jobs=1)
        made.each(work.train, arms, [0], jobs=1)
        assert made.failed() == []
        found |= {f"{record['variant']} {place}": record["metrics"] for record in made.records()}
    (task,) = tried.tasks
    told = {name: {key for key in metrics if task in key} for name, metrics in found.items()}
    assert told["scratch with"] == told["source with"] == {f"transfer/{task}"}
    assert told["ligo with"] == {f"{moment}/{task}" for moment in ("transfer", "grown_transfer", "source_transfer")}
    assert found["ligo with"][f"source_transfer/{task}"] == found["source with"][f"transfer/{task}"]
    for arm in ("scratch", "source", "ligo"):
        assert told[f"{arm} without"] == set()
        assert found[f"{arm} with"]["test_loss"] == found[f"{arm} without"]["test_loss"]
