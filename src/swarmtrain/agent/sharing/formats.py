"""What formats tell of files: whether one is whole, as the usual ones of checkpoints do, and which belong together."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

_END_OF_ZIP = (
    b"PK\x05\x06"  # its record's beginning; 22 bytes, and a comment, which torch and numpy do not write
)
_END_BYTES = 22
_SMALL = 16 << 20  # bytes of a text that is read to see whether it is whole
_HEADER = 100 << 20  # the most that safetensors allows
# torch.distributed.checkpoint: every rank writes its parts, and one of them, when all have, names them in this one.
INDEX, _PART = ".metadata", re.compile(rb"__\d+_\d+\.distcp")
_INDEX_BYTES = 256 << 20


def whole(path: Path) -> bool | None:
    """Whether a file is complete; None where its format does not tell, or it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            size = file.seek(0, os.SEEK_END)
            if head[:4] == b"PK\x03\x04":  # torch.save, numpy.savez
                file.seek(max(0, size - _END_BYTES))
                return file.read(4) == _END_OF_ZIP
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


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
