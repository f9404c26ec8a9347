"""A folder that transformers saved grows into one that it loads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
)
from typer.main import get_command
from typer.testing import CliRunner

from effi.cli import app
from effi.errors import DataError, ParameterError
from effi.ligo import GrowthOperator
from effi.own_loop.growing import WAYS, Lesson, grow

TEXT = "\n".join(f"the cat {i % 7} sat on mat {i % 5} and the dog {i % 3} ran" for i in range(600))
GPT = {"n_embd": 24, "n_layer": 4, "n_head": 3}
BERT = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 48}


def gpt(**more: Any) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**{"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24, **more}))


def bert(**more: Any) -> BertForMaskedLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForMaskedLM(BertConfig(**sizes, max_position_embeddings=24, **more))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gpt(vocab_size=50).save_pretrained(tmp_path / "gpt")
    bert(vocab_size=50).save_pretrained(tmp_path / "bert")
    (tmp_path / "gpt.json").write_text(json.dumps(GPT))
    (tmp_path / "bert.json").write_text(json.dumps(BERT))
    return tmp_path


def begins_with(large: torch.nn.Module, small: torch.nn.Module) -> bool:
    """Whether the first rows and columns of all that both have are the small model's."""
    theirs = large.state_dict()
    return all(
        theirs[name][tuple(map(slice, value.shape))].equal(value)
        for name, value in small.state_dict().items()
        if "c_attn" not in name
    )


def test_direct_copy_keeps_the_first_rows_columns_and_layers(folder: Path) -> None:
    told = grow(folder / "gpt", folder / "gpt.json", folder / "out", by="copy")
    large, small = AutoModelForCausalLM.from_pretrained(folder / "out"), gpt(vocab_size=50)
    assert (large.config.n_embd, large.config.n_layer, large.config.n_head) == (24, 4, 3)
    assert (
        type(large) is GPT2LMHeadModel
        and begins_with(large, small)
        and not begins_with(large, gpt(vocab_size=50, n_embd=8))
    )
    assert told.large == sum(p.numel() for p in large.parameters()) > told.small
    grow(folder / "bert", folder / "bert.json", folder / "bert-out", by="copy")
    masked = AutoModelForMaskedLM.from_pretrained(folder / "bert-out")
    assert type(masked) is BertForMaskedLM and begins_with(masked, bert(vocab_size=50))


LIKE_BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
DISTILLED = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
WORDS = {"vocab_size": 50, "max_position_embeddings": 24}
PIXELS = {"image_size": 8, "patch_size": 4, "num_labels": 3}


@pytest.mark.parametrize("by", ["copy", "ligo-0"])
@pytest.mark.parametrize(
    ("kind", "name", "small", "large", "more"),
    [
        ("Roberta", "RobertaForMaskedLM", LIKE_BERT, BERT, WORDS),
        ("DistilBert", "DistilBertForMaskedLM", DISTILLED, dict(zip(DISTILLED, (24, 4, 3, 48), strict=True)), WORDS),
        ("ViT", "ViTForImageClassification", LIKE_BERT, BERT, PIXELS),
    ],
    ids=["RoBERTa", "DistilBERT", "ViT"],
)
def test_other_architectures_grow(
    kind: str,
    name: str,
    small: dict[str, int],
    large: dict[str, int],
    more: dict[str, int],
    by: str,
    tmp_path: Path,
) -> None:
    config, made = getattr(transformers, f"{kind}Config"), getattr(transformers, name)
    first = made(config(**small, **more))
    first.save_pretrained(tmp_path / "small")
    (tmp_path / "large.json").write_text(json.dumps(large))
    grow(tmp_path / "small", tmp_path / "large.json", tmp_path / "out", by=by)
    found = made.from_pretrained(tmp_path / "out")
    assert all(getattr(found.config, size) == value for size, value in large.items())
    # A map [I; C] keeps old units where they are, and so does a copy.
    tables = [next(p for n, p in net.named_parameters() if "position_embeddings" in n) for net in (first, found)]
    assert tables[1][..., :16].equal(tables[0])


def test_the_same_seed_gives_the_same_weights_and_a_whole_configuration_the_same_model(folder: Path) -> None:
    gpt(vocab_size=50, **GPT).save_pretrained(folder / "whole")
    for name, place, seed in (("a", "gpt.json", 1), ("b", "whole", 1), ("c", "gpt.json", 2)):
        grow(folder / "gpt", folder / place, folder / name, seed=seed)
    a, b, c = (AutoModelForCausalLM.from_pretrained(folder / name).state_dict() for name in "abc")
    assert all(a[name].equal(b[name]) for name in a) and not all(a[name].equal(c[name]) for name in a)


def test_a_lossless_way_keeps_the_function(folder: Path) -> None:
    ids = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(0))
    grow(folder / "gpt", folder / "gpt.json", folder / "out", by="lemon")
    small, large = (AutoModelForCausalLM.from_pretrained(folder / name).eval() for name in ("gpt", "out"))
    assert torch.allclose(small(ids).logits, large(ids).logits, atol=1e-5)


