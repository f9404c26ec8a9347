"""Which published encoder reads a text here: BERT-base where it is found, else MiniLM in its place."""

from __future__ import annotations

from effi.data import TextDataset
from effi.instant_soup.settings import Model
from effi.models import language


def text_kind(published: bool) -> language.Kind:
    """BERT-base where models of published size are wanted and it is here, else MiniLM; DataError where both lack."""
    if published and language.find_checkpoint("bert"):
        return "bert"
    language.need_checkpoint("minilm")
    return "minilm"


def text_model(kind: language.Kind, data: TextDataset, length: int) -> Model:
    """The encoder as these texts ask for it; two sentences in one are told apart."""
    assert kind in ("bert", "minilm")
    return Model(kind, full=kind == "bert", length=length, pairs=_pairs(data))


def _pairs(data: TextDataset) -> bool:
    """Whether a text ends twice: once for each of its sentences."""
    assert data.tokenizer is not None
    return bool(((data.train.inputs == data.tokenizer.special[3]).sum(1) > 1).any())
