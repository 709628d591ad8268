"""The published dashboard as one reproducible zip that Python can execute: page, server, and how a run is asked.

It has to fit into a config of the Swarm, so comments and docstrings stay here, and to work in any image with starlette
and uvicorn, so nothing is in it that needs more. Files of the page are served from a disk: it unpacks itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from swarmtrain.payload import zips
from swarmtrain.payload.bare import bare
from swarmtrain.payload.bundle import MAX_BYTES, Bundle, digest
from swarmtrain.wire.names import DASHBOARD_PORT

# Directories with all that is in them, and single files.
PARTS = (
    *("errors.py", "structs.py", "wire", "protocol", "diagnosis", "swarm/obstacles.py", "launchers/base.py"),
    *("control", "ui/web"),
)
LACKS = 78  # its exit code where the image has no starlette or uvicorn

_PACKAGE = Path(__file__).parent.parent
_MAIN = f'''\
"""python3 dashboard.zip"""

import importlib.util
import sys
import tempfile
import zipfile

if missing := [each for each in ("starlette", "uvicorn") if importlib.util.find_spec(each) is None]:
    print("this image has no", " and no ".join(missing), file=sys.stderr)
    sys.exit({LACKS})
sys.path[0] = tempfile.mkdtemp(prefix="swarmtrain-")
zipfile.ZipFile(sys.argv[0]).extractall(sys.path[0])

from swarmtrain.ui.web.published.main import main

main({DASHBOARD_PORT})
'''


def build() -> Bundle:
    """The archive of this very version of swarmtrain."""
    data = zips.pack(_members())
    assert len(data) < MAX_BYTES, f"the dashboard of {len(data)} bytes does not fit into a config"
    return Bundle(data, digest(data))


def _members() -> Iterator[zips.ZipMember]:
    yield zips.ZipMember("__main__.py", _MAIN.encode())
    for path in sorted(set(_files())):
        data = path.read_bytes()
        name = f"swarmtrain/{path.relative_to(_PACKAGE).as_posix()}"
        yield zips.ZipMember(name, bare(data) if path.suffix == ".py" else data)


def _files() -> Iterator[Path]:
    for part in PARTS:
        path = _PACKAGE / part
        if path.is_dir():
            yield from (each for each in path.rglob("*") if each.is_file() and each.suffix != ".pyc")
        else:
            yield path
        for directory in path.relative_to(_PACKAGE).parents:
            yield _PACKAGE / directory / "__init__.py"
