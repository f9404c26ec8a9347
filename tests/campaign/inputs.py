"""Forty inputs that no run can use: what a reader mistypes, and files that are damaged, huge, hostile or elsewhere."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from effi.records import store
from tests.campaign.bed import CLAIMS, Bed
from tests.campaign.rows import Fault, expect
from tests.campaign.watched import Ended
from tests.report.synthetic import trained

NOTE = (
    "Each must end with a clear sentence of its own and exit status 1 or 2, in under 20 s (more where others share "
    "the cores, in proportion to its load), in less than 2 GiB for all its processes, without a traceback, and with "
    "nothing executed that came from outside."
)
MOST_S, MOST_BYTES, WAIT_S = 20.0, 2 * 2**30, 300.0
Make = Callable[[Path], object]
MINIMAL = ("run", "minimal", "--scale", "smoke")
LIGO = ("run", "ligo", "--scale", "smoke")
BIRD = ("run", "early_bird", "--scale", "smoke")
MIXED = ("run", "mixed_sparsity", "--scale", "smoke")


@dataclass(frozen=True)
class Bad:
    """An input: `make` lays it out in a folder, `words` name it as {here}, and the sentence must match `says`.

    `claims` are put in the place of the small paper's file for the while; None takes that away.
    """

    done: str
    words: tuple[str, ...]
    says: str
    make: Make = lambda _: None
    status: int = 2
    claims: str | None = ""
    more: dict[str, str] = field(default_factory=dict)


class Trap:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.trace}'",)


def faults(bed: Bed) -> Iterator[Fault]:
    """One row each."""
    for number, bad in enumerate(BAD):
        yield Fault(bad.done, lambda bad=bad, number=number: _seen(bed, bad, bed.root / f"bad-{number}"))


def _seen(bed: Bed, bad: Bad, here: Path) -> str:
    here.mkdir()
    bad.make(here)
    words = [word.replace("{here}", str(here)).replace("{root}", str(bed.root)) for word in bad.words]
    if "run" in words and "--results-dir" not in words:
        words += ["--results-dir", str(here / "results"), "--quiet"]
    more = {name: value.replace("{here}", str(here)) for name, value in bad.more.items()}
    with _claims(bed, bad.claims):
        ended = bed.effi(*words, seconds=WAIT_S, more=more)
    return _judged(ended, bad, here)


@contextmanager
def _claims(bed: Bed, content: str | None) -> Iterator[None]:
    file = bed.root / "data" / "papers" / "campaign.toml"
    held = file.read_text()
    if content is None:
        file.unlink()
    elif content:
        file.write_text(content)
    yield
    file.write_text(held)


def _judged(ended: Ended, bad: Bad, here: Path) -> str:
    said = ended.sentences
    told = f"status {ended.status}, {ended.seconds:.0f} s, {ended.peak / 2**20:.0f} MiB: {' / '.join(said)}"
    told = told.replace(f"{here}/", "").replace(f"{here.parent}/", "")
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    expect("Traceback" not in ended.err + ended.out, f"a traceback; {told}")
    expect(ended.status == bad.status, f"not status {bad.status}; {told}")
    expect(len(said) == 1, f"{len(said)} sentences; {told}")
    expect(re.search(bad.says, said[0]), f"it does not say {bad.says!r}; {told}")
    expect(ended.seconds < MOST_S * crowd, f"it took too long, even for {crowd:.1f} times the work; {told}")
    expect(ended.peak < MOST_BYTES, f"it took too much memory; {told}")
    expect(not list(here.rglob("executed")), f"it executed what came from outside; {told}")
    return told


def parameter(text: str, words: tuple[str, ...] = MINIMAL) -> tuple[str, ...]:
    """Words with a parameter."""
    return (*words, "-p", text)


def _write(name: str, content: str | bytes) -> Make:
    def make(here: Path) -> None:
        (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def picture(file: Path, width: int = 8, height: int = 8, shade: int = 0) -> None:
    """A grey PNG of one shade, of any size, in a few bytes a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = zlib.compressobj(1)
    line = b"\0" + bytes([shade]) * width
    data = b"".join([*(rows.compress(line) for _ in range(height)), rows.flush()])

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def _pictures(here: Path, *classes: str, each: int = 4) -> None:
    for place, name in enumerate(classes):
        for number in range(each):
            picture(here / "images" / name / f"{number}.png", shade=40 * place + number)


def _one_picture(here: Path) -> None:
    _pictures(here, "cats", "dogs")
    picture(here / "images" / "birds" / "0.png")


def _broken_picture(here: Path) -> None:
    _pictures(here, "cats", "dogs")
    file = here / "images" / "dogs" / "0.png"
    file.write_bytes(file.read_bytes()[:-30])


def _huge_picture(here: Path) -> None:
    _pictures(here, "cats", "dogs")
    picture(here / "images" / "dogs" / "huge.png", 30_000, 30_000)


