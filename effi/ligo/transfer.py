"""What a language model is worth on other tasks: a copy of it with a new head, fine-tuned on labelled texts.

Shapes: B batch, T tokens, N width, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from torch import Tensor, nn

from effi.cost import Ledger
from effi.data import TextDataset, load_text
from effi.data.tokens import Tokenizer
from effi.errors import ParameterError
from effi.ligo.flops import sizes
from effi.ligo.task import Data
from effi.models.language import TextModel, at_last
from effi.seeds import seeded
from effi.training import Classification, Regression, Training, evaluate, fit

MATTHEWS = ("cola",)  # tasks whose classes GLUE measures by Matthews correlation
HEADS = ("embedding", "lm_head", "net.cls", "net.lm_head")  # parts that make logits of tokens


@dataclass(frozen=True)
class Transfer:
    """Labelled texts by name, each with options of `load_text`, and how a model is fine-tuned on them."""

    tasks: Mapping[str, Mapping[str, Any]]
    training: Training

    def points(self, model: nn.Module, data: Data, seed: int, ledger: Ledger) -> dict[str, float]:
        """A task's own test metric in points of a hundred, by task, after fine-tuning on it; the model stays as it is.

        Pearson correlation of numbers, Matthews correlation for CoLA, elsewhere accuracy (Wang et al. 2019, Table 1).
        Texts come in the ids of the model's corpus; what this takes is set aside in the ledger. ParameterError for
        images, and for a corpus that does not tell its tokenizer.
        """
        if not isinstance(data, TextDataset) or data.tokenizer is None:
            raise ParameterError(f"{data.name} has no tokenizer, in whose ids other texts could be read: transfer=None")
        with ledger.phase("transfer", aside=True):
            return {name: self._points(model, name, data.tokenizer, seed) for name in self.tasks}

    def _points(self, model: nn.Module, name: str, tokenizer: Tokenizer, seed: int) -> float:
        device = str(next(model.parameters()).device)
        read = _read(name, tokenizer, tuple(self.tasks[name].items())).to(device)
        tuned = Headed(copy.deepcopy(model), len(read.classes) or 1, read.pad, seed).to(device)
        objective = Classification() if read.classes else Regression()
        fit(tuned, read, self.training, objective=objective, seeds=[seed], ledger=Ledger(device))
        metric = "pearson" if not read.classes else "mcc" if name in MATTHEWS else "accuracy"
        more = () if metric == "accuracy" else (metric,)
        return 100 * evaluate(tuned, read.test, read, objective, more)[metric]


class Headed(nn.Module):
    """A language model's body with a new head: ids int64 (B, T) -> (B, C), of the last token of a GPT, BERT's first."""

    per_token = False

    def __init__(self, body: nn.Module, classes: int, pad: int, seed: int) -> None:
        super().__init__()
        self.body, self.pad = cast(Any, body), pad
        self.last = not isinstance(body, TextModel) or body.causal
        with seeded(seed):
            self.score = nn.Linear(sizes(body, 1).width, classes)
            nn.init.normal_(self.score.weight, std=0.02)
        nn.init.zeros_(self.score.bias)

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTN = self.body.hidden(ids_BT)
        logits: Tensor = self.score(at_last(x_BTN, ids_BT, self.pad) if self.last else x_BTN[:, 0])
        return logits

    def forward_flops(self, batch: int, tokens: int) -> dict[str, int]:
        """FLOPs of one forward by part: the body's but for its head's, and the new head's."""
        parts = self.body.forward_flops(batch, tokens).items()
        body = {name: flops for name, flops in parts if not name.startswith(HEADS)}
        return body | {"score": 2 * batch * self.score.weight.numel()}

    def train_flops(self, batch: int, tokens: int) -> int:
        """FLOPs of forward and backward, three times the forward."""
        return 3 * sum(self.forward_flops(batch, tokens).values())


@lru_cache(8)
def _read(name: str, tokenizer: Tokenizer, options: tuple[tuple[str, Any], ...]) -> TextDataset:
    """A task in the ids of a tokenizer; an arm that is tried at two moments reads it once."""
    return load_text(name, tokenizer=tokenizer, **dict(options))
