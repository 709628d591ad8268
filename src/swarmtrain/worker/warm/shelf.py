"""Modules that are there already when a program starts, kept out of its sight until it imports them.

Our own code has imported parts of the library, and a warm parent has imported torch with all that it needs. A program
would find them in ``sys.modules`` and take them, whatever it has put first on ``sys.path``. So they are laid aside, and
each is handed out when it is imported, together with what it imports itself, if the import would find it where it was
found for us; else the program gets the one that it would have got from a fresh interpreter.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# What the interpreter has imported before a program's first line. All else is found again when it is asked for.
_AT_START = frozenset(
    [
        *(
            "__main__",
            "builtins",
            "sys",
            "marshal",
            "time",
            "zipimport",
            "site",
            "sitecustomize",
            "usercustomize",
        ),
        *(
            "_frozen_importlib",
            "_frozen_importlib_external",
            "_imp",
            "_thread",
            "_warnings",
            "_weakref",
            "_signal",
        ),
        *("_abc", "abc", "_io", "io", "_codecs", "codecs", "encodings", "_collections_abc", "_sitebuiltins"),
        *("_stat", "stat", "os", "os.path", "posix", "posixpath", "genericpath"),
    ]
)

_ALIAS = "__mp_main__"  # what multiprocessing calls the program's module, from when it is imported


class Shelf(importlib.abc.MetaPathFinder):
    """The finder that hands them out.

    Args:
        imports: which modules a module imports, as far as that was recorded.
        before: called with the names of what is about to be handed out, and of what of that the program has in a
            version of its own.
    """

    def __init__(
        self,
        imports: Mapping[str, set[str]] | None = None,
        before: Callable[[set[str], set[str]], None] = lambda names, replaced: None,
    ) -> None:
        self._imports = imports or {}
        self._made: dict[str, set[str]] = {}  # by a package: modules without a record that it has made
        self._held: dict[str, set[str]] = {}  # by a module without a record: the modules of what it holds
        self._before = before
        self._modules: dict[str, ModuleType] = {}
        self._replaced: set[str] = set()

    def hide(self) -> None:
        """Lay aside everything but ourselves and what a fresh interpreter has, too."""
        for name, module in list(sys.modules.items()):
            top = name.partition(".")[0]
            if name in _AT_START or top in ("encodings", "swarmtrain") or not isinstance(module, ModuleType):
                continue
            self._modules[name] = module
            del sys.modules[name]
        self._modules.pop(_ALIAS, None)
        for name, module in self._modules.items():
            parent, _, child = name.rpartition(".")
            if not parent:
                continue
            if name not in self._imports and is_made(module):
                self._made.setdefault(parent, set()).add(name)
            # Only of packages that nobody uses before the program does; the library serves us, too.
            package = self._modules.get(parent)
            if package is None or name.partition(".")[0] in sys.stdlib_module_names:
                continue
            if vars(package).get(child) is module:
                delattr(package, child)
        sys.meta_path.insert(0, self)

    def put_back(self) -> None:
        """Hide nothing any more: what was registered for the end of the process may need it."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._hand_out(set(self._modules) - sys.modules.keys())

    def __contains__(self, name: str) -> bool:
        return name in self._modules

    def names(self) -> set[str]:
        """What is still laid aside."""
        return set(self._modules)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find; if it is what we have, its loader will hand that out."""
        if name not in self._modules:
            return None
        spec = self._found(name, path)
        if self._differs(name, spec):
            for each in [each for each in self._modules if each == name or each.startswith(f"{name}.")]:
                del self._modules[each]  # the program's own, and its parts
            self._replaced.add(name)
            return spec
        spec = spec or self._modules[name].__spec__  # made by hand, or found where nobody looks any more
        if spec is not None:
            handing = ModuleSpec(name, _Handing(self, spec.loader), origin=spec.origin)
            handing.submodule_search_locations = spec.submodule_search_locations
            handing.cached, handing.has_location = spec.cached, spec.has_location
            spec = handing
        return spec

    def take(self, name: str) -> ModuleType:
        """The module of this name, from now on the program's; so is what it imports."""
        reached = self._reached(name)
        names = reached & self._modules.keys()
        tops = {each.partition(".")[0] for each in names}
        replaced = {
            top for top in tops if top in self._modules and self._differs(top, self._found(top, None))
        }
        replaced |= self._replaced & reached
        self._before(names, replaced)
        module = self._modules[name]
        self._hand_out(names)
        return module

    def _hand_out(self, names: set[str]) -> None:
        for name in [each for each in self._modules if each in names]:
            sys.modules[name] = self._modules[name]
        for name in names:
            parent, _, child = name.rpartition(".")
            module = self._modules.pop(name)
            if parent in sys.modules and child not in vars(sys.modules[parent]):
                setattr(sys.modules[parent], child, module)
        if "multiprocessing" in names:
            sys.modules[_ALIAS] = sys.modules["__main__"]

    def _reached(self, name: str) -> set[str]:
        reached: set[str] = set()
        pending = {name}
        while pending:
            each = pending.pop()
            reached.add(each)
            pending |= self._imported_by(each) - reached
            if (parent := each.rpartition(".")[0]) not in reached:
                pending.add(parent)
        return reached - {""}

    def _imported_by(self, name: str) -> set[str]:
        """As recorded; of what came before that, by what it holds: other modules, and what was defined in them."""
        imported = self._imports.get(name, self._held.get(name))
        if imported is None:
            imported = self._held[name] = self._held_by(name)
        return imported | self._made[name] if name in self._made else imported

    def _held_by(self, name: str) -> set[str]:
        module = self._modules.get(name)
        if module is None:
            return set()
        held = {
            value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))
            for value in vars(module).values()
            if isinstance(value, (ModuleType, type)) or callable(value)
        }
        return held.difference(self._imports)  # torch puts functions of its own into modules of the library

    def _found(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, None)
                if spec is not None:
                    return spec
        return None

    def _differs(self, name: str, found: ModuleSpec | None) -> bool:
        ours = self._modules[name].__spec__
        if found is None or ours is None:
            return False
        return (found.origin, _first(found)) != (ours.origin, _first(ours))


def is_made(module: object) -> bool:
    """Whether a module was made by its package, and no import would find it, as torch.ops."""
    return isinstance(module, ModuleType) and vars(module).get("__spec__") is None


def _first(spec: ModuleSpec) -> str | None:
    """Where a package without a file of its own lies."""
    return next(iter(spec.submodule_search_locations or ()), None) if spec.origin is None else None


class _Handing(importlib.abc.Loader):
    """Hands out what is there, in place of loading it; of all other things its genuine loader knows."""

    def __init__(self, shelf: Shelf, loader: Any) -> None:
        self._shelf, self._loader = shelf, loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The module as it is."""
        self._module = self._shelf.take(spec.name)
        self._spec = self._module.__spec__
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Its code has run; the import system has given it another specification."""
        module.__spec__ = self._spec

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