def _sixteen_bits(here: Path) -> None:
    from PIL import Image

    _pictures(here, "cats", "dogs")
    Image.new("I;16", (8, 8)).save(here / "images" / "dogs" / "deep.png")


def _link_out(here: Path) -> None:
    _pictures(here, "cats", "dogs")
    (here / "secret").mkdir()
    picture(here / "secret" / "private.png")
    (here / "images" / "dogs" / "private.png").symlink_to(here / "secret" / "private.png")


def _huge_table(here: Path) -> None:
    line = b"a plain sentence of some words that says nothing at all,good\nand another one of them,bad\n"
    block = line * (2**20 // len(line))
    with (here / "huge.csv").open("wb") as file:
        file.write(b"text,label\n")
        for _ in range(2 * 2**30 // len(block)):
            file.write(block)


def _gpt(here: Path, **changes: object) -> Path:
    folder = here / "gpt"
    folder.mkdir()
    config = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": 50}
    (folder / "config.json").write_text(json.dumps(config | changes))
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(special)}, "[UNK]"))
    words.save(str(folder / "tokenizer.json"))
    return folder


def _pickled(here: Path) -> None:
    (_gpt(here) / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(here / "executed")))


def _other_model(here: Path) -> None:
    save_file({"weights": np.zeros(3)}, _gpt(here, model_type="bert") / "model.safetensors")


def _torn_weights(here: Path) -> None:
    (_gpt(here) / "model.safetensors").write_bytes(b"\xff" * 64)


def _no_tokenizer(here: Path) -> None:
    folder = _gpt(here)
    save_file({"weights": np.zeros(3)}, folder / "model.safetensors")
    (folder / "tokenizer.json").unlink()


