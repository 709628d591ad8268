"""Settings that follow the import of a module, with a module that stands for torch's."""

from __future__ import annotations

import importlib
import inspect
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

from swarmtrain.worker.instruments import store, torch_setup


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that can be imported, and whose import is to be followed."""
    (tmp_path / "stand_in_for_torch.py").write_text(
        "from datetime import timedelta\n"
        "default_pg_timeout = timedelta(minutes=30)\n"
        "default_pg_nccl_timeout = None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        torch_setup, "_ACTIONS", {"stand_in_for_torch": torch_setup.set_process_group_timeout}
    )
    finders = list(sys.meta_path)
    yield "stand_in_for_torch"
    sys.modules.pop("stand_in_for_torch", None)
    sys.meta_path[:] = finders


def test_action_follows_a_later_import_and_leaves_no_trace(
    stand_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMTRAIN_TIMEOUT", "90")
    finders = list(sys.meta_path)
    torch_setup.set_up()
    assert stand_in not in sys.modules
    module = importlib.import_module(stand_in)
    assert module.default_pg_timeout == timedelta(seconds=90)
    assert module.default_pg_nccl_timeout is None
    assert sys.meta_path == finders
    assert "default_pg_timeout" in inspect.getsource(module)
    assert vars(module.__loader__).keys() == {"name", "path"}


def test_action_runs_at_once_where_the_module_is_there(
    stand_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARMTRAIN_TIMEOUT", "90")
    module = importlib.import_module(stand_in)
    finders = list(sys.meta_path)
    torch_setup.set_up()
    assert module.default_pg_timeout == timedelta(seconds=90)
    assert sys.meta_path == finders


def test_module_that_is_not_to_be_found_is_missing_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_setup, "_ACTIONS", {"no_such_module": torch_setup.set_process_group_timeout})
    torch_setup.set_up()
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module'"):
        importlib.import_module("no_such_module")


@pytest.mark.parametrize("text", ["", "0", "inf", "nan", "-1"])
def test_timeout_that_sets_no_limit_leaves_torchs_own(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMTRAIN_TIMEOUT", text)
    module = ModuleType("c10d")
    own = timedelta(minutes=30)
    vars(module).update(default_pg_timeout=own, default_pg_nccl_timeout=own)
    torch_setup.set_process_group_timeout(module)
    assert (module.default_pg_timeout, module.default_pg_nccl_timeout) == (own, own)


def test_timeout_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMTRAIN_TIMEOUT", "soon")
    with pytest.raises(ValueError, match="SWARMTRAIN_TIMEOUT must be a number of seconds, not 'soon'"):
        torch_setup.set_process_group_timeout(ModuleType("c10d"))


def _rendezvous() -> ModuleType:
    """What torch does: it asks by name whether the agent holds the store, and then connects."""
    module = ModuleType("rendezvous")
    code = """
import socket
def _torchelastic_use_agent_store():
    return False
def _create_c10d_store(hostname, port, rank, world_size, timeout):
    if _torchelastic_use_agent_store() or rank == 0:
        return None
    return socket.create_connection((hostname, port), 1)
"""
    exec(code, vars(module))
    return module


def test_rank_connects_once_the_store_listens() -> None:
    module = _rendezvous()
    store.wait_for_the_store(module)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        host, port = server.getsockname()
        opening = threading.Timer(0.05, server.listen)  # until then, it is refused
        opening.start()
        module._create_c10d_store(host, port, 1, 2, None).close()
        opening.join()


def test_rank_that_holds_the_store_does_not_wait_for_it() -> None:
    module = _rendezvous()
    store.wait_for_the_store(module)
    assert module._create_c10d_store("127.0.0.1", 1, 0, 2, None) is None


def test_no_frame_of_ours_stands_where_the_store_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _rendezvous()
    monkeypatch.setattr(store, "_AT_MOST", 0.0)
    store.wait_for_the_store(module)
    with pytest.raises(ConnectionRefusedError) as refused:
        module._create_c10d_store("127.0.0.1", 1, 1, 2, None)
    assert store.__file__ not in [str(entry.path) for entry in refused.traceback]


def test_no_rank_waits_for_longer_than_its_script_would(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    module = _rendezvous()
    store.wait_for_the_store(module)
    monkeypatch.setattr(store, "_until_it_listens", lambda host, port, most=None: tried.append(most))
    for timeout in (timedelta(seconds=2), timedelta(minutes=30), None):
        with pytest.raises(ConnectionRefusedError):
            module._create_c10d_store("127.0.0.1", 1, 1, 2, timeout)
    assert tried == [2.0, store._AT_MOST, store._AT_MOST]


def test_a_name_that_no_host_can_have_is_the_scripts_error() -> None:
    module = _rendezvous()
    store.wait_for_the_store(module)
    with pytest.raises(UnicodeError) as refused:
        module._create_c10d_store("a..b", 1, 1, 2, None)
    assert store.__file__ not in [str(entry.path) for entry in refused.traceback]


@pytest.mark.torch
def test_torch_asks_for_the_store_as_we_think() -> None:
    importlib.import_module("torch.distributed")
    make = sys.modules["torch.distributed.rendezvous"]._create_c10d_store
    assert list(inspect.signature(make).parameters)[:3] == ["hostname", "port", "rank"]
    assert "_torchelastic_use_agent_store" in make.__code__.co_names
