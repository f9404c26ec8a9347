"""What a reader hands on: images, labelled texts or a corpus, before any subset and any token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from effi.data.examples import Examples

# One sentence, or two that belong together.
Text = str | tuple[str, str]


@dataclass(frozen=True)
class Source:
    """A whole data set as its reader found it, before any subset."""

    train: Examples
    test: Examples
    classes: tuple[str, ...]
    variant: str
    checksum: str
    notice: str | None = None


@dataclass(frozen=True)
class Texts:
    """Texts, all of one sentence or all of two, with labels (n,): classes int64 or numbers float32."""

    texts: Sequence[Text]
    labels: Tensor

    @property
    def sentences(self) -> list[str]:
        """Every sentence by itself, in order."""
        return [each for text in self.texts for each in ((text,) if isinstance(text, str) else text)]

    def indexed(self) -> Examples:
        """The positions of the texts, int64 (n,), as inputs: what `splits` can choose from."""
        return Examples(torch.arange(len(self.labels)), self.labels)

    def at(self, chosen: Examples) -> Texts:
        """The texts at the positions that were chosen."""
        return Texts([self.texts[index] for index in chosen.inputs.tolist()], chosen.labels)


@dataclass(frozen=True)
class Corpus:
    """Unlabelled text in three parts; `running` if its pieces are one text, whose line ends they keep."""

    train: Sequence[str]
    validation: Sequence[str]
    test: Sequence[str]
    variant: str
    checksum: str
    running: bool = True
    notice: str | None = None


@dataclass(frozen=True)
class TextSource:
    """A whole labelled data set as its reader found it; labels that are numbers have no classes.

    `validation` is there only where the set has an official one; `unlabelled` gives more text of the same kind.
    """

    train: Texts
    test: Texts
    classes: tuple[str, ...]
    variant: str
    checksum: str
    validation: Texts | None = None
    unlabelled: Callable[[], Iterable[str]] | None = None
    notice: str | None = None


def checksum(*parts: Texts) -> str:
    """`sha256:...` over every sentence and label of the parts, in order."""
    content = hashlib.sha256()
    for part in parts:
        for text in part.sentences:
            content.update(text.encode("utf-8", "surrogatepass") + b"\0")
        content.update(part.labels.contiguous().numpy().data)
    return f"sha256:{content.hexdigest()}"


def corpus_checksum(*parts: Sequence[str]) -> str:
    """`sha256:...` over every piece of the parts, in order."""
    return checksum(*(Texts(part, torch.empty(0, dtype=torch.int64)) for part in parts))


def cut(pieces: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """(train, validation, test) of a text without official parts: the last two twentieths are held out."""
    ends = [sum(map(len, pieces)) * share // 20 for share in (18, 19)]
    bounds, seen = [0, 0], 0
    for position, piece in enumerate(pieces, 1):
        seen += len(piece)
        bounds = [position if seen <= end else bound for bound, end in zip(bounds, ends, strict=True)]
    return pieces[: bounds[0]], pieces[bounds[0] : bounds[1]], pieces[bounds[1] :]
