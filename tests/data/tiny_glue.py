"""Tiny tables of GLUE in their official formats, and the part of a manifest that pins them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from tests.data.packing import md5, of_lines, sha256, tar_of, zip_of

Files = Mapping[str, bytes]


def table(rows: list[str], header: str = "") -> bytes:
    """Without an end of the last line."""
    return "\n".join([*([header] if header else []), *rows]).encode()


def accepted(count: int) -> bytes:
    """CoLA has no header, and a star in a column of its own where the sentence is none."""
    stars = ("*", "")
    return table([f'gj04\t{k % 2}\t{stars[k % 2]}\tThe cat number {k} said "so.' for k in range(count)])


def inference(count: int, labels: tuple[str, str]) -> bytes:
    rows = [f'{k}\tThe “{k}” is, as they say, "seen.\tIt is {k}.\t{labels[k % 2]}' for k in range(count)]
    return table(rows, "index\tsentence1\tsentence2\tlabel")


def paraphrases(count: int) -> bytes:
    rows = [f'{k % 2}\t10{k}\t20{k}\tHe said "{k}.\tThe "{k}" was said.' for k in range(count)]
    return table(rows, "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String")


def similarity(count: int, first: int = 0) -> bytes:
    """Every third row has two columns of licences behind it."""
    tails = ("", "", "\tsource (one)\tsource (two)")
    rows = [
        f'main-news\theadlines\t2015\t{k}\t{k % 11 / 2:.3f}\tA "row {k}.\tThe row {k}.{tails[k % 3]}'
        for k in range(first, first + count)
    ]
    return table(rows)


COLA = {"train.tsv": accepted(40), "dev.tsv": accepted(10)}
RTE = {name: inference(count, ("entailment", "not_entailment")) for name, count in (("train.tsv", 40), ("dev.tsv", 10))}
WNLI = {name: inference(count, ("0", "1")) for name, count in (("train.tsv", 40), ("dev.tsv", 10))}
MRPC = {"msr_paraphrase_train.txt": paraphrases(40), "msr_paraphrase_test.txt": paraphrases(20)}
STSB = {
    name: similarity(count, first)
    for name, count, first in (("sts-train.csv", 88, 0), ("sts-dev.csv", 22, 100), ("sts-test.csv", 33, 200))
}
FOLDERS = {"cola": ("CoLA", COLA), "rte": ("RTE", RTE), "wnli": ("WNLI", WNLI), "mrpc": ("MRPC", MRPC)}
FOLDERS["stsb"] = ("stsbenchmark", STSB)


def archive(folder: str, content: Files) -> bytes:
    return (tar_of if folder == "stsbenchmark" else zip_of)({f"{folder}/{name}": raw for name, raw in content.items()})


@functools.cache
def served() -> Files:
    """Path on the server -> what is downloaded from there."""
    return {
        f"{folder}.{'tar.gz' if name == 'stsb' else 'zip'}": archive(folder, content)
        for name, (folder, content) in FOLDERS.items()
        if name != "mrpc"
    }


def pins(content: Files) -> str:
    return "\n".join(f'"{name}" = "{of_lines(raw)}"' for name, raw in content.items())


def manifest(url: str) -> str:
    common = 'title = "t"\ncitation = "c"\nlicence = "l"\nbytes = 1\n'
    classes = {"rte": ["entailment", "not_entailment"], "stsb": []}
    sets = []
    for name, (folder, content) in FOLDERS.items():
        file = next((each for each in served() if each.startswith(folder)), "page")
        pinned = f'archive = "{(md5 if name == "stsb" else sha256)(served().get(file, b""))}"'
        source = f'source = "{url}{file}"\n{"by_hand = true" if name == "mrpc" else pinned}'
        kinds = f"classes = {classes.get(name, ['no', 'yes'])}"
        sets.append(f'[{name}]\n{common}{source}\nfolder = "{folder}"\n{kinds}\n[{name}.files]\n{pins(content)}')
    sets.append('[rte.variants.official]\nnotice = "No labels."')
    sets.append(f'[stsb.variants.flat]\nfolder = "STS-B"\n[stsb.variants.flat.files]\n{pins(STSB)}')
    return "\n".join(sets)
