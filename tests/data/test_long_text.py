"""A corpus larger than memory: the same tokens and windows as in memory, made once, mended, found again."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
import torch

from effi import data, paths
from effi.bench import tokenising
from effi.cost import Ledger
from effi.data import files, long_text, own, shards, stored, windows
from effi.data.examples import IGNORED, TextDataset
from effi.data.tokens import Tokenizer
from effi.errors import DataError
from effi.models.gpt import GPT
from effi.models.language import TextSize
from effi.training import Training, fit, loop
from effi.training.networks import Single
from effi.training.objectives import LanguageModelling
from tests.data.tiny import House

# Line ends of every kind, marks, letters of one to four bytes, files without a last line end and one without anything.
ODD = {
    "a.txt": "\ufeffthe first line\r\nthe second\rthe third\n" * 40,
    "b.txt": "",
    "c.txt": "naïve “film” 日本 😀 and more\x0bof it\u2028\n\n\n" * 90 + "no end\x85",
    "d/e.txt": "\n".join(f"number {k} of a long story about a cat" for k in range(900)) + "\r",
    "d/f.txt": "the last words of it\n" * 30,
}


@pytest.fixture
def small(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """Everything is larger than memory, and read and cut in small pieces."""
    monkeypatch.setattr(own, "LARGEST_CORPUS", 1000)
    monkeypatch.setattr(stored, "RESIDENT", 0)
    monkeypatch.setattr(long_text, "READ", 1999)
    monkeypatch.setattr(shards, "SHARD", 8000)
    return house


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / "odd"
    for name, content in ODD.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return folder


def in_memory(place: Path, words: Tokenizer, monkeypatch: pytest.MonkeyPatch, **options: object) -> TextDataset:
    with monkeypatch.context() as patched:
        patched.setattr(own, "LARGEST_CORPUS", 2**30)
        return data.load_corpus(f"text:{place}", tokenizer=words, **options)


def made() -> list[Path]:
    return sorted((files.writable() / "shards").glob("*/*.bin"))


def manifest() -> dict[str, object]:
    (path,) = (files.writable() / "shards").glob("*/manifest.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("corpus", [None, 3000])
def test_shards_hold_the_tokens_and_windows_that_memory_does(
    small: House, odd: Path, monkeypatch: pytest.MonkeyPatch, corpus: int | None
) -> None:
    large = data.load_corpus(f"text:{odd}", length=16, vocabulary=300, corpus=corpus)
    same = in_memory(odd, large.tokenizer, monkeypatch, length=16, corpus=corpus)
    assert large.checksum == same.checksum and large.name == same.name and large.variant == same.variant
    assert isinstance(large.train.inputs, stored.Stored) and len(made()) == 7
    assert (len(large.train), large.train.inputs.shape) == (len(same.train), same.train.inputs.shape)
    assert large.corpus[:].equal(same.corpus)
    for split, part in large.splits.items():
        assert part.inputs[:].equal(same.splits[split].inputs) and part.labels[:].equal(same.splits[split].labels)
        assert part.labels[:].dtype == torch.int64 and part.inputs[:].dtype == torch.int32


def test_what_fits_is_read_into_memory(small: House, odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "RESIDENT", 2**20)
    large = data.load_corpus(f"text:{odd}", length=16, vocabulary=300)
    assert torch.is_tensor(large.train.inputs) and torch.is_tensor(large.corpus)
    same = in_memory(odd, large.tokenizer, monkeypatch, length=16)
    assert large.train.inputs.equal(same.train.inputs)


def test_a_second_load_makes_nothing_and_reads_no_text(
    small: House, odd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = data.load_corpus(f"text:{odd}", length=16, vocabulary=300)
    told = capsys.readouterr().err
    assert told.startswith("odd is larger") or "odd is larger than what is read into memory: once it is made" in told
    times = [path.stat().st_mtime_ns for path in made()]
    monkeypatch.setattr(long_text, "_scan", None)
    again = data.load_corpus(f"text:{odd}", length=16, vocabulary=300)
    assert again.train.inputs[:].equal(first.train.inputs[:]) and again.tokenizer.json == first.tokenizer.json
    assert [path.stat().st_mtime_ns for path in made()] == times
    assert "larger" not in capsys.readouterr().err


def test_shards_are_found_by_content_wherever_the_text_lies(small: House, odd: Path) -> None:
    first = data.load_corpus(f"text:{odd}", length=16, vocabulary=300)
    windows = first.train.inputs[:]
    made_in = small.shelf / "shards"
    assert made() and {path.parents[1] for path in made()} == {made_in}
    files.downloads().mkdir()
    made_in.rename(files.downloads() / "shards")
    moved = odd.rename(odd.with_name("moved"))
    again = data.load_corpus(f"text:{moved}", length=16, vocabulary=300)
    assert again.name == "text:moved" and again.train.inputs[:].equal(windows)
    assert made() == []
    (moved / "a.txt").write_text("another text\n" * 100)
    other = data.load_corpus(f"text:{moved}", length=16, vocabulary=300)
    assert other.checksum != first.checksum and made()


def test_the_manifest_says_what_was_made_of_what(small: House, odd: Path) -> None:
    large = data.load_corpus(f"text:{odd}", length=16, vocabulary=300, seed=3)
    found = manifest()
    assert found["checksum"] == large.checksum
    assert {each["name"] for each in found["sources"]} == {"a.txt", "b.txt", "c.txt", "e.txt", "f.txt"}
    assert all(len(each["sha256"]) == 64 for each in (*found["sources"], *found["shards"]))
    recipe = {name: found["tokenizer"][name] for name in ("vocabulary", "seed", "characters", "places")}
    assert recipe == {"vocabulary": 300, "seed": 3, "characters": 2_000_000, "places": 64}
    assert found["tokenizer"]["sha256"] == large.tokenizer.sha256
    rows = sum(each["rows"] for each in found["shards"] if each["file"].startswith("train"))
    assert rows // 16 == len(large.train)
    # Of a file that ends in no line feed the text in memory has one more.
    assert sum(found["characters"].values()) == sum(len(text.removeprefix("\ufeff")) for text in ODD.values()) + 3


def test_the_tokenizer_reads_all_over_the_training_text_and_nothing_held_out(small: House, tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    words = [*(f"early{k % 7} " for k in range(4500)), *(f"later{k % 7} " for k in range(4500)), *["held "] * 1000]
    path.write_text("".join(word + "\n" * (k % 9 == 8) for k, word in enumerate(words)))
    vocabulary = json.loads(data.load_corpus(f"text:{path}", length=8, vocabulary=400).tokenizer.json)["model"]["vocab"]
    assert {"early", "later"} <= {word.strip("Ġ") for word in vocabulary}
    assert "held" not in {word.strip("Ġ") for word in vocabulary}


def test_held_out_windows_are_fixed_and_evenly_spaced(small: House, odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = data.load_corpus(f"text:{odd}", length=16, vocabulary=300)
    monkeypatch.setattr(long_text, "EVENLY", 7)
    few = data.load_corpus(f"text:{odd}", length=16, vocabulary=300)
    for split in ("validation", "test"):
        whole = every.splits[split].inputs
        assert len(whole) > 14
        assert few.splits[split].inputs.equal(whole[torch.arange(7) * len(whole) // 7])
    assert "7 windows or fewer of each of its last two twentieths" in few.notice


def test_a_training_reads_shards_as_it_reads_memory(small: House, odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = data.load_corpus(f"text:{odd}", length=16, vocabulary=300, corpus=4000)
    same = in_memory(odd, large.tokenizer, monkeypatch, length=16, corpus=4000)
    curves = []
    for one in (large, same):
        monkeypatch.setattr(loop, "on_disk", lambda _: True)  # what lies on disk has an order of its own
        model = GPT(one.vocabulary, one.train.inputs.shape[1], TextSize(16, 1, 2, 32), seed=0)
        training = Training(epochs=1, batch_size=32, lr=1e-3)
        (history,) = fit(model, one, training, objective=LanguageModelling(), seeds=[0], ledger=Ledger())
        curves.append({name: history.curves[name] for name in ("train_loss", "validation_loss")})
    assert curves[0] == curves[1]


def test_an_epoch_of_shards_has_every_window_once_in_an_order_of_its_seed(small: House, odd: Path) -> None:
    large = data.load_corpus(f"text:{odd}", length=16, vocabulary=300, corpus=4000)
    count, orders = len(large.train), list[list[int]]()
    for seed in (0, 1):
        model = GPT(large.vocabulary, large.train.inputs.shape[1], TextSize(16, 1, 2, 32), seed=0)
        training = Training(epochs=2, batch_size=32)
        made = loop.Loop(Single(model), model, large, training, LanguageModelling(), (seed,), Ledger())
        drawn = list[int]()
        for step in range(2 * made.per_epoch):
            made.done = step
            drawn += made.batch()[0].tolist()
        assert sorted(drawn[:count]) == sorted(drawn[count:]) == list(range(count)) and drawn[:count] != drawn[count:]
        orders.append(drawn)
    assert orders[0] != orders[1] and not made.queue


def test_windows_are_drawn_by_each_seed_without_an_index(small: House, odd: Path) -> None:
    large = data.load_corpus(f"text:{odd}", length=16, vocabulary=300)
    first, again, other = (windows.drawn(large, 40, seed) for seed in (0, 0, 1))
    assert len(first.train) == 40 and first.train.inputs[:].equal(again.train.inputs[:])
    assert not first.train.inputs[:].equal(other.train.inputs[:])
    every = {tuple(row) for row in large.train.inputs[:].tolist()}
    assert {tuple(row) for row in first.train.inputs[:].tolist()} <= every
    assert first.train.labels[:][:, :-1].equal(first.train.inputs[:][:, 1:].long())


def test_hidden_tokens_hang_on_the_window_alone(small: House, odd: Path) -> None:
    large = data.load_corpus(f"text:{odd}", length=16, vocabulary=300, objective="masked")
    inputs, labels, rows = large.train.inputs[:], large.train.labels[:], large.corpus[:].long()
    some = torch.tensor([[5, 0], [44, 5]])
    assert large.train.inputs[some].equal(inputs[some]) and large.train.labels[some].equal(labels[some])
    guessed = labels != IGNORED
    assert guessed.float().mean().item() == pytest.approx(0.15, abs=0.02)
    assert labels[guessed].equal(rows[guessed]) and inputs[~guessed].long().equal(rows[~guessed])
    assert (inputs[guessed] == 4).float().mean().item() == pytest.approx(0.8, abs=0.05)
    assert (inputs[guessed].long() == rows[guessed]).float().mean().item() == pytest.approx(0.1, abs=0.05)


def test_what_needs_a_whole_tensor_says_so(small: House, odd: Path) -> None:
    inputs = data.load_corpus(f"text:{odd}", length=16, vocabulary=300).train.inputs
    words = "odd is larger than memory and read from disk a batch at a time; {} needs it whole: take a part of it"
    for what, act in (
        ("flatten", lambda: inputs.flatten()),
        ("cat", lambda: torch.cat([inputs, inputs])),
        ("indexing by anything but whole examples", lambda: inputs[:, 1:]),
    ):
        with pytest.raises(DataError, match=words.format(what)):
            act()
    with pytest.raises(IndexError, match="out of range"):
        inputs[torch.tensor([len(inputs)])]
    assert inputs[torch.tensor([-1])].equal(inputs[len(inputs) - 1 :])
    assert inputs[3].equal(inputs[3:4][0]) and not hasattr(inputs, "flatten")


def test_another_process_maps_the_shards_itself(small: House, odd: Path) -> None:
    inputs = data.load_corpus(f"text:{odd}", length=16, vocabulary=300).train.inputs
    whole = inputs[:]
    parcel = cloudpickle.dumps(inputs.take(torch.tensor([9, 2])))
    assert len(parcel) < 20_000 < whole.nbytes
    assert pickle.loads(parcel)[:].equal(whole[[9, 2]])


# --- what goes wrong -----------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from effi.data import long_text, shards
shards.SHARD = 8000
long_text.READ = 1999
worked = shards._worked
def dying(*arguments):
    for number, found in enumerate(worked(*arguments)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield found
shards._worked = dying
long_text.read("story", [Path(sys.argv[1])], None, 300, 0, Path(sys.argv[2]))
"""


