"""Copies in the background that fail: tried again, after longer pauses, until they are there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import virtual_time

from swarmtrain.agent.sharing.bringing import Copies, CopyOrder
from swarmtrain.agent.uplink import Background
from swarmtrain.protocol.shared_files import BringShared, SetVersion


class Scene:
    """A node, and a coordinator that orders the newest version when it is asked, as often as it hears that.

    Args:
        ends: why copies fail, one after the other; empty where one succeeds, as all after these do.
        deaf: how many times in a row nobody hears that it is asked.
    """

    def __init__(self, ends: Sequence[str], deaf: int = 0) -> None:
        self.ends, self.deaf = list(ends), deaf
        self.tried: list[tuple[float, int]] = []  # when, and of which version
        self.asked: list[float] = []
        self.said: list[tuple[str, str]] = []
        self.number = 1
        self.copies = Copies(Background(self.fail), self.copy, self.ask, lambda *said: self.said.append(said))

    def fail(self, error: BaseException) -> None:
        raise error

    def order(self) -> None:
        self.copies.order(BringShared(1, "store", [SetVersion("c", 1, self.number, [])], {}))

    async def copy(self, order: CopyOrder) -> str:
        self.tried.append((virtual_time.now(), order.version.number))
        await asyncio.sleep(0)
        return self.ends.pop(0) if self.ends else ""

    async def ask(self, path: str) -> None:
        self.asked.append(virtual_time.now())
        if self.deaf:
            self.deaf -= 1
        else:
            self.order()

    def play(self, seconds: float, *, every: float = 0.0) -> None:
        """Order a version, or a newer one every so many seconds."""

        async def main() -> None:
            self.order()
            while every and virtual_time.now() < seconds:
                await asyncio.sleep(every)
                self.number += 1
                self.order()
            await asyncio.sleep(seconds - virtual_time.now())

        virtual_time.run(main())


def test_a_copy_that_fails_is_tried_again_after_longer_pauses_until_it_is_there() -> None:
    scene = Scene(["no room"] * 9)
    scene.play(1000)
    pauses = [
        round(after - before) for (before, _), (after, _) in zip(scene.tried, scene.tried[1:], strict=False)
    ]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert scene.said == [("c", "no room")], "it is said once"
    assert not scene.copies.pending()


def test_who_does_not_hear_is_asked_again() -> None:
    scene = Scene(["no peer"], deaf=3)
    scene.play(60)
    assert len(scene.asked) == 4 and len(scene.tried) == 2


def test_what_is_written_on_and_on_is_tried_no_more_often_for_that() -> None:
    scene = Scene(["no room"] * 4)
    scene.play(20, every=0.1)
    failed = scene.tried[:4]
    assert [round(when) for when, _ in failed] == [0, 1, 3, 7]
    assert scene.tried[-1][1] == scene.number, "and the newest is there, once there is room"


def test_one_that_fails_keeps_no_other_waiting() -> None:
    scene = Scene(["no peer"])
    done: list[str] = []

    async def copy(order: CopyOrder) -> str:
        done.append(order.version.path)
        return "no peer" if order.version.path == "a" else ""

    async def main() -> None:
        copies = Copies(Background(scene.fail), copy, scene.ask, lambda *said: None)
        copies.order(BringShared(1, "store", [SetVersion(path, 1, 1, []) for path in "abc"], {}))
        await asyncio.sleep(0.5)
        copies.cancel()
        await asyncio.sleep(100)

    virtual_time.run(main())
    assert done == ["a", "b", "c"] and not scene.asked, "what was cancelled is not asked for"
