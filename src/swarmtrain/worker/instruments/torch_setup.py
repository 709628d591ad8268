"""Settings that are made in a worker as torch is imported: at once where it already is (a warm worker), else then.

A script that does not use torch never imports it because of us. To instrument another part of torch, add its module
and an action to ``_ACTIONS``.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import math
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import ModuleType

from swarmtrain.wire.names import ENV_TIMEOUT
from swarmtrain.worker.instruments import flight, groups, store, watch

Action = Callable[[ModuleType], None]


def set_up() -> None:
    """Run every action now, or as soon as its module has been imported."""
    pending = {}
    for name, action in _ACTIONS.items():
        if name in sys.modules:
            action(sys.modules[name])
        else:
            pending[name] = action
    if pending:
        sys.meta_path.insert(0, _AfterImport(pending))


def set_process_group_timeout(c10d: ModuleType) -> None:
    """Make SWARMTRAIN_TIMEOUT the default of ``init_process_group`` and ``new_group`` (torch 2.4 to 2.13).

    ``torch.distributed.distributed_c10d._get_default_timeout`` reads these globals at every call, so a timeout that
    the script passes itself still wins.
    """
    timeout = _timeout()
    if timeout is None:
        return
    for name in ("default_pg_timeout", "default_pg_nccl_timeout"):
        if isinstance(getattr(c10d, name, None), timedelta):  # NCCL's is None where it is not compiled in
            setattr(c10d, name, timeout)


def _set_up_groups(module: ModuleType) -> None:
    set_process_group_timeout(module)
    flight.record(module)


def _set_up_parallel(module: ModuleType) -> None:
    groups.outlive_reducers(module)
    watch.watch_parallel(module)


_ACTIONS: dict[str, Action] = {
    "torch.distributed.distributed_c10d": _set_up_groups,
    "torch.distributed.rendezvous": store.wait_for_the_store,
    "torch.nn.parallel.distributed": _set_up_parallel,
    "torch.distributed.fsdp._fully_shard._fsdp_state": watch.watch_sharded,
    "torch.distributed._composable.fsdp._fsdp_state": watch.watch_sharded,  # the same in torch 2.4 and 2.5
    "torch.utils.data.distributed": watch.watch_samplers,
    "torch._dynamo.trace_rules": watch.hide_from_compiler,
    "torch._dynamo.callback": watch.watch_compiler,
}


def _timeout() -> timedelta | None:
    text = os.environ.get(ENV_TIMEOUT, "")
    try:
        seconds = float(text) if text else 0.0
    except ValueError:
        raise ValueError(f"{ENV_TIMEOUT} must be a number of seconds, not {text!r}") from None
    return timedelta(seconds=seconds) if 0 < seconds < math.inf else None


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds nothing itself: lets the others find a module, and has the action follow its execution."""

    def __init__(self, pending: dict[str, Action]) -> None:
        self._pending = pending

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        action = self._pending.pop(name, None)
        if action is None:
            return None
        if not self._pending:
            sys.meta_path.remove(self)
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                _follow(spec, action)
                return spec
        return None


def _follow(spec: importlib.machinery.ModuleSpec, action: Action) -> None:
    """Run the action after the module's own code, by way of this one loader object."""
    loader = spec.loader
    if loader is None:
        return
    execute = loader.exec_module

    def execute_and_act(module: ModuleType) -> None:
        del loader.exec_module
        execute(module)
        action(module)

    loader.exec_module = execute_and_act  # type: ignore[method-assign]