def story(path: Path, lines: int = 2000) -> Path:
    path.write_text("".join(f"line {k} of a long story\n" for k in range(lines)))
    return path


def every(text: long_text.LongText) -> list[int]:
    """All ids of a text."""
    return [each for part in long_text.PARTS for each in text.ids[part].run(0, len(text.ids[part])).tolist()]


def read(path: Path, out: Path) -> long_text.LongText:
    return long_text.read("story", [path], None, 300, 0, out)


@pytest.mark.slow
def test_a_kill_in_the_middle_goes_on_after_the_shards_that_are_whole(
    small: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = story(tmp_path / "story.txt"), tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, text, out], cwd=paths.ROOT, stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    (log,) = out.glob("shards/*/progress.jsonl")
    whole = [json.loads(line)["file"] for line in log.read_text().splitlines()]
    assert len(whole) == 2
    before = {file: (log.parent / file).stat().st_mtime_ns for file in whole}
    with log.open("a") as torn:
        torn.write('{"file": "tra')
    found = read(text, out)
    assert "of which 2 are there" in capsys.readouterr().err
    assert {file: (log.parent / file).stat().st_mtime_ns for file in whole} == before
    assert every(found) == every(read(text, tmp_path / "clean"))
    assert not log.exists() and not [*out.rglob("*.part")]


