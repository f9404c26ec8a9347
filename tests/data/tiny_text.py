"""Tiny text sets in the official formats, and the part of a manifest that pins them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from tests.data.packing import sha256, tar_of, zip_of

GOOD, BAD = "a moving and witty film with a splendid cast", "a dull and clumsy film with a wooden cast"


def sentence(label: int, number: int) -> str:
    return f"{(BAD, GOOD)[label]} , number {number} ."


def glue(count: int, first: int = 0) -> bytes:
    """A GLUE file: sentence and label, the labels in turn."""
    lines = [f"{sentence(k % 2, first + k)} \t{k % 2}\n" for k in range(count)]
    return "".join(["sentence\tlabel\n", *lines]).encode()


SST2 = {"train.tsv": glue(60), "dev.tsv": glue(20, 100)}
TEST = {"test_labelled.tsv": glue(30, 200)}
WIKITEXT = {
    name: "".join(f" = Title {k} = \n the {name} text of <unk> article {k} \n" for k in range(count)).encode()
    for name, count in (("train.txt", 200), ("valid.txt", 40), ("test.txt", 40))
}
PLAY = {
    "input.txt": b"".join(b"Speaker %d:\nTo be, or not to be, that is question %d.\n\n" % (k, k) for k in range(100))
}


def reviews(part: str, kinds: tuple[str, ...], count: int = 20) -> dict[str, bytes]:
    """Members of an aclImdb archive: one review in a file."""
    return {
        f"aclImdb/{part}/{kind}/{k}_{k % 10}.txt": f"{part} {kind} {k}<br /><br />naïve “film”".encode()
        for kind in kinds
        for k in range(count)
    }


LABELLED = {
    "aclImdb/README": b"read me",
    "aclImdb/test/urls_pos.txt": b"http://",
    **reviews("test", ("neg", "pos"), 10),
    **reviews("train", ("neg", "pos")),
}
UNLABELLED = reviews("train", ("unsup",), 30)


@functools.cache
def imdb_archive() -> bytes:
    """The official archive, which holds it all."""
    return tar_of(LABELLED | UNLABELLED)


@functools.cache
def repacked() -> Mapping[str, bytes]:
    """The same files in two archives."""
    return {"aclImdb_labelled.tar.xz": tar_of(LABELLED, "xz"), "aclImdb_unsup.tar.xz": tar_of(UNLABELLED, "xz")}


@functools.cache
def served() -> Mapping[str, bytes]:
    """Path on the server -> what is downloaded from there."""
    zipped = zip_of({f"SST-2/{name}": content for name, content in SST2.items()} | {"SST-2/test.tsv": b"no labels"})
    return {"aclImdb_v1.tar.gz": imdb_archive(), "SST-2.zip": zipped, **WIKITEXT, **PLAY}


def text_manifest(url: str) -> str:
    common = 'title = "t"\ncitation = "c"\nlicence = "l"\nbytes = 1\n'
    sentiment = f'{common}classes = ["negative", "positive"]\n'
    corpus = f'{common}source = "{url}"\nclasses = []\n'
    notice = 'notice = "No labels."'
    return "\n".join(
        [
            f'[imdb]\n{sentiment}source = "{url}"\nfolder = "aclImdb"\n[imdb.files]',
            pins({"aclImdb_v1.tar.gz": imdb_archive()}),
            f'[imdb.variants.repacked]\nfolder = ""\n[imdb.variants.repacked.files]\n{pins(repacked())}',
            f'[sst2]\n{sentiment}source = "{url}SST-2.zip"\narchive = "{sha256(served()["SST-2.zip"])}"',
            f'folder = "SST-2"\n[sst2.files]\n{pins(SST2)}\n[sst2.variants.official]\n{notice}',
            f"[sst2.variants.labelled.files]\n{pins(SST2 | TEST)}",
            f'[wikitext-2]\n{corpus}folder = "wikitext-2"\n[wikitext-2.files]\n{pins(WIKITEXT)}',
            f'[tinyshakespeare]\n{corpus}folder = "tinyshakespeare"\n[tinyshakespeare.files]\n{pins(PLAY)}',
        ]
    )


def pins(files: Mapping[str, bytes]) -> str:
    return "\n".join(f'"{name}" = "{sha256(content)}"' for name, content in files.items())
