"""What a service starts: torchrun and its options, found in whatever way a command may be written. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from swarmtrain.doctor.compose.source import ComposeSource, Written

_MODULES = ("torch.distributed.run", "torch.distributed.launch")
_SHELLS = ("sh", "bash", "dash", "ash", "zsh")
_SWITCHES = frozenset(["standalone", "no_python", "run_path", "use_env"])
_SHORT = {"-r": "redirects", "-t": "tee", "-m": "module"}


@dataclass(frozen=True)
class TorchrunOption:
    """The value of an option, and the line that it stands in."""

    text: str
    line: int


@dataclass(frozen=True)
class Launch:
    """One start of torchrun.

    Args:
        line: of the command.
        options: by their names with underscores.
        words: the script and what follows it.
    """

    line: int
    options: Mapping[str, TorchrunOption] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def get(self, name: str) -> str:
        """The value of an option; empty where it is not given."""
        option = self.options.get(name)
        return option.text if option else ""

    def where(self, name: str) -> int:
        """The line of an option, or that of the command."""
        option = self.options.get(name)
        return option.line if option else self.line

    @property
    def is_static(self) -> bool:
        """Whether ranks are fixed on the command line: torchrun's rendezvous is the static one then."""
        return self.get("rdzv_backend") in ("", "static") and not self.get("rdzv_endpoint")

    @property
    def nodes(self) -> tuple[int, int] | None:
        """``nnodes`` as the least and the most; None where it is no number."""
        found = re.fullmatch(r"(\d+)(?::(\d+))?", self.get("nnodes") or "1")
        return (int(found[1]), int(found[2] or found[1])) if found else None

    @property
    def workers(self) -> int | None:
        """``nproc_per_node``; None where torchrun counts itself."""
        text = self.get("nproc_per_node") or "1"
        return int(text) if text.isdecimal() else None

    @property
    def rdzv_conf(self) -> dict[str, str]:
        """``rdzv_conf`` as keys and values."""
        pairs = (each.partition("=") for each in self.get("rdzv_conf").split(",") if each)
        return {key.strip(): value.strip() for key, _, value in pairs}

    @property
    def meeting(self) -> tuple[str, str, int]:
        """Host, port and line of where its nodes meet; empty where none is given."""
        if self.is_static:
            return self.get("master_addr"), self.get("master_port"), self.where("master_addr")
        host, _, port = self.get("rdzv_endpoint").rpartition(":")
        endpoint = self.get("rdzv_endpoint")
        return host.strip("[]") or endpoint, port if host else "", self.where("rdzv_endpoint")

    def value_of(self, flag: str) -> str:
        """The value of a flag of the script itself."""
        for index, word in enumerate(self.words):
            if word == flag and index + 1 < len(self.words):
                return self.words[index + 1]
            if word.startswith(f"{flag}="):
                return word.partition("=")[2]
        return ""


def words_of(written: Written | None) -> list[str]:
    """The words of a command or an entrypoint, a text or a list."""
    if written is None:
        return []
    if isinstance(written.value, str):
        return _split(written.value)
    return [item.text() for item in written.items()]


def launch_of(source: ComposeSource, service: Written) -> Launch | None:
    """How a service starts torchrun; None where it does not."""
    command = service.get("command") or service.get("entrypoint")
    if command is None:
        return None
    words = _without_shell([*words_of(service.get("entrypoint")), *words_of(service.get("command"))])
    start = _start(words)
    if start is None:
        return None
    return _parsed(source, command, words[start:])


def _without_shell(words: Sequence[str]) -> list[str]:
    """``bash -lc "exec torchrun ..."`` as the command that it runs."""
    for index, word in enumerate(words[:-1]):
        if word.startswith("-") and word.endswith("c") and index and _base(words[index - 1]) in _SHELLS:
            return _split(words[index + 1])
    return list(words)


def _start(words: Sequence[str]) -> int | None:
    """Where torchrun's own arguments begin."""
    for index, word in enumerate(words):
        if _base(word) == "torchrun":
            return index + 1
        if word == "-m" and index + 1 < len(words) and words[index + 1] in _MODULES:
            return index + 2
    return None


def _parsed(source: ComposeSource, command: Written, words: Sequence[str]) -> Launch:
    options: dict[str, TorchrunOption] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        flag, given, value = rest.pop(0).partition("=")
        name = _SHORT.get(flag, flag.lstrip("-").replace("-", "_"))
        if name == "module":
            break
        if not given and name not in _SWITCHES:
            value = rest.pop(0) if rest else ""
        options[name] = TorchrunOption(value, source.line_of(flag, command))
    return Launch(command.line, options, tuple(rest))


def _base(word: str) -> str:
    return word.rpartition("/")[2]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
