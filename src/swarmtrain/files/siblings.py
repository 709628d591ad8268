"""Directories that a script writes one after the other, such as `checkpoint-20/` and `checkpoint-30/`. Pure.

What the one before had tells what the next one is to have: agents say so of what they see, and the coordinator decides
by what all of them have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from swarmtrain.protocol.shared_files import SharedFile

_NUMBER = re.compile(r"\d+")


def are_siblings(one: str, other: str) -> bool:
    """Whether two sets are of one series, by their paths: these differ in the numbers of one name, and nothing else.

    `checkpoint-20/global_step20` and `checkpoint-30/global_step30` do, since both names differ alike; but
    `step-20/rank-1` and `step-30/rank-0` are of two.
    """
    if _shape(one) != _shape(other):
        return False
    pairs = zip(one.split("/"), other.split("/"), strict=True)
    return len({_differing(*pair) for pair in pairs if pair[0] != pair[1]}) == 1


def has_number(path: str) -> bool:
    """Whether a set's own name has one: else it may be what one run of a script writes in all, not one save of it."""
    return _NUMBER.search(path.rpartition("/")[2]) is not None


def is_written_over(name: str, new: Iterable[str]) -> bool:
    """Whether a file is to be written over when others are: one with a number may stay, as `epoch=3.ckpt` does.

    But not beside one that is like it, as a part of several is.
    """
    return not has_number(name) or _shape(name) in _shapes(new)


def lacks(names: Iterable[str], had: Iterable[SharedFile]) -> bool:
    """Whether a set has less than there was before it, by the names of files; numbers in these are alike."""
    return bool(_shapes(file.name for file in had) - _shapes(names))


def one_of_each(files: Iterable[SharedFile]) -> list[SharedFile]:
    """Of the files whose names differ in numbers only, one: how many parts there are depends on who writes them."""
    return list({_shape(file.name): file for file in files}.values())


def _shapes(names: Iterable[str]) -> Counter[str]:
    return Counter(map(_shape, names))


@lru_cache(maxsize=10_000)
def _shape(path: str) -> str:
    return _NUMBER.sub("#", path)


def _differing(one: str, other: str) -> tuple[tuple[str, str], ...]:
    """The numbers in which two names of one shape differ."""
    pairs = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=False)
    return tuple(pair for pair in pairs if pair[0] != pair[1])
