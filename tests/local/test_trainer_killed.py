"""A writer of snapshots that is killed at any instant leaves a directory in which all that is listed loads."""

from __future__ import annotations

import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from trainer_harness import context

from swarmtrain.trainer import snapshot_files
from swarmtrain.trainer.snapshot_files import Position

KILLS = 15


def write_forever(directory: Path, first: int, done: Connection) -> None:
    """Saves one snapshot after another and names each that is done."""
    step = first
    while True:
        state = {"step": step, "tensor": torch.full((300_000,), float(step))}
        snapshot_files.save(directory, state, Position(1, 0, step, 1, ""))
        done.send(step)
        snapshot_files.prune(directory, keep=2)
        step += 1


def test_killed_at_any_instant_nothing_listed_is_damaged_and_nothing_done_is_lost(tmp_path):
    moments = random.Random(4)
    last = 0
    for _ in range(KILLS):
        theirs, ours = context.Pipe()
        writer = context.Process(target=write_forever, args=(tmp_path, last + 1, ours))
        writer.start()
        ours.close()
        assert theirs.poll(60)
        last = theirs.recv()
        writer.join(moments.uniform(0.0, 0.06))
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        while theirs.poll():
            try:
                last = theirs.recv()
            except EOFError:
                break
        theirs.close()

        listed = snapshot_files.listed(tmp_path)
        assert listed[0].step >= last
        for manifest in listed:
            state = snapshot_files.load(tmp_path, manifest)
            assert state["step"] == manifest.step and bool((state["tensor"] == manifest.step).all())
        snapshot_files.sweep(tmp_path)
        assert not list(tmp_path.glob(".*"))
        last = listed[0].step
