"""Copies in the background that fail: tried again, after longer pauses, until they are there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import virtual_time

from swarmtrain.agent.sharing.transfer.bringing import LATER, Copies, CopyOrder
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


def test_what_the_end_of_a_run_waits_for_is_copied_at_once_whatever_is_under_way_or_has_failed() -> None:
    tried: list[tuple[str, bool]] = []

    async def copy(order: CopyOrder) -> str:
        tried.append((order.version.path, order.can_wait))
        if order.version.path == "slow" and order.can_wait:
            await asyncio.sleep(1000)
        return "no peer" if order.can_wait else ""

    async def nobody(path: str) -> None:
        raise AssertionError("nothing is asked for any more")

    def order(*paths: str, urgent: bool = False) -> BringShared:
        return BringShared(1, "store", [SetVersion(path, 1, 1, []) for path in paths], {}, urgent=urgent)

    async def main() -> None:
        scene = Scene([])
        copies = Copies(Background(scene.fail), copy, nobody, lambda *said: None)
        copies.order(order("failed", "slow"))
        await asyncio.sleep(0.5)
        copies.order(order("failed", "slow", urgent=True))
        await asyncio.sleep(1000)
        assert not copies.pending()

    virtual_time.run(main())
    assert tried == [("failed", True), ("slow", True), ("failed", False), ("slow", False)]


def test_nobody_asks_for_a_copy_of_what_was_deleted() -> None:
    scene = Scene(["it does not have it any more"], deaf=1000)

    async def main() -> None:
        scene.order()
        await asyncio.sleep(0.5)
        assert scene.copies.coming() == {"c"}
        scene.copies.forget("c")
        assert not scene.copies.coming()
        await asyncio.sleep(1000)

    virtual_time.run(main())
    assert not scene.asked


def test_a_copy_that_names_another_comes_after_it_and_if_that_fails_is_tried_again() -> None:
    done: list[str] = []

    async def copy(order: CopyOrder) -> str:
        path = order.version.path
        if path == "" and "step-2" not in done:
            return f"{LATER}, since it names step-2"
        done.append(path)
        return ""

    async def main(paths: Sequence[str]) -> int:
        done.clear()
        scene = Scene([])
        copies = Copies(Background(scene.fail), copy, scene.ask, lambda *said: None)
        copies.order(BringShared(1, "store", [SetVersion(path, 1, 1, []) for path in paths], {}))
        await asyncio.sleep(0.5)
        copies.cancel()
        return len(done)

    async def both() -> None:
        assert await main(["", "step-2", "step-1"]) == 3 and done[-1] == ""
        assert await main(["", "step-1"]) == 1, "it does not turn round and round"

    virtual_time.run(both())
