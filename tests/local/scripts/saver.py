"""Saves as scripts do that know of one machine: argv[1] says how. Trains nothing; its epochs are a clock.

once      rank 0 alone writes snapshot.pt anew
all       every rank writes its own to the same path
folders   rank 0 writes checkpoint-N/, two files with a moment between them, and removes all but the last two
half      as folders, but generation 1 waits for "go" after the second, and stands still in the middle of the third
rotate    rank 0 writes checkpoint-N/, of 40 MB after the first, and removes the one before
pointer   rank 0 writes step-N/, the same, and its name into `latest`, from which all go on; removes the one before
link      as pointer, but `latest` is a link
          these three wait after the first for "go", a file beside the one at which all end
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


def save_large(place, epoch):
    place.mkdir()
    save(place / "model.pt", epoch)
    (place / "large.bin").write_bytes(os.urandom((40 if epoch > 1 else 1) << 20))
    save(place / "optimizer.pt", epoch)


def wait_after(last, epoch):
    while epoch == last and not stop.with_name("go").exists():
        time.sleep(0.1)


start = {"epoch": 0, "rank": None}
if how in ("folders", "half", "rotate") and folders():
    start = load(folders()[-1] / "model.pt")
    assert load(folders()[-1] / "optimizer.pt") == start, "half a checkpoint"
elif how == "pointer" and Path("latest").exists():
    start = load(Path(Path("latest").read_text()) / "model.pt")
elif how == "link" and Path("latest").exists():
    start = load("latest/model.pt")
elif how == "parts" and folders():
    parts = [load(folders()[-1] / f"part-{each}.pt") for each in (0, 1)]
    start = parts[0] | {"rank": None}
    assert parts[1]["epoch"] == start["epoch"], parts
elif Path("snapshot.pt").exists():
    start = load("snapshot.pt")
print("from", json.dumps(start), flush=True)

epoch, half = start["epoch"], how == "half" and start["epoch"] == 0
while not stop.exists():
    time.sleep(pause)
    epoch += 1
    if how in ("folders", "half") and rank == 0:
        place = Path(f"checkpoint-{epoch}")
        place.mkdir()
        save(place / "model.pt", epoch)
        time.sleep(pause)
        while half and epoch == 3 and not stop.exists():
            time.sleep(0.1)
        save(place / "optimizer.pt", epoch)
        if half:
            wait_after(2, epoch)
        for old in folders()[:-2]:
            shutil.rmtree(old)
    elif how == "rotate" and rank == 0:
        save_large(Path(f"checkpoint-{epoch}"), epoch)
        for old in folders()[:-1]:
            shutil.rmtree(old)
        wait_after(1, epoch)
    elif how in ("pointer", "link") and rank == 0:
        save_large(Path(f"step-{epoch}"), epoch)
        if how == "link":
            Path("latest.tmp").symlink_to(f"step-{epoch}")
        else:
            Path("latest.tmp").write_text(f"step-{epoch}")
        Path("latest.tmp").replace("latest")
        shutil.rmtree(f"step-{epoch - 1}", ignore_errors=True)
        wait_after(1, epoch)
    elif how == "parts":
        place = Path(f"checkpoint-{epoch}")
        place.mkdir(exist_ok=True)
        save(place / f"part-{rank}.pt", epoch)
    elif how == "all" or (how == "once" and rank == 0):
        save("snapshot.pt", epoch)
    print("epoch", epoch, flush=True)
