"""Corpora that models are to predict unseen, and the sizes of models that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from effi.data import Examples, Opened, catalogue, causal, files
from effi.data.examples import checksum
from effi.data.sources import Corpus
from effi.data.windows import places
from effi.errors import DataError
from effi.mixed_sparsity.flops import Accounting, GPTSize
from effi.models.language import TextSize

# What GPT-2 was measured on (Radford et al. 2019, Table 3); not all of it can be read here.
ZERO_SHOT = ("lambada", "ptb", "wikitext-2", "wikitext-103", "lm1b")


def at_hand(names: Iterable[str]) -> tuple[tuple[str, ...], str | None]:
    """The corpora that are on this machine, and a sentence on those that are not; nothing is downloaded.

    DataError for a name that neither this workbook nor the paper knows.
    """
    here = {name: _is_here(name) for name in names}
    missing = ", ".join(name for name, found in here.items() if not found)
    notice = f"Not on this machine, so not predicted: {missing}. Another text can be given as text:PATH."
    return tuple(name for name, found in here.items() if found), notice if missing else None


def _is_here(name: str) -> bool:
    if name in ZERO_SHOT and name not in catalogue.CORPORA:
        return False
    catalogue.holds(name)
    return ":" in name or files.find(files.manifest()[name]) is not None


@dataclass(frozen=True)
class Unseen(Examples):
    """Windows of a corpus that models of another one are to predict; `checksum` is that of their ids."""

    checksum: str


def zero_shot(
    opened: Mapping[str, Opened], names: Iterable[str], *, most: int | None = None
) -> dict[str, dict[str, Unseen]]:
    """For each corpus the others by name, as windows that its models can read and were not trained on.

    They are the other's test text in the tokens and windows of the corpus, on its device; with `most` so many tokens,
    evenly spaced over the text. Errors of `load_corpus`, and DataError for less than a window.
    """
    texts = {catalogue.label(name): catalogue.read_corpus(name, 0) for name in names}
    return {
        own: {name: _windows(name, text, one.data, most) for name, text in texts.items() if name != own}
        for own, one in opened.items()
    }


def _windows(name: str, text: Corpus, of: Any, most: int | None) -> Unseen:
    length = of.train.inputs.shape[1] + 1
    rows = of.tokenizer.pack(text.test, length, None, running=text.running)
    if most is not None and most < rows.numel():
        rows = rows[places(len(rows), most // length)]
    if not len(rows):
        raise DataError(f"the test text of {name} fills no window of {length} tokens: leave it out, or ask for more")
    windows, none = causal(rows), causal(rows[:0])
    held = windows.to(of.train.inputs.device)
    return Unseen(held.inputs, held.labels, checksum(windows, none))


def gpt_size(size: TextSize, tokens: int, vocabulary: int) -> GPTSize:
    """A size as the FLOP ledger takes it."""
    return GPTSize(size.depth, size.width, size.hidden, tokens, vocabulary)


def smaller(size: TextSize, share: float, tokens: int, vocabulary: int) -> TextSize:
    """The size with as many layers and heads, but narrower, whose FLOPs per token are nearest to a share of its own."""
    widths = range(size.heads, size.width + 1, size.heads)
    sizes = [replace(size, width=width, hidden=max(1, round(size.hidden * width / size.width))) for width in widths]
    flops = [sum(Accounting(gpt_size(each, tokens, vocabulary)).flops().values()) for each in sizes]
    return min(zip(sizes, flops, strict=True), key=lambda pair: abs(pair[1] - share * flops[-1]))[0]
