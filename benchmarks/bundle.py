"""What the parts of the bundle cost at their start, from a stream and from a plain zip of the same modules.

    python benchmarks/bundle.py [ROUNDS]

Processor milliseconds of a process that imports a part and ends, and the sizes of both. Goal: the stream costs less.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from swarmtrain import stream
from swarmtrain.payload import bundle, zips

PARTS = {
    "agent": "swarmtrain.agent.agent",
    "coordinator": "swarmtrain.coordinator.main",
    "spawner": "swarmtrain.worker.spawner",
    "connect": "swarmtrain.coordinator.clients.connect",
    "alive (the health check)": "swarmtrain.wire.alive",
}
# asyncio without ssl, as `inside` has it
CODE = "import sys; sys.path.insert(0, {path!r}); sys.modules['ssl'] = None; import {part}"


def milliseconds(path: Path, part: str) -> float:
    """Processor time of one process."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", CODE.format(path=str(path), part=part)])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{part} cannot be imported from {path}")
    return 1000 * (used.ru_utime + used.ru_stime)


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as directory:
        streamed, plain = Path(directory) / "stream.zip", Path(directory) / "plain.zip"
        streamed.write_bytes(bundle.build().data)
        members = {each.name: each.data for each in zips.unpack(bundle.build().data)}
        members |= stream.unpack(members.pop(stream.NAME))
        members["swarmtrain/__init__.py"] = members["swarmtrain/__init__.py"].partition(
            b"from swarmtrain.stream"
        )[0]
        plain.write_bytes(zips.pack(zips.ZipMember(name, data) for name, data in members.items()))
        spent: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in PARTS}
        for _ in range(rounds):
            for name, part in PARTS.items():
                for path, values in zip((streamed, plain), spent[name], strict=True):
                    values.append(milliseconds(path, part))
        sizes = streamed.stat().st_size, plain.stat().st_size
    print("| processor ms | stream | plain zip | ratio |\n|---|---|---|---|")
    ratios = {}
    for name, both in spent.items():
        mine, theirs = map(statistics.median, both)
        ratios[name] = mine / theirs
        print(f"| {name} | {mine:.0f} | {theirs:.0f} | {ratios[name]:.2f} |")
    print(f"| size in KB | {sizes[0] / 1000:.0f} | {sizes[1] / 1000:.0f} | {sizes[0] / sizes[1]:.2f} |")
    return 0 if max(ratios["agent"], ratios["coordinator"], ratios["spawner"]) < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
