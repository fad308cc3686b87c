from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarm.background import background
from swarm.errors import Unreachable
from swarm.peer.kept import KeptPrefixes
from swarm.peer.leases import Leases
from swarm.peer.limits import HandlerConfig
from swarm.peer.openings import Openings, Served
from swarm.peer.pages import PageTable
from swarm.peer.session import HopSession
from swarm.wire.messages import Code, DType, Failed, Open, Opened, Queued

pytestmark = pytest.mark.simulated_time

A, B, C = "a" * 16, "b" * 16, "c" * 16


class FakeLink:
    def __init__(self) -> None:
        self.peer = self.account = "client"
        self.closed = False
        self.posted: list[Any] = []

    def post(self, message: Any) -> None:
        if self.closed:
            raise Unreachable("client", "closed")
        self.posted.append(message)

    def take(self) -> list[Any]:
        posted, self.posted = self.posted, []
        return posted


class Bench:
    def __init__(self, tasks: asyncio.TaskGroup, max_sessions: int = 8) -> None:
        self.leases = Leases(10)
        self.sessions: dict[str, HopSession] = {}
        self.link = FakeLink()
        served = Served("model", 2, 6, hidden_size=1, page_len=4)
        self.openings = Openings(
            served,
            self.leases,
            self.sessions,
            tasks,
            limits=HandlerConfig(max_sessions=max_sessions),
            kept=KeptPrefixes(PageTable(0, 1), seconds=0.0, share=0.0),
            on_opened=self.let_in,
        )

    def let_in(self, session: HopSession, found: object) -> None:
        self.sessions[session.id] = session

    def ask(
        self, name: str, pages: int, patience: float = 5.0, link: FakeLink | None = None
    ) -> None:
        request = Open(name, 3, "model", 2, 6, 1, 4 * pages, patience, DType.FLOAT32)
        self.openings.open(link or self.link, request)  # type: ignore[arg-type]

    async def turn(self) -> list[Any]:
        for _ in range(5):
            await asyncio.sleep(0)
        return self.link.take()


@pytest.fixture
async def tasks() -> AsyncIterator[asyncio.TaskGroup]:
    async with background() as tasks:
        yield tasks


@pytest.fixture
async def bench(tasks: asyncio.TaskGroup) -> Bench:
    return Bench(tasks)


async def test_sessions_are_numbered_as_they_are_let_in(bench: Bench) -> None:
    bench.ask(A, 9)
    bench.ask(B, 5)
    bench.ask(C, 1)
    assert await bench.turn() == [Opened(A, 3), Queued(B, 3), Queued(C, 3)]
    assert len(bench.openings) == 2
    bench.leases.release(A)
    assert await bench.turn() == [Opened(B, 3), Opened(C, 3)]
    assert [bench.sessions[name].number for name in (A, B, C)] == [0, 1, 2]
    assert len(bench.openings) == 0


async def test_who_waits_counts_as_a_session(tasks: asyncio.TaskGroup) -> None:
    bench = Bench(tasks, max_sessions=2)
    bench.ask(A, 10)
    bench.ask(B, 10)
    await bench.turn()
    bench.ask(C, 1)
    (failed,) = await bench.turn()
    assert (failed.session, failed.code) == (C, Code.BUSY)


async def test_a_name_that_waits_is_taken(bench: Bench) -> None:
    bench.ask(A, 10)
    bench.ask(B, 10)
    await bench.turn()
    bench.ask(B, 1)
    (failed,) = await bench.turn()
    assert failed.code is Code.BAD_REQUEST
    bench.leases.release(A)
    assert await bench.turn() == [Opened(B, 3)]


async def test_what_could_never_be_held_does_not_wait(bench: Bench) -> None:
    bench.ask(A, 11)
    (failed,) = await bench.turn()
    assert (failed.epoch, failed.code) == (3, Code.TOO_LONG)
    assert len(bench.openings) == 0


async def test_one_of_a_clients_openings_is_cancelled_or_all(bench: Bench) -> None:
    other = FakeLink()
    bench.ask(A, 10)
    bench.ask(B, 10)
    bench.ask(C, 10, link=other)
    await bench.turn()
    bench.openings.cancel(bench.link, C)  # type: ignore[arg-type]
    await bench.turn()
    assert len(bench.openings) == 2
    bench.openings.cancel(bench.link)  # type: ignore[arg-type]
    await bench.turn()
    assert len(bench.openings) == 1 and bench.leases.num_waiting == 1
    bench.leases.release(A)
    await bench.turn()
    assert other.take() == [Queued(C, 3), Opened(C, 3)]


async def test_what_is_cancelled_before_it_began_leaves_nothing(bench: Bench) -> None:
    bench.ask(A, 10)
    bench.openings.cancel(bench.link)  # type: ignore[arg-type]
    assert await bench.turn() == []
    assert (bench.leases.free, len(bench.openings), bench.sessions) == (10, 0, {})


async def test_a_grant_and_a_cancellation_in_one_turn_leave_nothing(bench: Bench) -> None:
    bench.ask(A, 10)
    bench.ask(B, 10)
    await bench.turn()
    bench.leases.release(A)
    bench.openings.cancel(bench.link)  # type: ignore[arg-type]
    assert await bench.turn() == []
    assert bench.leases.free == 10 and B not in bench.sessions


async def test_room_for_a_client_that_is_gone_goes_to_the_next(bench: Bench) -> None:
    other = FakeLink()
    bench.ask(A, 10, link=other)
    bench.ask(B, 10)
    bench.ask(C, 10, link=other)
    await bench.turn()
    bench.link.closed = True
    bench.leases.release(A)
    await bench.turn()
    assert other.take()[-1] == Opened(C, 3) and B not in bench.sessions


async def test_closing_refuses_all_that_wait_and_nobody_else(bench: Bench) -> None:
    bench.ask(A, 10)
    bench.ask(B, 10)
    await bench.turn()
    bench.openings.accepting = False
    bench.openings.close(Code.LEAVING, "bye " * 1000)
    bench.ask(C, 1)
    refused = await bench.turn()
    assert all(isinstance(message, Failed) for message in refused)
    assert [(m.session, m.code) for m in refused] == [(B, Code.LEAVING), (C, Code.LEAVING)]
    assert set(bench.sessions) == {A} and bench.leases.num_waiting == 0