def test_a_damaged_shard_is_named_and_made_anew_when_deleted(small: House, tmp_path: Path) -> None:
    text, out = story(tmp_path / "story.txt"), tmp_path / "out"
    ids = every(read(text, out))
    victim = sorted(out.glob("shards/*/train-*.bin"))[1]
    good = victim.read_bytes()
    victim.write_bytes(good[:50] + bytes([good[50] ^ 1]) + good[51:])
    with pytest.raises(DataError, match=f"shard {victim} of story is damaged: .* delete it and load again"):
        read(text, out)
    victim.write_bytes(good[:-2])
    with pytest.raises(DataError, match=f"shard {victim} of story is damaged"):
        read(text, out)
    victim.unlink()
    assert every(read(text, out)) == ids
    assert victim.read_bytes() == good


def test_a_damaged_manifest_or_tokenizer_is_named(small: House, tmp_path: Path) -> None:
    text, out = story(tmp_path / "story.txt"), tmp_path / "out"
    read(text, out)
    (path,) = out.glob("shards/*/manifest.json")
    good = path.read_text()
    path.write_text(good[:-9])
    with pytest.raises(DataError, match=f"{path} is damaged .* delete it and load story again"):
        read(text, out)
    path.write_text(good)
    words = path.with_name("tokenizer.json")
    words.write_text(words.read_text().replace('"unk_token":"<unk>"', '"unk_token":null'))
    with pytest.raises(DataError, match="holds shards of another tokenizer than its own: delete it and load"):
        read(text, out)


