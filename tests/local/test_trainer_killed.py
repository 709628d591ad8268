"""A writer of snapshots that is killed at any instant leaves a directory in which all that is listed loads."""

from __future__ import annotations

import os
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from trainer_harness import context

from swarmtrain.trainer.snapshots import files as snapshot_files
from swarmtrain.trainer.snapshots.disk import DISK
from swarmtrain.trainer.snapshots.files import Position
from swarmtrain.trainer.snapshots.writer import Content, SnapshotWriter, Tier

KILLS = 200


def write_forever(directory: Path, first: int, done: Connection) -> None:
    """Saves one snapshot after another in the background and names each that is done."""
    torch.set_num_threads(1)
    writer, tier = SnapshotWriter(), Tier("disk", directory, 2, DISK)
    parameter = torch.zeros(300_000)
    step = first
    while True:
        parameter.fill_(step)
        content = Content(dict, {}, [parameter], [])
        state = {"step": step, "tensor": parameter}
        writer.start(content, state, Position(1, 0, step, 1, ""), lambda size: [tier])
        parameter.fill_(-1)  # training goes on meanwhile, and must not be seen in the snapshot
        writer.wait()
        (outcome,) = writer.outcomes()
        assert outcome.error is None
        done.send(step)
        step += 1


def fork_writers(directory: Path, requests: Connection, done: Connection) -> None:
    """Forks a writer for each request: what it costs to import torch is paid once."""
    while (first := requests.recv()) is not None:
        child = os.fork()
        if child == 0:
            write_forever(directory, first, done)
        done.send(-child)
        os.waitpid(child, 0)
        done.send(0)


def test_killed_at_any_instant_nothing_listed_is_damaged_and_nothing_done_is_lost(tmp_path: Path) -> None:
    moments = random.Random(4)
    last, killed_aside = 0, 0
    requests, ours = context.Pipe()
    done, theirs = context.Pipe()
    parent = context.Process(target=fork_writers, args=(tmp_path, ours, theirs))
    parent.start()
    for _ in range(KILLS):
        requests.send(last + 1)
        child = -done.recv() if done.poll(60) else 0
        while child <= 0:  # the child may be quicker than the news of it
            last, child = max(last, -child), -done.recv()
        done.poll(moments.uniform(0.0, 0.04))
        if done.poll(moments.choice([0, 60])):
            last = max(last, done.recv())
            done.poll(moments.uniform(0.0, 0.04))
        os.kill(child, signal.SIGKILL)
        while (word := done.recv()) != 0:
            last = max(last, word)

        listed = snapshot_files.listed(tmp_path)
        assert (listed[0].step if listed else 0) >= last
        for manifest in listed:
            state = snapshot_files.load(tmp_path, manifest)
            assert state["step"] == manifest.step and bool((state["tensor"] == manifest.step).all())
        killed_aside += bool(list(tmp_path.glob(".*.tmp")))
        snapshot_files.sweep(tmp_path)
        assert not list(tmp_path.glob(".*"))
        last = listed[0].step if listed else 0
    requests.send(None)
    parent.join(30)
    assert parent.exitcode == 0
    assert killed_aside > KILLS // 10, "too few of the kills came while something was being written"
