"""How much of a link copies take, in a time that no real one passes in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
import virtual_time

from swarmtrain.agent.sharing.transfer.pace import PIECE, Pace

PIECES = 150
Speed = Callable[[float], float]  # bytes a second that a link has left, by the time


def taken(share: float, speed: Speed, peers: int = 1) -> list[tuple[float, float]]:
    """What peers that want as much as they get take: of each piece, when it began and ended."""
    pieces: list[tuple[float, float]] = []

    async def peer(pace: Pace) -> None:
        while len(pieces) < PIECES:
            async with pace.piece():
                began = virtual_time.now()
                await asyncio.sleep(PIECE / speed(began))
                pieces.append((began, virtual_time.now()))

    async def play() -> None:
        pace = Pace(share)
        await asyncio.gather(*(peer(pace) for _ in range(peers)))

    virtual_time.run(play())
    return pieces


@pytest.mark.parametrize("peers", [1, 5])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("link", [2.5e6, 25e6, 1.25e9])
def test_a_link_of_any_speed_is_theirs_for_the_share_of_the_time_that_was_set(
    link: float, share: float, peers: int
) -> None:
    pieces = taken(share, lambda now: link, peers)
    seconds = pieces[-1][0] - pieces[0][0]
    used = (len(pieces) - 1) * PIECE / (link * seconds)
    assert 0.98 * share < used < 1.02 * share, used
    assert all(after[0] >= before[1] for before, after in pairwise(pieces)), "two pieces at one time"


def test_while_gradients_travel_copies_take_less_than_they_leave() -> None:
    """They have half of the link for ten seconds, then none for ten seconds."""
    link = 25e6
    pieces = taken(0.1, lambda now: link / 2 if now % 20 < 10 else link)
    busy = sum(began % 20 < 10 for began, _ in pieces)
    assert busy < 0.6 * (len(pieces) - busy)
    assert len(pieces) * PIECE < 0.1 * link * pieces[-1][1]


def test_all_of_the_time_has_no_rests() -> None:
    pieces = taken(1.0, lambda now: 25e6)
    assert sum(ended - began for began, ended in pieces) == pytest.approx(pieces[-1][1])
