"""The import of asyncio, in the parts of the bundle that talk; none of them speaks TLS."""

from __future__ import annotations

import importlib
import sys


def import_asyncio() -> None:
    """Import asyncio as a Python without OpenSSL does: `ssl` is a good part of the import.

    Not where a script of the user's may run, who is to find asyncio whole.
    """
    # importlib's own mark of a module that is not to be found
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("asyncio")
    finally:
        del sys.modules["ssl"]
