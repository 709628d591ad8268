"""Writes checkpoints of all kinds, and checks what it finds as it starts. Trains nothing.

argv[1] is the ledger, a directory that no node shares: starts/ has what each rank of each generation has found, and
complete the time, kind and step of each checkpoint that was complete, as rank 0 knew it, and step 0 where it began to
write over one. argv[2] is a file at which
all ranks end. A step is hundredths of seconds since the ledger was made, so no two checkpoints have the same one.

single     rank 0 writes snapshot.pt anew, again and again: an archive, whose format tells whether it is whole
raw        rank 0 writes a file anew, whose format tells nothing
renamed    rank 0 writes a file beside the one before, and renames it
folders    rank 0 writes checkpoint-N/ of three files, and removes all but the last two
slow       rank 0 writes slow/step-N/ of two files, with a pause between them, however long; the last two stay
over       the same, always in one directory
sharded    each rank writes its part, as torch.distributed.checkpoint does, and rank 0 .metadata when all have;
           all but the last two are removed
latest     the same, always in one directory
log        rank 0 appends lines
"""

import hashlib
import json
import os
import pickle
import random
import shutil
import sys
import time
import zipfile
from pathlib import Path

ledger, stop = Path(sys.argv[1]), Path(sys.argv[2])
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
generation = os.environ["SWARMTRAIN_RUN"] + "-g" + os.environ["SWARMTRAIN_GENERATION"]
began = float((ledger / "began").read_text())
draw = random.Random(f"{generation}-{rank}")


# ---- one file --------------------------------------------------------------------------------------------------------


def content(step, name):
    payload = os.urandom(draw.randrange(1 << 10, 1 << 18))
    head = {"step": step, "name": name, "sha256": hashlib.sha256(payload).hexdigest()}
    return json.dumps(head).encode() + b"\n" + payload