def test_the_operator_as_it_begins_is_exported(folder: Path) -> None:
    grow(folder / "bert", folder / "bert.json", folder / "out", by="ligo-0", seed=4)
    wanted = GrowthOperator(bert(vocab_size=50), _large(), seed=4)()
    found = dict(AutoModelForMaskedLM.from_pretrained(folder / "out").named_parameters())
    assert all(found[name].equal(value) for name, value in wanted.items())


def _large() -> BertForMaskedLM:
    return BertForMaskedLM(BertConfig(**BERT, max_position_embeddings=24, vocab_size=50))


def tokenizer(folder: Path) -> int:
    """A tokenizer.json of the text; how many words it has."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": special, "initial_alphabet": alphabet, "show_progress": False}
    made.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=290, **options))
    made.save(str(folder / "tokenizer.json"))
    return made.get_vocab_size()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_the_operator_learns_on_a_text(kind: str, tmp_path: Path) -> None:
    words = tokenizer(tmp_path)
    (gpt if kind == "gpt" else bert)(vocab_size=words).save_pretrained(tmp_path / "small")
    (tmp_path / "tokenizer.json").rename(tmp_path / "small" / "tokenizer.json")
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "large.json").write_text(json.dumps(GPT if kind == "gpt" else BERT))
    lesson = Lesson(f"text:{tmp_path / 'text.txt'}", steps=30, batch=8, length=16)
    told = grow(tmp_path / "small", tmp_path / "large.json", tmp_path / "out", by="ligo", lesson=lesson)
    assert told.losses["learned"] < told.losses["begun"]
    assert "validation losses" in told.sentence("out", "ligo")
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "small" / "tokenizer.json").read_bytes()
    assert AutoModel.from_pretrained(tmp_path / "out").config.vocab_size == words


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"n_embd": 8, "n_head": 1}, "the large model is narrower"),
        ({"n_layer": 1}, "the large model is shallower"),
        ({"n_embd": 24, "n_head": 2}, "a head is 8 wide in the small model and 12 in the large one"),
        ({"vocab_size": 60}, "50 vocabulary in the small model and 60 in the large one"),
        ({"n_embed": 24}, "a gpt2 has no 'n_embed'; did you mean 'n_embd'"),
        ({"n_embd": 25}, "describes no model"),
        ({"model_type": "bert"}, "a gpt2 does not grow into a bert"),
    ],
)
def test_models_that_are_no_pair_are_named(sizes: dict[str, Any], said: str, folder: Path) -> None:
    (folder / "wrong.json").write_text(json.dumps(sizes))
    with pytest.raises(ParameterError, match=said):
        grow(folder / "gpt", folder / "wrong.json", folder / "out")
    assert not (folder / "out").exists() and not (folder / "out.part").exists()


def test_a_pickle_is_never_opened(folder: Path) -> None:
    (folder / "gpt" / "model.safetensors").unlink()
    (folder / "gpt" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(DataError, match=r"pytorch_model.bin is a pickle, which is never opened"):
        grow(folder / "gpt", folder / "gpt.json", folder / "out")


def test_other_mistakes_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no checkpoint with config.json and safetensors"):
        grow(folder / "nothing", folder / "gpt.json", folder / "out")
    with pytest.raises(DataError, match="is no configuration"):
        grow(folder / "gpt", folder / "nothing.json", folder / "out")
    with pytest.raises(ParameterError, match="unknown way to grow 'stak'; did you mean 'stack'"):
        grow(folder / "gpt", folder / "gpt.json", folder / "out", by="stak")
    with pytest.raises(ParameterError, match="is there already"):
        grow(folder / "gpt", folder / "gpt.json", folder / "bert")
    with pytest.raises(ParameterError, match="wants a text to learn on: give --data text:PATH, or take --by ligo-0"):
        grow(folder / "gpt", folder / "gpt.json", folder / "out", by="ligo")
    with pytest.raises(ParameterError, match="learns nothing: leave --data out, or take --by ligo"):
        grow(folder / "gpt", folder / "gpt.json", folder / "out", lesson=Lesson("text:a"))
    with pytest.raises(DataError, match=r"has no tokenizer.json"):
        grow(folder / "gpt", folder / "gpt.json", folder / "out", by="ligo", lesson=Lesson("text:a"))


def test_the_command_says_what_it_wrote(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["grow", "gpt", "gpt.json", "--out", "out", "--by", "hyperclone"])
    assert done.exit_code == 0 and "out holds a GPT2LMHeadModel of" in done.output
    assert AutoModelForCausalLM.from_pretrained(folder / "out").config.n_layer == 4


def test_help_names_every_way_to_grow() -> None:
    (by,) = (each for each in get_command(app).commands["grow"].params if each.name == "by")  # type: ignore[attr-defined]
    assert set(WAYS) <= set(re.findall(r"[\w-]+", by.help))
