"""What contents tell of files: whether one is whole, which belong together, and which checkpoints one names.

A small file that names a checkpoint, as `latest` does, holds with that, and not before. A directory is named by a word
that is its name, or by its number where that is all that the file says.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from pathlib import Path

from swarmtrain.agent.sharing.walk import read_content
from swarmtrain.protocol.shared_files import LINK_MARK

_END_OF_ZIP = b"PK\x05\x06"  # its record's beginning
_END_BYTES, _COMMENT_BYTES = 22, (1 << 16) - 1  # of the record, and of the comment after it, at most
_FAILED = 60.0  # seconds for which a file that seems torn is nobody's: its format may be another one
_SMALL = 16 << 20  # bytes of a text that is read to see whether it is whole
_HEADER = 100 << 20  # the most that safetensors allows
# torch.distributed.checkpoint: every rank writes its parts, and one of them, when all have, names them in this one.
INDEX, _PART = ".metadata", re.compile(rb"__\d+_\d+\.distcp")
_INDEX_BYTES = 256 << 20
_MOST_BYTES = 4096  # of such a file
_MOST_KEPT = 5_000  # contents of which is kept what they say
_WORD = re.compile(r"[^\s\"'=:,;(){}\[\]<>]+")
_NUMBER = re.compile(r"\d+")


def whole(path: Path) -> bool | None:
    """Whether a file is complete; None where its format does not tell, or it cannot be read."""
    if path.is_symlink():
        return True  # made at once
    try:
        with path.open("rb") as file:
            head = file.read(8)
            size = file.seek(0, os.SEEK_END)
            if head[:4] == b"PK\x03\x04":  # torch.save, numpy.savez
                file.seek(max(0, size - _END_BYTES - _COMMENT_BYTES))
                return _has_end_of_zip(file.read())
            if path.suffix == ".safetensors":
                length = int.from_bytes(head, "little")
                if len(head) < 8 or length > _HEADER or 8 + length > size:
                    return False
                file.seek(8)
                return 8 + length + _data_bytes(file.read(length)) == size
            if path.suffix == ".json" and size <= _SMALL:
                file.seek(0)
                return _is_json(file.read())
    except OSError:
        pass
    return None


def has_failed(path: Path, now: float) -> bool:
    """Whether a file is half of one since a moment ago, as its writer leaves it for which the disk was full.

    Args:
        now: Unix time.
    """
    try:
        is_new = abs(now - path.lstat().st_mtime) < _FAILED
    except OSError:
        return False
    # JSON may be meant for people, and have comments.
    return is_new and path.suffix != ".json" and whole(path) is False


def partners(path: Path) -> list[str]:
    """The names of the files beside this one, on whatever node, that were written with it, as its format tells."""
    if _PART.fullmatch(os.fsencode(path.name)):
        return [INDEX]
    if path.name != INDEX:
        return []
    try:
        with path.open("rb") as file:
            return sorted({os.fsdecode(each) for each in _PART.findall(file.read(_INDEX_BYTES))})
    except OSError:
        return []


def _data_bytes(header: bytes) -> int:
    """Bytes that follow a header of safetensors; less than none where it is not whole."""
    try:
        tensors = json.loads(header)
        return max((t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__"), default=0)
    except (ValueError, LookupError, TypeError, AttributeError):
        return -1 << 62


def _has_end_of_zip(tail: bytes) -> bool:
    """Whether bytes end as an archive does, with its record and a comment of the length that this tells."""
    at = tail.rfind(_END_OF_ZIP)
    return at >= 0 and at + _END_BYTES + int.from_bytes(
        tail[at + _END_BYTES - 2 : at + _END_BYTES], "little"
    ) == len(tail)


def _is_json(text: bytes) -> bool | None:
    """Whether a text is JSON; None for one with a value in each line, which may have more."""
    for part in (text, text.partition(b"\n")[0]):
        try:
            json.loads(part)
        except (ValueError, RecursionError):
            continue
        return True if part is text else None
    return False


# ---- what names checkpoints ------------------------------------------------------------------------------------------


class Pointers:
    """What contents say, each of which is read once."""

    def __init__(self) -> None:
        self._read: dict[str, frozenset[str]] = {}

    def words(self, sha256: str, size: int, path: Path | None) -> frozenset[str]:
        """Those of a content that may be names of checkpoints, the parts of paths among them.

        Args:
            path: where it is to be read; None where it is not here.
        """
        if size > _MOST_BYTES or path is None:
            return frozenset()
        if sha256 not in self._read:
            if len(self._read) >= _MOST_KEPT:
                self._read.clear()
            self._read[sha256] = _words(path)
        return self._read[sha256]


def _words(path: Path) -> frozenset[str]:
    try:
        with read_content(path) as file:
            text = file.read(_MOST_BYTES).removeprefix(LINK_MARK).decode()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    parts = (part for word in _WORD.findall(text) for part in word.split("/"))
    return frozenset(part for part in parts if _NUMBER.search(part))


def named(words: Collection[str], directories: Collection[str]) -> set[str]:
    """The numbered ones of some directories, by path, that are named by the words of a file."""
    if not words:
        return set()
    (only,) = words if len(words) == 1 else ("",)
    found = set[str]()
    for path in directories:
        name = path.rpartition("/")[2]
        numbers = _NUMBER.findall(name)
        if numbers and (name in words or (only.isdecimal() and int(only) == int(numbers[-1]))):
            found.add(path)
    return found
