"""A tiny GPT-2 on a text of its own, trained by the workbook's loop and by transformers' Trainer on equal batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainingArguments

from effi.cost import Ledger
from effi.data import TextDataset
from effi.models.language import LanguageModel, TextSize, language_model
from effi.seeds import generator
from effi.training import LanguageModelling, Single, Training, fit, optimizers
from tests.ligo import toy

STEPS, SEED = 60, 3
OBJECTIVE = LanguageModelling()
TRAINING = replace(toy.TRAINING, steps=STEPS, eval_every="20 steps")
BATCH, text = toy.BATCH, toy.text


def model() -> LanguageModel:
    size = TextSize(16, 2, 2, 32)
    return language_model("gpt2", size=size, vocabulary=toy.VOCABULARY, length=20, dropout=0.0, pad=-1, seed=SEED)


def ordered(data: TextDataset, training: Training = TRAINING) -> list[dict[str, Tensor]]:
    """Examples in the order in which the workbook's loop reads them."""
    stream, rows = generator(SEED, "order"), list[int]()
    while len(rows) < training.batch_size * training.all_steps(len(data.train)):
        rows += torch.randperm(len(data.train), generator=stream).tolist()
    inputs, labels = data.train.inputs.long(), data.train.labels
    return [{"input_ids": inputs[row], "labels": labels[row]} for row in rows]


def loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """The workbook's loss of a batch, added up in its order."""
    losses = OBJECTIVE.losses(outputs.logits.float()[None], labels[None])
    return (losses.flatten(1).sum(1) / OBJECTIVE.counted(labels[None]).flatten(1).sum(1)).sum()


def by_workbook(own: LanguageModel, data: TextDataset, training: Training = TRAINING, **listeners: Any) -> None:
    fit(own, data, training, objective=OBJECTIVE, seeds=[SEED], ledger=Ledger(), **listeners)


def trainer(
    own: LanguageModel,
    data: TextDataset,
    folder: Path,
    callback: TrainerCallback,
    training: Training = TRAINING,
    **more: Any,
) -> Trainer:
    """A Trainer of the network inside, with the workbook's optimiser, rates, batches and loss."""
    optimizer = optimizers.make(Single(own), own, training)
    for group in optimizer.param_groups:
        group["lr"] = 1.0  # so that a factor is the rate itself, to the last bit
    steps = training.all_steps(len(data.train))
    rates = LambdaLR(optimizer, lambda step: training.rate(step, steps) if step < steps else 0.0)
    options: dict[str, Any] = {"save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True}
    options |= {"train_sampling_strategy": "sequential", "logging_strategy": "no", "seed": SEED}
    options |= {"per_device_train_batch_size": training.batch_size, "max_grad_norm": training.clip or 0.0}
    args = TrainingArguments(output_dir=str(folder), **{**options, "max_steps": steps, **more})
    rows = ordered(data, training)
    own.net.train()
    return Trainer(
        own.net, args, train_dataset=rows, callbacks=[callback], optimizers=(optimizer, rates), compute_loss_func=loss
    )
