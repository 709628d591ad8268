"""The clock that tests of deadlines have."""

from __future__ import annotations

import asyncio
import time

import virtual_time


def test_waiting_takes_no_time_and_its_clock_tells_of_all_of_it() -> None:
    async def act() -> float:
        await asyncio.sleep(3600)
        return virtual_time.now()

    began = time.monotonic()
    assert virtual_time.run(act()) >= 3600
    assert time.monotonic() - began < 60


def test_no_deadline_passes_while_a_thread_works() -> None:
    async def act() -> None:
        for _ in range(3):
            await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.01), 60)
            await asyncio.sleep(60)  # and when it has ended, time jumps as ever

    virtual_time.run(act())
