"""The bundle: the packages that run in containers, as one reproducible zip that Python can execute.

Launchers deliver it to every node; there ``python3 bundle.zip WHAT`` is the only command (see `swarmtrain.inside`).
Comments and docstrings stay here, since it has to fit into a config of the Swarm. Its modules are in one stream
(`swarmtrain.stream`), but for those that open it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from swarmtrain import stream
from swarmtrain.payload import zips
from swarmtrain.payload.bare import bare
from swarmtrain.wire.disk import private

PARTS = (
    "errors",
    "stream",
    "structs",
    "inside",
    "wire",
    "protocol",
    "files",
    "diagnosis",
    "coordinator",
    "probe",
    "agent",
    "worker",
    "trainer",
)
MAX_BYTES = 500_000  # the size of a config on old engines
DIGEST_LENGTH = 10  # the name of a config has at most 64 characters, a stack's name among them

_PACKAGE = Path(__file__).parent.parent
_MAIN = b'"""python3 bundle.zip WHAT"""\n\nfrom swarmtrain.inside import main\n\nmain()\n'
_INIT = "swarmtrain/__init__.py"
# What is beside the stream: what opens it, and what a health check is made of.
_PLAIN = (
    *("__main__.py", "swarmtrain/stream.py", "swarmtrain/inside.py", "swarmtrain/structs.py"),
    *(f"swarmtrain/wire/{name}.py" for name in ("__init__", "alive", "clock", "names")),
)
_MAKERS = ("bare.py", "bundle.py", "zips.py")
_ADOPT = b"from swarmtrain.stream import adopt\n\nadopt(__import__(__name__))\n"


class Bundle(NamedTuple):
    """The zip, and the name that its content gives it."""

    data: bytes
    digest: str


@functools.cache
def build() -> Bundle:
    """The bundle of this very version of swarmtrain."""
    try:
        data = on_disk().read_bytes()
    except OSError:  # nothing may be kept here: the run goes on without
        data = _pack()
    return Bundle(data, digest(data))


def digest(data: bytes) -> str:
    """A short name for a content."""
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]


def cache_directory() -> Path:
    """Where files that can be made again are kept."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "swarmtrain"


def on_disk() -> Path:
    """The bundle as a file, for launchers that start processes from it; made when it is not there.

    To make it takes longer than a run takes to submit, so its name says what it is made of, and by what.

    Raises:
        OSError: it cannot be made, or others could put another one in its place.
    """
    made_of = hashlib.sha256()
    makers = (zips.ZipMember(name, (_PACKAGE / "payload" / name).read_bytes()) for name in _MAKERS)
    for member in (*_members(), *makers):
        made_of.update(f"{member.name} {len(member.data)}\n".encode() + member.data)
    path = cache_directory() / f"bundle-{made_of.hexdigest()[:DIGEST_LENGTH]}.zip"
    private.make(path.parent)
    if zips.is_whole(path):
        return path
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".bundle-", delete=False) as aside:
        aside.write(_pack())
    try:
        Path(aside.name).chmod(0o644)
        Path(aside.name).replace(path)
    except OSError:
        Path(aside.name).unlink(missing_ok=True)
        raise
    return path


def _pack() -> bytes:
    modules = {member.name: bare(member.data) for member in _members()}
    plain = {name: modules.pop(name) for name in _PLAIN} | {_INIT: modules.pop(_INIT) + _ADOPT}
    members = plain | {stream.NAME: stream.pack(modules)}
    data = zips.pack(zips.ZipMember(name, content) for name, content in members.items())
    assert len(data) < MAX_BYTES, f"the bundle of {len(data)} bytes does not fit into a config"
    return data


def _members() -> Iterator[zips.ZipMember]:
    """Its files, as they stand in the package."""
    yield zips.ZipMember("__main__.py", _MAIN)
    yield zips.ZipMember("swarmtrain/__init__.py", (_PACKAGE / "__init__.py").read_bytes())
    for part in PARTS:
        path = _PACKAGE / part
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
            yield zips.ZipMember(f"swarmtrain/{source.relative_to(_PACKAGE).as_posix()}", source.read_bytes())
