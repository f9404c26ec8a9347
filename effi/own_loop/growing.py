"""A checkpoint that transformers saved, grown into a larger one that transformers loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from effi.cost import Ledger
from effi.data import TextDataset, load_corpus
from effi.data.windows import spaced
from effi.errors import DataError, ParameterError, did_you_mean
from effi.ligo import RIVALS, Grown, GrowthOperator, Ligo
from effi.ligo.checkpoint import tokenizer_of
from effi.ligo.pieces import check_pair, place
from effi.models.language import LanguageModel
from effi.models.library import check_texts, silent, stored_config, stored_net
from effi.seeds import seeded
from effi.spec import choose
from effi.training import LanguageModelling, Training, evaluate, fit

BEGUN, LEARNED = "ligo-0", "ligo"
WAYS = (*RIVALS, BEGUN, LEARNED)
# Classes whose text the operator can learn on, with what they are trained for.
TEXTS = {"GPT2LMHeadModel": "causal", "BertForMaskedLM": "masked", "RobertaForMaskedLM": "masked"}
# What belongs to the words and not to the weights.
WORDS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "generation_config.json",
)
JUDGED = 64  # rows of text that tell losses


@dataclass(frozen=True)
class Lesson:
    """What the growth operator learns on: a text (`text:PATH`), in steps of `batch` rows of `length` tokens."""

    data: str
    steps: int = 100
    batch: int = 8
    length: int = 128


@dataclass(frozen=True)
class Growth:
    """What was grown: the class, parameters before and after, and validation losses where there is a text."""

    architecture: str
    small: int
    large: int
    losses: Mapping[str, float]

    def sentence(self, out: str | Path, by: str) -> str:
        """What is to be told."""
        told = f"{out} holds a {self.architecture} of {self.large:,} parameters, grown from {self.small:,} by {by}"
        losses = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        return f"{told}; validation losses: {losses}" if losses else told


def grow(
    small: str | Path,
    large: str | Path,
    out: str | Path,
    *,
    by: str = "copy",
    seed: int = 0,
    lesson: Lesson | None = None,
) -> Growth:
    """Write to the folder `out` a model of `large`'s size that begins with the weights of the one in `small`.

    `small` is a folder of save_pretrained with config.json and safetensors, `large` such a folder, of which only the
    configuration is read, or a file: a whole configuration (with model_type), or the sizes alone that differ from
    `small`. `by` is one of WAYS: a rule of `effi.ligo.RIVALS`, LiGO's operator as it begins ("ligo-0"), or learned on a
    lesson ("ligo"). What is new is drawn by the `seed`. Weights are fp32; files of the tokenizer are copied.
    DataError for folders that cannot be read, pickles among them; ParameterError for models that are no pair, an `out`
    that is there, and a lesson that is missing, or that nobody asked for.
    """
    choose("way to grow", by, dict.fromkeys(WAYS))
    _check(Path(out), by, lesson)
    with silent() as library:
        source = _source(library, Path(small))
        config = _config(Path(large), source.config)
        with seeded(seed):
            target = _built(type(source), config, large)
        check_pair(source, target)
        losses = _give(source, target, Path(small), by, seed, lesson)
        _save(target.eval(), Path(small), Path(out))
    before, after = (sum(each.numel() for each in net.parameters()) for net in (source, target))
    return Growth(type(source).__name__, before, after, losses)


def _check(out: Path, by: str, lesson: Lesson | None) -> None:
    if out.exists():
        raise ParameterError(f"{out} is there already and is not written over: give a folder that is new")
    if (by == LEARNED) != (lesson is not None):
        wanted = (
            "wants a text to learn on: give --data text:PATH" if by == LEARNED else "learns nothing: leave --data out"
        )
        raise ParameterError(f"--by {by} {wanted}, or take --by {BEGUN if by == LEARNED else LEARNED}")


# --- the two models ----------------------------------------------------------------------------------------------


def _source(library: Any, folder: Path) -> Any:
    """The small model, of the class that its configuration names."""
    kind = _json(folder / "config.json").get("model_type", "") if (folder / "config.json").is_file() else ""
    config = stored_config(library, folder, kind, "growing", hub=False)
    (name, *_) = config.architectures or [""]
    made = getattr(library, name, None)
    if not hasattr(made, "from_pretrained"):
        raise DataError(
            f"{folder}/config.json names no class of transformers ({name or 'no architectures'}): save the model "
            "with save_pretrained"
        )
    return stored_net(made, config, folder, hub=False, whole=True).eval()


def _config(place: Path, small: Any) -> Any:
    """The large model's configuration: a whole one, or the small one's with other sizes."""
    file = place / "config.json" if place.is_dir() else place
    given = _json(file)
    if "model_type" not in given:
        known = small.to_dict()
        for name in given:
            if name not in known:
                raise ParameterError(f"{file}: a {small.model_type} has no {name!r}{did_you_mean(name, known)}")
        given = {**known, **given}
    if given["model_type"] != small.model_type:
        raise ParameterError(
            f"a {small.model_type} does not grow into a {given['model_type']} ({file}): give a configuration of one "
            "architecture"
        )
    return _fitting(lambda: type(small).from_dict(given), file)


def _built(made: Any, config: Any, place: str | Path) -> Any:
    return _fitting(lambda: made(config), place)


def _fitting(make: Callable[[], Any], place: str | Path) -> Any:
    """What a configuration makes; ParameterError where its sizes do not fit each other."""
    try:
        return make()
    # The library checks sizes at several places and by several errors, those of huggingface_hub's dataclasses too.
    except Exception as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ParameterError(f"{place} describes no model ({reason}): give sizes that fit each other") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} is no configuration ({error}): give a folder with config.json, or a JSON file of sizes"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f'{file} holds no names with values: give a JSON object such as {{"n_layer": 24}}')
    return found


# --- the weights -------------------------------------------------------------------------------------------------


def _give(source: Any, target: Any, folder: Path, by: str, seed: int, lesson: Lesson | None) -> dict[str, float]:
    """Place the grown weights; losses of a learned operator."""
    if lesson is not None:
        return _learned(source, target, folder, seed, lesson)
    weights: Mapping[str, Tensor]
    weights = GrowthOperator(source, target, seed=seed)() if by == BEGUN else RIVALS[by](source, target, seed)
    place(target, weights)
    return {}


def _learned(source: Any, target: Any, folder: Path, seed: int, lesson: Lesson) -> dict[str, float]:
    """Learn the operator on the text, and place what it grows."""
    data = _text(source, folder, seed, lesson)
    small, large = (LanguageModel(net, data.pad) for net in (source, target))
    operator, objective = GrowthOperator(small, large, seed=seed), LanguageModelling()

    def loss(model: nn.Module) -> float:
        return evaluate(model.eval(), data.validation, data, objective)["loss"]

    grown = Grown(operator, large)
    losses = {"small": loss(small), "begun": loss(grown)}
    main = Training(steps=lesson.steps, batch_size=lesson.batch, optimizer="adamw", weight_decay=0.1, clip=1.0)
    fit(grown, data, Ligo(steps=lesson.steps).training(main), objective=objective, seeds=[seed], ledger=Ledger())
    place(large, operator())
    return losses | {"learned": loss(large)}


def _text(source: Any, folder: Path, seed: int, lesson: Lesson) -> TextDataset:
    name, config = type(source).__name__, source.config
    if name not in TEXTS:
        raise ParameterError(
            f"the operator of a {name} cannot learn on text, only {' or '.join(TEXTS)}: take --by {BEGUN}"
        )
    options: dict[str, Any] = {"objective": TEXTS[name], "length": lesson.length + 1, "seed": seed}
    data = load_corpus(lesson.data, tokenizer=tokenizer_of(folder.absolute()), **options)
    check_texts(config.vocab_size, config.max_position_embeddings, data.vocabulary, data.train.inputs.shape[1])
    return spaced(data, {"validation": JUDGED})


def _save(model: Any, small: Path, out: Path) -> None:
    """Write all or nothing."""
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        model.save_pretrained(part)
        for name in WORDS:
            if (small / name).is_file():
                shutil.copyfile(small / name, part / name)
        part.rename(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}): free space or give another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
