"""What the warm parent's imports import, and which variables they read: what a fork of it must be compared by."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

from swarmtrain.worker.warm.shelf import is_made


@dataclass
class ImportRecord:
    """By the name of the module whose own code ran: the modules that it imported, the variables that it read."""

    imports: dict[str, set[str]] = field(default_factory=dict)
    reads: dict[str, set[str]] = field(default_factory=dict)
    sets: dict[str, dict[str, str]] = field(default_factory=dict)  # the variables that it set

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Keep the record while the block runs, which imports."""
        importing, kind, modules = builtins.__import__, type(os.environ), sys.modules
        reading, setting = kind.__getitem__, kind.__setitem__
        calling, imports = sys._getframe, self.imports

        # Nearly thirty thousand calls while torch is imported, half of them by a module's own code.
        def import_and_record(
            name: str,
            globals: Mapping[str, Any] | None = None,
            locals: Mapping[str, Any] | None = None,
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> ModuleType:
            module = importing(name, globals, locals, fromlist, level)
            frame = calling(1)
            is_own = frame.f_code.co_name == "<module>"
            importer = str(frame.f_globals.get("__name__")) if is_own else _importer(frame)
            if level:
                package = str((globals or {}).get("__package__"))
                base = package.rsplit(".", level - 1)[0]
                name = f"{base}.{name}" if name else base
            imported = imports.get(importer)
            if imported is None:
                imported = imports[importer] = set()
            imported.add(name)
            if fromlist and "__path__" in getattr(module, "__dict__", ()):  # else no modules come from it
                for part in fromlist:
                    if (whole := f"{name}.{part}") in modules:
                        imported.add(whole)
            return module

        def read_and_record(environ: os._Environ[str], name: str) -> str:
            self.reads.setdefault(_importer(sys._getframe(1)), set()).add(name)
            return reading(environ, name)

        def set_and_record(environ: os._Environ[str], name: str, value: str) -> None:
            self.sets.setdefault(_importer(sys._getframe(1)), {})[name] = value
            setting(environ, name, value)

        builtins.__import__ = import_and_record
        kind.__setitem__ = set_and_record  # type: ignore[method-assign]
        kind.__getitem__ = read_and_record  # type: ignore[method-assign]
        sys.meta_path.insert(0, self)
        before = set(sys.modules)
        try:
            yield
        finally:
            self.imports = {name: imports.get(name, set()) for name in modules.keys() - before}
            for name in self.imports:
                if is_made(modules[name]):
                    self.imports.get(name.rpartition(".")[0], set()).add(name)
            sys.meta_path.remove(self)
            kind.__getitem__ = reading  # type: ignore[method-assign]
            kind.__setitem__ = setting  # type: ignore[method-assign]
            builtins.__import__ = importing

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing, but see what ``importlib.import_module`` looks for, and C code."""
        self.imports.setdefault(_importer(sys._getframe(1)), set()).add(name)
        return None


def _importer(frame: FrameType | None) -> str:
    """The module whose code is being run for the first time; what its functions import is on its account."""
    while frame is not None and (
        frame.f_code.co_name != "<module>" or frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")) if frame else ""
