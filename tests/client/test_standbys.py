from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarm.background import background
from swarm.client.crowd import Crowd
from swarm.client.model_key import ModelKey
from swarm.client.route import Hop, Route
from swarm.client.standbys import INTERVAL, Standbys
from swarm.errors import NoRouteError, Unreachable
from swarm.wire.messages import Meet, Place

pytestmark = pytest.mark.simulated_time

KEY = ModelKey("model", 6, 8)


def hop(peer: str, start: int, end: int) -> Hop:
    return Hop(peer, start, end, (f"/memory/{peer}",))


ROUTE = (hop("a", 0, 2), hop("b", 2, 4), hop("c", 4, 6))
SPARE = hop("s", 2, 4)


class FakeLink:
    def __init__(self) -> None:
        self.posted: list[Any] = []
        self.closed = False

    def post(self, message: Any) -> None:
        if self.closed:
            raise Unreachable("a", "closed")
        self.posted.append(message)


class FakeRouter:
    """Without `b` the route goes through a spare; nobody could replace the others."""

    def __init__(self) -> None:
        self.crowd = Crowd()
        self.links = {peer: FakeLink() for peer in "abcs"}
        self.num_meetings = 0
        self.broken = False

    async def meet(self, key: ModelKey) -> None:
        self.num_meetings += 1
        if self.broken:
            raise Unreachable("directory", "not now")

    def without(self, key: ModelKey, route: Route, lost: str) -> Route:
        if lost != "b":
            raise NoRouteError(((0, 2),))
        return (route[0], SPARE, route[2])

    def open_link(self, peer: str) -> FakeLink | None:
        return self.links.get(peer)

    def told(self) -> dict[str, list[str]]:
        told = {}
        for peer, link in self.links.items():
            for message in link.posted:
                assert isinstance(message, Meet)
                told.setdefault(peer, []).extend(place.peer for place in message.places)
        return told


@pytest.fixture
async def router() -> FakeRouter:
    return FakeRouter()


@pytest.fixture
async def standbys(router: FakeRouter) -> AsyncIterator[Standbys]:
    async with background() as tasks:
        standbys = Standbys(router)  # type: ignore[arg-type]
        tasks.create_task(standbys.run())
        yield standbys


async def test_nothing_is_done_while_no_session_runs(
    standbys: Standbys, router: FakeRouter
) -> None:
    await asyncio.sleep(10 * INTERVAL)
    assert router.num_meetings == 0
    standbys.note("s", KEY, ROUTE)
    await asyncio.sleep(3.5 * INTERVAL)
    assert router.num_meetings == 4
    standbys.forget("s")
    standbys.forget("s")
    await asyncio.sleep(10 * INTERVAL)
    assert router.num_meetings <= 5


async def test_who_would_have_to_send_to_somebody_new_is_told(
    standbys: Standbys, router: FakeRouter
) -> None:
    standbys.note("s", KEY, ROUTE)
    await asyncio.sleep(0.1)
    assert router.told() == {"a": ["s"], "s": ["c"]}
    (message,) = router.links["a"].posted
    assert message == Meet((Place("s", ("/memory/s",)),))


async def test_each_link_is_told_once(standbys: Standbys, router: FakeRouter) -> None:
    for name in ("one", "two"):
        standbys.note(name, KEY, ROUTE)
    await asyncio.sleep(5 * INTERVAL)
    assert router.told() == {"a": ["s"], "s": ["c"]}
    router.links["a"] = FakeLink()
    await asyncio.sleep(2 * INTERVAL)
    assert router.told() == {"a": ["s"], "s": ["c"]}


async def test_a_link_that_has_ended_is_told_when_it_is_there_again(
    standbys: Standbys, router: FakeRouter
) -> None:
    router.links["a"].closed = True
    del router.links["s"]
    standbys.note("s", KEY, ROUTE)
    await asyncio.sleep(0.1)
    assert router.told() == {}
    router.links["a"].closed = False
    await asyncio.sleep(2 * INTERVAL)
    assert router.told() == {"a": ["s"]}


async def test_who_has_two_hops_need_not_meet_itself(
    standbys: Standbys, router: FakeRouter
) -> None:
    standbys.note("s", KEY, (hop("s", 0, 2), hop("b", 2, 4), hop("c", 4, 6)))
    await asyncio.sleep(0.1)
    assert router.told() == {"s": ["c"]}


async def test_a_directory_that_is_away_ends_nothing(
    standbys: Standbys, router: FakeRouter
) -> None:
    router.broken = True
    standbys.note("s", KEY, ROUTE)
    await asyncio.sleep(0.1)
    assert router.num_meetings == 1 and router.told() == {}
    router.broken = False
    await asyncio.sleep(INTERVAL)
    assert router.told() == {"a": ["s"], "s": ["c"]}
