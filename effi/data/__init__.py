"""Images and text by name, checked and split the same way for every paper, and the reader's own."""

from effi.data.catalogue import Listing, available, fetch, holds, kind, listed, load, resolve
from effi.data.examples import IGNORED, Dataset, Examples, TextDataset
from effi.data.opening import Opened, open_parts
from effi.data.pairs import PairDataset, paired
from effi.data.text import causal, corpus_dataset, load_corpus, load_text, masked
from effi.data.transforms import augment, normalise

__all__ = [
    "IGNORED",
    "Dataset",
    "Examples",
    "Listing",
    "Opened",
    "PairDataset",
    "TextDataset",
    "augment",
    "available",
    "causal",
    "corpus_dataset",
    "fetch",
    "holds",
    "kind",
    "listed",
    "load",
    "load_corpus",
    "load_text",
    "masked",
    "normalise",
    "open_parts",
    "paired",
    "resolve",
]