def write(path, step, name=None):
    data = content(step, name or path.name)
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        time.sleep(draw.choice([0, 0.01, 0.1]))
        file.write(data[len(data) // 2 :])


def read(path, data=None):
    """The step of a file that is whole."""
    head, _, payload = (path.read_bytes() if data is None else data).partition(b"\n")
    told = json.loads(head)
    assert told["sha256"] == hashlib.sha256(payload).hexdigest(), f"{path} is torn"
    return told["step"]


def one_step(kind, paths):
    steps = {str(path): read(path) for path in paths}
    assert len(set(steps.values())) == 1, f"{kind} is of several steps: {steps}"
    return next(iter(steps.values()))


# ---- what is found ---------------------------------------------------------------------------------------------------


def numbered(pattern):
    return sorted(Path().glob(pattern), key=lambda each: int(each.name.partition("-")[2]))


def find_single():
    with zipfile.ZipFile("snapshot.pt") as archive:
        return read(Path("snapshot.pt"), archive.read("state"))


def find_folders():
    newest = numbered("checkpoint-*")[-1]
    names = sorted(each.name for each in newest.iterdir())
    assert names == ["model.bin", "optimizer.bin", "state.json"], f"{newest} has {names}"
    return one_step("folders", newest.iterdir())


def find_pair(directory):
    names = sorted(each.name for each in directory.iterdir())
    assert names == ["model.bin", "optimizer.bin"], f"{directory} has {names}"
    return one_step(str(directory), directory.iterdir())


def parts(directory):
    with (directory / ".metadata").open("rb") as file:
        told = pickle.load(file)
    files = [directory / name for name in told["files"]]
    assert one_step(str(directory), files) == told["step"], f"{directory} and its metadata differ"
    return told["step"]


def find_log():
    lines = Path("log/train.log").read_text().split("\n")
    steps = [int(line.split()[1]) for line in lines[:-1] if line.startswith("step ") and line.endswith(" .")]
    assert steps == sorted(steps), "the log is out of order"
    return steps[-1]


FIND = {
    "single": ("snapshot.pt", find_single),
    "raw": ("raw/*.bin", lambda: read(Path("raw/state.bin"))),
    "renamed": ("renamed/state.bin", lambda: read(Path("renamed/state.bin"))),
    "folders": ("checkpoint-*", find_folders),
    "slow": ("slow/step-*", lambda: find_pair(numbered("slow/step-*")[-1])),
    "over": ("over/*", lambda: find_pair(Path("over"))),
    "sharded": ("sharded/step-*", lambda: parts(numbered("sharded/step-*")[-1])),
    "latest": ("latest/*", lambda: parts(Path("latest"))),
    "log": ("log/train.log", find_log),
}


def check():
    found, wrong = {}, []
    for kind, (pattern, find) in FIND.items():
        try:
            found[kind] = find() if any(Path().glob(pattern)) else 0
        except Exception as error:
            wrong.append(f"{kind}: {type(error).__name__}: {error}")
    told = ledger / "starts" / f"{generation}-r{rank}.json"
    told.with_suffix(".new").write_text(json.dumps({"found": found, "wrong": wrong, "world": world}))
    told.with_suffix(".new").rename(told)
    assert not wrong, wrong


# ---- what is written -------------------------------------------------------------------------------------------------


def now():
    return int((time.time() - began) * 100)


def complete(kind, step):
    with (ledger / "complete").open("a") as file:
        file.write(f"{time.time()} {kind} {step} {generation}\n")


def save_single(step):
    with zipfile.ZipFile("snapshot.pt", "w") as archive:
        archive.writestr("state", content(step, "snapshot.pt"))


def save_raw(step):
    Path("raw").mkdir(exist_ok=True)
    write(Path("raw/state.bin"), step)


def save_renamed(step):
    Path("renamed").mkdir(exist_ok=True)
    write(Path("renamed/state.bin.tmp"), step)
    Path("renamed/state.bin.tmp").replace("renamed/state.bin")


def save_folders(step):
    place = Path(f"checkpoint-{step}")
    place.mkdir()
    for name in ("model.bin", "optimizer.bin", "state.json"):
        write(place / name, step)
        time.sleep(draw.choice([0, 0.1, 0.3]))
    complete("folders", step)
    for old in numbered("checkpoint-*")[:-2]:
        shutil.rmtree(old)


def pair(kind, place, step):
    """The first tells what is to be there, and has no pause."""
    is_first = not any(place.parent.glob("step-*/optimizer.bin")) and not (place / "optimizer.bin").exists()
    place.mkdir(parents=True, exist_ok=True)
    write(place / "model.bin", step)
    time.sleep(0 if is_first else draw.choice([0, 2.5, 4.0]))
    write(place / "optimizer.bin", step)
    complete(kind, step)


def save_slow(step):
    pair("slow", Path(f"slow/step-{step}"), step)
    for old in numbered("slow/step-*")[:-2]:
        shutil.rmtree(old)


def save_over(step):
    pair("over", Path("over"), step)


def part(directory, step):
    """This rank's part, which the others' wait for: some come late."""
    directory.mkdir(parents=True, exist_ok=True)
    time.sleep(draw.choice([0, 0, 0.3, 2.5]))
    write(directory / f"__{rank}_0.distcp", step)
    (ledger / "parts" / f"{generation}-{directory.name}-{step}-r{rank}").touch()


def metadata(kind, directory, step):
    marks = [ledger / "parts" / f"{generation}-{directory.name}-{step}-r{each}" for each in range(world)]
    while not all(mark.exists() for mark in marks):
        time.sleep(0.02)
    time.sleep(draw.choice([0, 0, 0.3, 2.5]))
    told = {"step": step, "files": [f"__{each}_0.distcp" for each in range(world)]}
    with (directory / ".metadata.tmp").open("wb") as file:
        pickle.dump(told, file)
    (directory / ".metadata.tmp").rename(directory / ".metadata")
    complete(kind, step)


def place_of(kind, step):
    return Path("latest") if kind == "latest" else Path(f"sharded/step-{step}")


def forget_old_parts(keep):
    for old in numbered("sharded/step-*")[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def save_together(kind, step):
    (ledger / "go").with_suffix(".new").write_text(f"{kind} {step} {generation}")
    (ledger / "go").with_suffix(".new").rename(ledger / "go")
    part(place_of(kind, step), step)
    metadata(kind, place_of(kind, step), step)
    forget_old_parts(2)


def follow():
    """What other ranks do: write their parts when rank 0 does."""
    done = ""
    while not stop.exists():
        told = (ledger / "go").read_text() if (ledger / "go").exists() else ""
        if told != done and told.endswith(generation):
            kind, step, _ = told.split()
            part(place_of(kind, int(step)), int(step))
            forget_old_parts(3)  # of which the newest is not complete yet
            done = told
        time.sleep(0.02)


SAVE = {
    "single": save_single,
    "raw": save_raw,
    "renamed": save_renamed,
    "folders": save_folders,
    "slow": save_slow,
    "over": save_over,
}


def lead():
    """What rank 0 does: one kind after the other, each when it is due."""
    every = {
        "single": 0.5,
        "raw": 8.0,
        "renamed": 1.0,
        "folders": 3.0,
        "slow": 6.0,
        "over": 9.0,
        "sharded": 4.0,
        "latest": 9.0,
        "log": 0.2,
    }
    due = {kind: time.time() + draw.random() * pause for kind, pause in every.items()}
    Path("log").mkdir(exist_ok=True)
    with Path("log/train.log").open("a") as log:
        while not stop.exists():
            kind = min(due, key=due.get)
            time.sleep(max(0.0, due[kind] - time.time()))
            step = now()
            if kind in ("raw", "over", "latest"):
                complete(kind, 0)
            if kind == "log":
                log.write(f"step {step} .\n")
                log.flush()
            elif kind in ("sharded", "latest"):
                save_together(kind, step)
            else:
                SAVE[kind](step)
            if kind in ("single", "raw", "renamed", "log"):
                complete(kind, step)
            due[kind] = time.time() + every[kind]  # what is written over lies there for so long


check()
if rank == 0:
    lead()
else:
    follow()
