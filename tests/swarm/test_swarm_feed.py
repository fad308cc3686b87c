"""What pages are told of a swarm, however many watch and however slowly."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest

from swarm.directory import Announcement, State
from swarm.errors import SwarmError
from swarm.overview import Overview
from swarm.web.swarm_feed import Full, SwarmFeed

pytestmark = pytest.mark.simulated_time


def overview(end: int) -> Overview:
    entry = Announcement("peer", "garage", "f" * 32, "a/model", 10, 0, end, State.SERVING)
    return Overview.of([entry])


class Swarm:
    """A swarm that changes when the test says so."""

    def __init__(self) -> None:
        self.end = 4
        self.num_looks = 0
        self.fails = False
        self.watched: list[bool] = []

    async def look(self) -> Overview:
        self.num_looks += 1
        if self.fails:
            raise SwarmError("no answer")
        return overview(self.end)

    def feed(self, **options) -> SwarmFeed:
        return SwarmFeed(self.look, on_watch=self.watched.append, **options)


async def test_an_overview_is_told_at_once_and_again_when_it_has_changed() -> None:
    swarm = Swarm()
    async with aclosing(swarm.feed().events()) as events:
        name, data = await anext(events)
        assert name == "overview" and json.loads(data)["models"][0]["missing"] == [[4, 10]]
        asyncio.get_running_loop().call_later(5.0, setattr, swarm, "end", 10)
        name, data = await anext(events)
        assert name == "overview" and json.loads(data)["models"][0]["complete"]
        assert 5.0 <= asyncio.get_running_loop().time() <= 6.5


async def test_many_share_one_look() -> None:
    swarm = Swarm()
    feed = swarm.feed()
    await asyncio.gather(*(feed.overview() for _ in range(20)))
    assert swarm.num_looks == 1


async def test_who_cannot_be_told_hears_why_and_then_goes_on() -> None:
    swarm = Swarm()
    swarm.fails = True
    async with aclosing(swarm.feed().events()) as events:
        assert await anext(events) == ("trouble", b'{"message":"no answer"}')
        swarm.fails = False
        assert (await anext(events))[0] == "overview"


async def test_paths_are_told_to_those_who_watch_and_wanted_only_then() -> None:
    swarm = Swarm()
    feed = swarm.feed()
    assert not feed.wants_path
    async with aclosing(feed.events()) as events:
        await anext(events)
        assert feed.wants_path and swarm.watched == [True]
        feed.tell_path({"model": "f", "hops": []})
        assert not feed.wants_path, "ten a second are enough"
        name, data = await anext(events)
        assert name == "path" and json.loads(data)["model"] == "f"
    assert swarm.watched == [True, False] and feed.num_watchers == 0


async def test_who_reads_slowly_misses_paths_and_keeps_no_memory() -> None:
    feed = Swarm().feed()
    async with aclosing(feed.events()) as events:
        await anext(events)
        for number in range(1000):
            feed.tell_path({"number": number})
        told = [json.loads((await anext(events))[1])["number"] for _ in range(8)]
        assert told == list(range(992, 1000))
        assert (await anext(events))[0] == "idle"


async def test_no_more_watch_than_may() -> None:
    feed = Swarm().feed(most=1)
    async with aclosing(feed.events()) as events:
        await anext(events)
        with pytest.raises(Full):
            await anext(feed.events())
    async with aclosing(feed.events()) as events:
        assert await anext(events)


async def test_who_closes_it_ends_all() -> None:
    feed = Swarm().feed()
    async with aclosing(feed.events()) as events:
        await anext(events)
        asyncio.get_running_loop().call_later(0.5, feed.close)
        assert [event async for event in events] == []
        assert asyncio.get_running_loop().time() < 1.0
