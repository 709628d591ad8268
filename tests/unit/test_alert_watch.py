"""What is measured of a living run becomes an event where somebody is to be told of it, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import resource

from run_fakes import Theatre

from swarmtrain.coordinator.run.alerts.targets import kinds_of, targets_of
from swarmtrain.coordinator.run.alerts.watching import Watching
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.protocol.alerts.kinds import ALERT_KINDS, AlertKind
from swarmtrain.protocol.journal.told import AlertRaised
from swarmtrain.wire.run_spec import RunSecret, RunSpec


def raised(run: RunController) -> list[tuple[str, str, str]]:
    return [(event.alert, event.node, event.text) for event in run.journal.all(AlertRaised)]


def measured(run: RunController, node: str, values: dict[str, float], offset: int) -> int:
    """A line of a node's own measurements; how far they are known then."""
    line = json.dumps({"t": run.journal.clock.now(), "v": values}) + "\n"
    return run.progress.series.append(node, 1, offset, line, 0.0)


def lines(run: RunController, rank: int, losses: list[float | str], generation: int = 1) -> None:
    text = "".join(
        json.dumps({"kind": "report", "step": step, "values": {"loss": loss}}) + "\n"
        for step, loss in enumerate(losses, 1)
    )
    known = run.progress.offsets.get((generation, rank), 0)
    run.progress.append(generation, rank, "ab"[rank], known, text)


def test_a_disk_that_stays_full_and_a_gpu_that_stays_hot_are_written_down_once(stage: Theatre) -> None:
    async def scene() -> None:
        run = stage.make()
        watching = Watching(run, ALERT_KINDS)
        offset = 0
        for _ in range(20):
            stage.clock.turn(5.0)
            values = {
                "node/disk_used_ratio": 0.97,
                "node/disk_free_bytes": 3e9,
                "gpu/slowed_by_heat{gpu=0}": 1.0,
                "gpu/temperature_celsius{gpu=0}": 90.0,
                "gpu/slowed_by_heat{gpu=1}": 0.0,
            }
            offset = measured(run, "a", values, offset)
            watching.look_at_nodes()
        assert raised(run) == [
            ("gpu_hot", "a", "GPU 0 of a has had low clocks for 30 s as it is too hot at 90 °C"),
            ("disk_low", "a", "a has 3.0 % of its disk left (3.0 GB)"),
        ]

    asyncio.run(scene())


def test_a_disk_that_takes_nothing_of_the_coordinator_s_is_written_down_once(stage: Theatre) -> None:
    async def scene() -> None:
        run = stage.make()
        watching = Watching(run, ALERT_KINDS)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # of each file: the journal's is small
            run.output.append((1, 0), "a", run.journal.clock.now(), 0, "x" * 30_000 + "\n")
            for _ in range(3):
                watching.look_at_nodes()
            text = "the coordinator's disk takes no more of what workers write"
            assert raised(run) == [("disk_low", "", text)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        watching.look_at_nodes()
        assert not run.output.full()

    asyncio.run(scene())


def test_a_loss_is_heard_of_every_rank_and_told_once_a_generation_also_by_the_next_coordinator(
    stage: Theatre,
) -> None:
    async def scene() -> None:
        for life in range(2):
            run = stage.make()
            watching = asyncio.ensure_future(Watching(run, ALERT_KINDS).watch())
            await asyncio.sleep(0)
            lines(run, 1, [1.0, "nan", 2.0])
            lines(run, 0, ["nan"])
            assert [each[:2] for each in raised(run)] == [("nan", "b")], life
            watching.cancel()
        lines(run, 0, ["inf"], generation=2)
        lines(run, 1, ["nan"], generation=1)  # it was on its way for long
        assert [each[2] for each in raised(run)][1:] == ["rank 0 on a: the loss is inf at step 1"]

    asyncio.run(scene())


def test_nothing_is_written_down_that_nobody_is_to_be_told_of(stage: Theatre) -> None:
    async def scene() -> None:
        run = stage.make()
        kinds: tuple[AlertKind, ...] = ("failed", "disk_low")
        watching = asyncio.ensure_future(Watching(run, kinds).watch())
        await asyncio.sleep(0)
        lines(run, 0, ["nan"])
        assert raised(run) == []
        watching.cancel()

    asyncio.run(scene())


def test_whom_a_run_tells_is_in_its_spec_and_its_secret() -> None:
    spec = RunSpec("t", "script", "train.py", alert_on=("nan",), alert_command=("page", "me"))
    secret = RunSecret("t.1", "token", webhooks={"slack A": "http://a/", "webhook ./b": "http://b/"})
    told = {each.name: (each.kind, each.address, each.argv) for each in targets_of(spec, secret)}
    assert told == {
        "slack A": ("slack", "http://a/", ()),
        "webhook ./b": ("webhook", "http://b/", ()),
        "command page": ("command", "", ("page", "me")),
    }
    assert kinds_of(spec) == {"nan"} and kinds_of(RunSpec("t", "script", "x")) == set(ALERT_KINDS)
