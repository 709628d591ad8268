"""The Debian image that the lab's images are built on: from a registry, or where none can be reached from packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from swarmtrain.docker.command import Docker
from swarmtrain.errors import ClusterError

REGISTRY = "https://registry-1.docker.io/v2/"
PROBE_SECONDS = 4.0
PULL_SECONDS = 300.0

# What a container has no use for and would only be copied to every node.
NEEDLESS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")

Say = Callable[[str], None]


def ensure_base(engine: Docker, release: str, say: Say) -> str:
    """The reference of a minimal image of a Debian release that is on this engine now."""
    public = f"debian:{release}-slim"
    own = f"swarmtrain/base:{release}"  # a public tag on somebody's machine is never shadowed
    for tag in (public, own):
        if engine.completed("image", "inspect", tag).returncode == 0:
            return tag
    # The engine may reach a mirror where this process reaches nothing, and the other way round.
    mirrors = engine.json_lines("info")[0].get("RegistryConfig", {}).get("Mirrors")
    if mirrors or registry_answers():
        say(f"pulling {public}")
        if engine.completed("pull", "--quiet", public, timeout=PULL_SECONDS).returncode == 0:
            return public
    say(f"no image registry can be reached: making {own} from Debian packages (about a minute)")
    bootstrap(engine, release, own)
    return own


def registry_answers(url: str = REGISTRY, seconds: float = PROBE_SECONDS) -> bool:
    """Whether a registry gives any HTTP answer within ``seconds``.

    In a thread of its own, because looking up a name obeys no time limit.
    """
    answered = threading.Event()

    def probe() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
        except urllib.error.HTTPError:
            pass  # 401 is what an open registry says to somebody it does not know
        except OSError:
            return
        answered.set()

    prober = threading.Thread(target=probe, daemon=True)
    prober.start()
    prober.join(seconds)
    return answered.is_set()


def bootstrap(engine: Docker, release: str, tag: str) -> None:
    """Make a minimal image of a Debian release with debootstrap and import it."""
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise ClusterError(
            "no image registry can be reached, and making an image from Debian packages needs root and debootstrap",
            f"apt-get install debootstrap, and run this as root; or docker load a saved debian:{release}-slim",
        )
    with tempfile.TemporaryDirectory(prefix="swarmtrain-base-") as scratch:
        root = Path(scratch) / "root"
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", release, str(root)], capture_output=True, text=True
        )
        if made.returncode != 0:
            raise ClusterError(
                f"debootstrap failed: {(made.stdout + made.stderr).strip().splitlines()[-1:]}",
                f"see that the Debian mirror can be reached: debootstrap --variant=minbase {release} DIRECTORY",
            )
        trim(root)
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
            imported = engine.popen(
                "import", "-", tag, stdin=tar.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            _, complaint = imported.communicate()
        if tar.returncode != 0 or imported.returncode != 0:
            raise ClusterError(f"docker could not import {tag}: {complaint.decode(errors='replace').strip()}")


def trim(root: Path) -> None:
    """Make a fresh system as small as the public slim image, and keep package caches out of later layers too."""
    for place in NEEDLESS:
        shutil.rmtree(root / place, ignore_errors=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
        'Acquire::Languages "none";\n'
    )
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(
        "force-unsafe-io\npath-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\n"
        "path-exclude /usr/share/locale/*\n"
    )
