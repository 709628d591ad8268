"""Saves as scripts do that know of one machine: argv[1] says how. Trains nothing; its epochs are a clock.

once      rank 0 alone writes snapshot.pt anew
all       every rank writes its own to the same path
folders   rank 0 writes checkpoint-N/, two files with a moment between them, and removes all but the last two
parts     of two ranks each writes a file of its own in checkpoint-N/
"""

import json
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path

how, pause, stop = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
rank = int(os.environ["RANK"])


def save(path, epoch):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("state", json.dumps({"epoch": epoch, "rank": rank}))


def load(path):
    return json.loads(zipfile.ZipFile(path).read("state"))


def folders():
    return sorted(Path().glob("checkpoint-*"), key=lambda each: int(each.name.partition("-")[2]))


start = {"epoch": 0, "rank": None}
if how == "folders" and folders():
    start = load(folders()[-1] / "model.pt")
    assert load(folders()[-1] / "optimizer.pt") == start, "half a checkpoint"
elif how == "parts" and folders():
    parts = [load(folders()[-1] / f"part-{each}.pt") for each in (0, 1)]
    start = parts[0] | {"rank": None}
    assert parts[1]["epoch"] == start["epoch"], parts
elif Path("snapshot.pt").exists():
    start = load("snapshot.pt")
print("from", json.dumps(start), flush=True)

epoch = start["epoch"]
while not stop.exists():
    time.sleep(pause)
    epoch += 1
    if how == "folders" and rank == 0:
        place = Path(f"checkpoint-{epoch}")
        place.mkdir()
        save(place / "model.pt", epoch)
        time.sleep(pause)
        save(place / "optimizer.pt", epoch)
        for old in folders()[:-2]:
            shutil.rmtree(old)
    elif how == "parts":
        place = Path(f"checkpoint-{epoch}")
        place.mkdir(exist_ok=True)
        save(place / f"part-{rank}.pt", epoch)
    elif how == "all" or (how == "once" and rank == 0):
        save("snapshot.pt", epoch)
    print("epoch", epoch, flush=True)