def _climbing(here: Path) -> None:
    folder = here / "sets"
    folder.mkdir()
    with tarfile.open(folder / "aclImdb_v1.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("../../executed")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))


def _pickled_batches(here: Path) -> None:
    folder = here / "sets" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(pickle.dumps(Trap(here / "executed")))


def _changed_mnist(here: Path) -> None:
    folder = here / "sets" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for kind in ("train", "t10k"):
        for what in ("images-idx3", "labels-idx1"):
            (folder / f"{kind}-{what}-ubyte.gz").write_bytes(b"not what it says")


def _read_only(here: Path) -> None:
    """A link into a file system that takes no writing, as root may write into any folder without the right to."""
    (here / "results").symlink_to("/proc/sys")


def _foreign_records(content: bytes) -> Make:
    def make(here: Path) -> None:
        folder = here / "results" / "smoke" / "minimal"
        folder.mkdir(parents=True)
        (folder / "records.jsonl").write_bytes(content)

    return make


def _one_record(here: Path) -> None:
    file = here / "results" / "smoke" / "campaign" / "records.jsonl"
    file.parent.mkdir(parents=True)
    row = trained("digits/vit/dense", 0, 0.9)
    store.append(file, [{**row, "identity": "a", "paper": "campaign", "scale": "smoke"}])


def _changed_record(here: Path) -> None:
    file = here / "results" / "smoke" / "minimal" / "records.jsonl"
    file.parent.mkdir(parents=True)
    row = {"identity": "a", "arm": "digits/full", "seed": 0, "status": "done", "metrics": {"test_accuracy": 0.25}}
    store.append(file, [row])
    file.write_bytes(file.read_bytes().replace(b"0.25", b"0.95"))


VERIFY = ("verify", "--results-dir", "{here}/results")
OWN = {"EFFI_DATA": "{here}/sets"}
FOLDER = parameter("dataset=folder:{here}/images")
TABLE = parameter("dataset=csv:{here}/own.csv", BIRD)
BAD = (
    Bad("a paper that does not exist", ("run", "minimall"), "no paper 'minimall'; did you mean 'minimal'"),
    Bad("a scale that does not exist", ("run", "minimal", "--scale", "huge"), "no scale 'huge'"),
    Bad("a parameter that does not exist", parameter("patchs=4"), "no parameter 'patchs'; did you mean 'patches'"),
    Bad("a parameter without a value", parameter("patches"), "wants name=value"),
    Bad("text for a number", parameter("patches=four"), "patches wants an int"),
    Bad("patches=0", parameter("patches=0"), "patches is 0; give a whole number of at least 1"),
    Bad("patches that do not divide an image", parameter("patches=5"), "does not divide 32 pixels; give 1, 2"),
    Bad("seeds twice", parameter("seeds=1,1"), "different whole numbers"),
    Bad("a seed below zero", parameter("seeds=-1"), "different whole numbers from 0 on"),
    Bad("an unknown option", parameter('training={"epoch": 3}'), "did you mean 'epochs'"),
    Bad("a learning rate that is no number", parameter('training={"lr": "fast"}'), "lr"),
    Bad("a GPU that is not there", parameter("device=cuda"), "torch sees no GPU here"),
    Bad("a price below zero", parameter("price_per_gpu_hour=-1"), "at least 0"),
    Bad("an arm that does not exist", parameter('only=["minimumm"]'), "no arm 'minimumm'; did you mean 'minimum'"),
    Bad("no notebooks at once", (*MINIMAL, "--jobs", "0"), "jobs is 0"),
    Bad("a data set that does not exist", parameter("dataset=cifar11"), "unknown data set 'cifar11'; did you mean"),
    Bad("a data set of another kind", parameter("dataset=sst2"), "holds labelled texts, and images are wanted"),
    Bad("a folder that is not there", parameter("dataset=folder:{here}/no where"), "there is no .*no where"),
    Bad("a folder without images", FOLDER, "no images in", lambda here: (here / "images").mkdir()),
    Bad("a folder of one class", FOLDER, "has one class, cats", lambda here: _pictures(here, "cats")),
    Bad("a class of one image", FOLDER, "class birds .* has 1 image,", _one_picture),
    Bad("an image cut short", FOLDER, r"image .*0\.png cannot be read", _broken_picture),
    Bad("an image of 16 bits a pixel", FOLDER, "convert it to 8 bits per channel", _sixteen_bits),
    Bad("an image of 30,000 x 30,000 pixels", FOLDER, r"image .*huge\.png", _huge_picture),
    Bad("a symbolic link out of the folder", FOLDER, r"private\.png .*(link|outside)", _link_out),
    Bad("a table without its columns", TABLE, "no column text", _write("own.csv", "a,b\n1,2\n")),
    Bad("a table with semicolons", TABLE, "separated by semicolons", _write("own.csv", "text;label\na;b\n")),
    Bad("a table with an empty cell", TABLE, "in row 3", _write("own.csv", "text,label\na,b\n,b\nc,d\ne,d\n")),
    Bad("a table that is not UTF-8", TABLE, "is not UTF-8 .byte 12", _write("own.csv", b"text,label\na\xe4,b\n")),
    Bad("a table of 2 GB", parameter("dataset=csv:{here}/huge.csv", BIRD), r"huge\.csv .*GB", _huge_table),
    Bad(
        "a corpus of binary bytes",
        parameter("dataset=text:{here}/own.txt", MIXED),
        "is not UTF-8",
        _write("own.txt", bytes(range(256)) * 40),
    ),
    Bad("an empty corpus", parameter("dataset=text:{here}/own.txt", MIXED), "no text in", _write("own.txt", " \n")),
    Bad(
        "a pickled checkpoint that executes a command",
        parameter("checkpoint={here}/gpt", LIGO),
        r"holds no safetensors \(other weights: pytorch_model.bin\)",
        _pickled,
    ),
    Bad("a checkpoint of another model", parameter("checkpoint={here}/gpt", LIGO), "holds a bert model", _other_model),
    Bad("a torn checkpoint", parameter("checkpoint={here}/gpt", LIGO), "is torn or no safetensors", _torn_weights),
    Bad("a checkpoint without tokenizer", parameter("checkpoint={here}/gpt", LIGO), "tokenizer.json", _no_tokenizer),
    Bad(
        "CIFAR-10 as pickles that execute a command",
        parameter("dataset=cifar10"),
        "cifar10 is damaged",
        _pickled_batches,
        more=OWN,
    ),
    Bad("MNIST with other content", parameter("dataset=mnist"), "checksum", _changed_mnist, more=OWN),
    Bad(
        "an archive that climbs out of its folder",
        parameter("dataset=imdb", BIRD),
        "imdb is damaged: .* checksum",
        _climbing,
        more=OWN,
    ),
    Bad("EFFI_DATA that is no folder", MINIMAL, "EFFI_DATA names .*, which is no folder", more=OWN),
    Bad("results where nothing can be written", MINIMAL, "results.* cannot be (made|written)", _read_only),
    Bad("results that are a file", MINIMAL, "cannot be made", _write("results", "taken")),
    Bad(
        "results of another program",
        VERIFY,
        "is no record: it is not JSON",
        _foreign_records(b"loss=1\n"),
    ),
    Bad("a number changed in a record", MINIMAL, "checksum does not fit", _changed_record),
    Bad(
        "folders to compare that hold no records",
        ("compare", "{here}/a", "{here}/b"),
        "holds no finished records",
    ),
    Bad("a paper whose file of claims is missing", VERIFY, "campaign.toml, .* is missing", _one_record, claims=None),
    Bad("a file of claims that is no TOML", VERIFY, "is no valid TOML", _one_record, claims="id = campaign"),
    Bad(
        "a file of claims with a misspelt rule",
        VERIFY,
        "no_loss",
        _one_record,
        claims=CLAIMS.replace('"no_loss"', '"no_los"'),
    ),
    Bad(
        "a folder called «Öl und 水», with a space, of one class",
        parameter("dataset=folder:{here}/Öl und 水"),
        "Öl und 水 has one class, кошки",
        lambda here: picture(here / "Öl und 水" / "кошки" / "0.png"),
    ),
)
