"""Random numbers: one seed from which all are derived, and their state as data that a snapshot can hold."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def derive_seed(*parts: int | str) -> int:
    """A seed of 63 bits for a purpose, such as ``derive_seed(seed, "rank", 3)``; the same on every machine."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed Python, torch on all devices, and numpy where it is loaded.

    Call it before building the model, so that every rank and every run starts from the same weights.
    """
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed & 0xFFFFFFFF)


def random_state() -> dict[str, Any]:
    """The state of every generator that :func:`seed_everything` seeds, in plain Python types and tensors."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, *rest = numpy.random.get_state(legacy=True)
        state["numpy"] = (name, keys.tolist(), *rest)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()  # of the current device, the only one that a rank uses
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` returned. What this process has not loaded is left alone."""
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in state:
        numpy.random.set_state(state["numpy"])
    if "cuda" in state and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is drawn inside leaves the generators as they were: evaluating must not change training."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
