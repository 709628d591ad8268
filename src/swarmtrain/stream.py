"""The modules of the bundle, which are one compressed stream in it.

Python can import from a zip by itself, but opens it anew for each module and inflates each by itself: from a stream, an
agent of a hundred modules takes three quarters of the processor time to start, and the bundle is a third smaller
(benchmarks/bundle.py). `swarmtrain/__init__.py` is a plain file of the zip and calls `adopt`, so whoever finds that
imports the rest as ever: a part of swarmtrain, a user's script, a child of its own. The stream is opened when the first
of its modules is wanted, by a health check never.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

NAME = "swarmtrain/modules.z"  # in the zip
PREFIX = "swarmtrain."  # of the modules' names
_END = b"\0"  # of the names, which come first


def pack(modules: Mapping[str, bytes]) -> bytes:
    """The stream of some modules.

    Args:
        modules: their sources by paths, such as ``swarmtrain/wire/names.py``.
    """
    names = sorted(modules)
    head = "\n".join(f"{len(modules[name])} {name}" for name in names).encode()
    return zlib.compress(head + _END + b"".join(modules[name] for name in names), 9)


def unpack(stream: bytes) -> dict[str, bytes]:
    """The modules of a stream."""
    data = zlib.decompress(stream)
    start = data.index(_END)
    found, at = {}, start + len(_END)
    for line in data[:start].decode().splitlines():
        size, _, name = line.partition(" ")
        found[name], at = data[at : at + int(size)], at + int(size)
    return found


class Stream:
    """Finds and loads the modules of a stream, as `zipimport.zipimporter` does those of a zip.

    Args:
        archive: the path of the zip.
        read: reads the stream, once the first of its modules is wanted.
    """

    def __init__(self, archive: str, read: Callable[[], bytes]) -> None:
        self._archive, self._read = archive, read
        self._opened: dict[str, bytes] | None = None

    @property
    def _modules(self) -> dict[str, bytes]:
        if self._opened is None:
            self._opened = unpack(self._read())
        return self._opened

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if not name.startswith(PREFIX):
            return None
        inside = name.replace(".", "/")
        for member, is_package in ((f"{inside}/__init__.py", True), (f"{inside}.py", False)):
            if member in self._modules:
                origin = f"{self._archive}/{member}"
                # A Loader by what it does: importing importlib.abc would take as long as some of our modules.
                spec = ModuleSpec(name, self, origin=origin, is_package=is_package)  # type: ignore[arg-type]
                spec.has_location = True
                if is_package:
                    spec.submodule_search_locations = [f"{self._archive}/{inside}"]
                return spec
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See `importlib.abc.Loader`."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """See `importlib.abc.Loader`."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        """See `importlib.abc.InspectLoader`."""
        code: CodeType = compile(self._source(name), self.get_filename(name), "exec", dont_inherit=True)
        return code

    def get_source(self, name: str) -> str:
        """See `importlib.abc.InspectLoader`: tracebacks and `inspect` ask for it."""
        return self._source(name).decode()

    def _source(self, name: str) -> bytes:
        return self._modules[self.get_filename(name).removeprefix(f"{self._archive}/")]

    def get_filename(self, name: str) -> str:
        """See `importlib.abc.ExecutionLoader`."""
        spec = self.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImportError(f"there is no {name} in {self._archive}", name=name)
        return spec.origin

    def is_package(self, name: str) -> bool:
        """See `importlib.abc.InspectLoader`."""
        return self.get_filename(name).endswith("/__init__.py")


def adopt(package: ModuleType) -> None:
    """Have the modules of a package in a zip found that are in the stream there."""
    loader = package.__loader__
    archive = loader.archive  # type: ignore[union-attr]  # zipimport's
    read = partial(loader.get_data, f"{archive}/{NAME}")  # type: ignore[union-attr]
    # Last: what is a plain file of the zip is found there.
    sys.meta_path.append(Stream(archive, read))
