"""Where a run comes from: kept with it by its launcher, since a name made of ``train.py`` says little.

It is what `--resume` compares before one project goes on in another's directories, and the command line that asks for
the same job again. Everybody who may list runs can read it, so it holds no variable's value.
"""

from __future__ import annotations

import json
import shlex
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from swarmtrain.job.load import LoadedJob


@dataclass(frozen=True)
class Origin:
    """Where a job was submitted, and by which command line.

    Args:
        host: the machine.
        directory: the job's directory there.
        cwd: the directory that the command line was typed in.
        words: what followed ``swarmtrain run``, less what is said anew each time; empty when it came from Python.
    """

    host: str
    directory: str
    cwd: str
    words: tuple[str, ...] = ()

    @staticmethod
    def of(loaded: LoadedJob) -> Origin:
        """The origin of a job that is submitted here and now."""
        return Origin(socket.gethostname(), str(loaded.directory), str(Path.cwd()), loaded.words)

    def dump(self) -> str:
        """As JSON, on one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def load(text: str) -> Origin | None:
        """Read what :meth:`dump` wrote; None where it is nothing of that kind."""
        try:
            fields = json.loads(text)
            return Origin(**{**fields, "words": tuple(fields["words"])})
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether its paths are this machine's."""
        return self.host == socket.gethostname()

    def resume_line(self, on: str) -> str:
        """The command line that goes on with the job, as it can be typed here; empty when it came from Python."""
        if not self.words:
            return ""
        there = "" if Path(self.cwd) == Path.cwd() else f"cd {shlex.quote(self.cwd)} && "
        return f"{there}swarmtrain run --on {on} --resume {shlex.join(self.words)}"
