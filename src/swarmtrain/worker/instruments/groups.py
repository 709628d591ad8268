"""A process group outlives the model that reduces over it, so that letting go of the model cannot deadlock.

A DistributedDataParallel holds its process group twice: in Python, and in the C++ of its reducer. After
``destroy_process_group`` the model is all that holds it, and its Python side goes first. The reducer's destructor then
ends the group with the interpreter's lock in hand: it joins the threads of gloo, one of which may wait for that lock,
to let go of the Python context of the last all-reduce. Seen with torch 2.13 in every second run of the DDP tutorial,
whose model goes as its function returns. Python's own hold on a group lets go of the lock first; so here it stays until
the reducer has gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

# The last method that DistributedDataParallel calls of itself once its reducer is there (torch 2.4 to 2.13).
_LAST = "_passing_sync_batchnorm_handle"


def outlive_reducers(module: ModuleType) -> None:
    """An action of torch_setup.py, for ``torch.nn.parallel.distributed``."""
    kind = module.DistributedDataParallel
    if callable(method := vars(kind).get(_LAST)):
        setattr(kind, _LAST, _Last(method))


class _Last:
    """The method, found on its way to be called; as in watch.py, torch's own stays what it was."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self._method
        for holder in (owner.reducer, owner.logger):  # a logger holds its reducer, too
            weakref.finalize(holder, _let_go, owner.process_group).atexit = False
        return self._method.__get__(owner, kind)


def _let_go(group: object) -> None:
    """Called when what reduces over the group has been destructed; this reference is the last one to go."""