def test_text_that_is_none_is_told_by_byte_and_line(small: House, tmp_path: Path) -> None:
    good = "\ufeff" + "ein Käse 日本\n" * 300
    for tail in (b"caf\xe9\n", b"caf\xe9"):
        path = tmp_path / "bad.txt"
        path.write_bytes(good.encode() + tail)
        where = len(good.encode()) + 3
        with pytest.raises(DataError, match=rf"is not UTF-8 \(byte {where}, line 301\): save it as UTF-8"):
            data.load_corpus(f"text:{path}", length=16, vocabulary=300)


def test_a_line_that_has_no_end_is_refused(small: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_text, "LONGEST_LINE", 5000)
    path = tmp_path / "flat.txt"
    path.write_text("word " * 5000)
    with pytest.raises(DataError, match="has a line of more than 5,000 characters: break it into lines"):
        data.load_corpus(f"text:{path}", length=16, vocabulary=300)


def test_text_that_changes_meanwhile_is_told(small: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = story(tmp_path / "story.txt")
    scanned = long_text.scanned

    def changing(files: list[Path], out: Path) -> object:
        found = scanned(files, out)
        os.utime(text, (1, 1))
        return found

    monkeypatch.setattr(long_text, "scanned", changing)
    with pytest.raises(DataError, match="story was changed while its shards were made: leave it alone and load it"):
        read(text, tmp_path / "out")
    assert not [*(tmp_path / "out").glob("shards/*/*.bin")]

    def cut(files: list[Path], out: Path) -> object:
        found = scanned(files, out)
        text.write_text("another")
        return found

    monkeypatch.setattr(long_text, "scanned", cut)
    with pytest.raises(DataError, match=r"story.txt was changed while it was read: load it again, and leave it alone"):
        read(text, tmp_path / "out")


def test_a_disk_that_is_full_or_locked_is_told(small: House, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("no folder")
    with pytest.raises(DataError, match=r"shards could not be written to .* free space or make it writable, and load"):
        read(story(tmp_path / "story.txt"), tmp_path / "out")


def test_a_large_corpus_is_looked_at_before_a_kernel_starts(small: House, odd: Path, tmp_path: Path) -> None:
    assert data.resolve(f"text:{odd}", ()) == ((f"text:{odd}",), None)
    (tmp_path / "secret.txt").write_text("private\n")
    (odd / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(DataError, match="outside the folder"):
        data.resolve(f"text:{odd}", ())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    """Thirty-six megabytes take what six do, and less than a gigabyte: nothing but shards has the size of the text."""
    found = []
    for megabytes in (6, 36):
        text = tmp_path / f"{megabytes}.txt"
        tokenising.generate(text, megabytes)
        found.append(tokenising.measure(text, tmp_path / "out"))
        assert found[-1].tokens > megabytes * 1e6 / 8
    small, large = found
    assert large.peak_rss_mb < 1000
    assert large.peak_mb - small.peak_mb < 50
