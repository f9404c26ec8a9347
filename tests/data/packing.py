"""Archives and checksums of made-up files."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


def of_lines(content: bytes) -> str:
    """The checksum that leaves the order of lines and their ends open."""
    return "lines:" + sha256(b"\n".join(sorted(content.split(b"\n")))).removeprefix("sha256:")


def tar_of(files: dict[str, bytes], compression: str = "gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            # A fixed date gives a checksum that can be pinned.
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()
