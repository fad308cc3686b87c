from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarm.background import background
from swarm.peer.growth import Growth
from swarm.peer.leases import Leases
from swarm.peer.session import Arrival, HopSession
from swarm.wire.messages import Code, DType, Open, RowRange, Step, Want

pytestmark = pytest.mark.simulated_time

PATIENCE = 2.0


class Bench:
    """Sessions that grow, in pages of one position."""

    def __init__(self, tasks: asyncio.TaskGroup, num_pages: int = 10) -> None:
        self.leases = Leases(num_pages)
        self.sessions: dict[str, HopSession] = {}
        self.submitted: list[str] = []
        self.failed: list[tuple[str, Code]] = []
        self.growth = Growth(
            self.leases,
            self.sessions,
            tasks,
            self,
            lambda session, arrival: self.submitted.append(session.id),
            page_len=1,
            patience=PATIENCE,
        )

    def fail(self, session: HopSession, code: Code, why: str) -> None:
        self.failed.append((session.id, code))

    def close(self, session: HopSession, why: str) -> None:
        session.closed = True
        del self.sessions[session.id]
        self.leases.release(session.id)

    def open(self, name: str, pages: int) -> HopSession:
        assert self.leases.try_hold(name, pages)
        request = Open(name, 1, "model", 0, 1, 1, pages, 1.0, DType.FLOAT32)
        link: Any = None
        session = self.sessions[name] = HopSession(request, link, 1, len(self.sessions))
        return session

    def need(self, session: HopSession, length: int) -> None:
        """A step comes after which the session has so many positions."""
        step = Step(session.id, 1, 0, 0, (RowRange(0, 0, length),), Want.ALL)
        session.backlog.append(Arrival(step, memoryview(b""), 0.0, (length,)))
        self.growth.admit(session)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with background() as tasks:
        yield Bench(tasks)


async def test_what_is_leased_already_is_computed_at_once(bench: Bench) -> None:
    one = bench.open("one", 4)
    bench.need(one, 4)
    assert bench.submitted == ["one"] and not one.waiting and bench.leases.free == 6


async def test_steps_behind_one_that_waits_keep_their_turn(bench: Bench) -> None:
    one, other = bench.open("one", 4), bench.open("other", 6)
    bench.need(one, 6)
    bench.need(one, 3)
    assert bench.submitted == [] and one.waiting
    await asyncio.sleep(PATIENCE / 2)
    bench.close(other, "ends")
    await asyncio.sleep(0.01)
    assert bench.submitted == ["one", "one"] and not one.waiting
    assert bench.leases.held("one") == 6 and bench.failed == []


async def test_where_all_wait_only_the_newest_gives_way(bench: Bench) -> None:
    sessions = [bench.open(name, 2) for name in ("one", "two", "three", "four", "five")]
    for session in sessions:
        bench.need(session, 4)
    await asyncio.sleep(PATIENCE + 0.01)
    assert bench.failed == [("five", Code.BUSY)]
    assert bench.submitted == ["one"]
    await asyncio.sleep(PATIENCE)
    assert bench.failed == [("five", Code.BUSY), ("four", Code.BUSY)]
    assert len(bench.submitted) == 2
    bench.close(sessions[0], "done")
    await asyncio.sleep(0.01)
    assert sorted(bench.submitted) == ["one", "three", "two"]
    assert set(bench.sessions) == {"two", "three"}


async def test_the_newest_itself_gives_way_where_it_alone_waits(bench: Bench) -> None:
    bench.open("one", 8)
    two = bench.open("two", 2)
    bench.need(two, 3)
    await asyncio.sleep(PATIENCE + 0.01)
    assert bench.failed == [("two", Code.BUSY)] and two.closed
    assert bench.leases.free == 2 and bench.leases.num_waiting == 0


async def test_more_than_there_is_fails_and_takes_nothing_from_others(bench: Bench) -> None:
    one = bench.open("one", 4)
    bench.open("two", 4)
    bench.need(one, 11)
    await asyncio.sleep(0.01)
    assert bench.failed == [("one", Code.TOO_LONG)]
    assert not one.backlog and not one.waiting and set(bench.sessions) == {"one", "two"}


async def test_a_session_that_closes_while_it_waits_leaves_nothing(bench: Bench) -> None:
    one = bench.open("one", 4)
    bench.open("two", 6)
    bench.need(one, 6)
    await asyncio.sleep(0.01)
    bench.close(one, "closed")
    await asyncio.sleep(2 * PATIENCE)
    assert (bench.failed, bench.submitted) == ([], [])
    assert bench.leases.free == 4 and bench.leases.num_waiting == 0


async def test_who_no_longer_needs_room_evicts_nobody(bench: Bench) -> None:
    one = bench.open("one", 4)
    bench.open("two", 6)
    bench.need(one, 6)
    await asyncio.sleep(0.01)
    one.backlog.clear()  # A new epoch.
    await asyncio.sleep(PATIENCE)
    assert bench.failed == [] and not one.waiting and len(bench.sessions) == 2
    bench.need(one, 4)
    assert bench.submitted == ["one"]
