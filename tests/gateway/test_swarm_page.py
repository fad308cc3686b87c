"""What a gateway's page is told of the swarm."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from swarm.client.passages import Passages
from swarm.client.route import Hop
from swarm.client.timing import Passage
from swarm.directory import Announcement, State
from swarm.gateway.swarm_page import add_swarm
from swarm.overview import Overview
from swarm.wire.messages import HopTime

ROUTE = (Hop("a", 0, 2), Hop("b", 2, 4))
TIMES = tuple(HopTime(hop.start, hop.end, 1000, 2000, 1) for hop in ROUTE)
PASSAGE = Passage(ROUTE, ("A", "B"), TIMES, 0.0)


@dataclass
class Known:
    """What the page asks of a swarm."""

    passages: Passages = field(default_factory=Passages)

    async def overview(self, *, most: int | None = None) -> Overview:
        places = ("/ip4/203.0.113.7/tcp/7700",)
        garage = Announcement(
            "a", "garage", "f" * 32, "a/model", 4, 0, 2, State.SERVING, addresses=places
        )
        return Overview.of([garage], most=most)


async def test_steps_are_told_to_who_watches_and_cost_nothing_else() -> None:
    swarm, app = Known(), web.Application()
    feed = add_swarm(app, swarm)
    async with TestClient(TestServer(app)) as client, asyncio.timeout(60):
        told = await client.get("/page/api/swarm")
        assert (await told.json())["models"][0]["num_blocks"] == 4
        assert "203.0.113" not in await told.text(), "who asks a gateway need not be a member"
        assert not swarm.passages.watched
        async with client.get("/page/api/swarm/events") as answer:
            assert await answer.content.readline() == b"event: overview\n"
            assert swarm.passages.watched
            await answer.content.readline()
            await answer.content.readline()
            for _ in range(50):  # Of many at once one is shown.
                swarm.passages.tell("f" * 32, PASSAGE, 0.010)
            swarm.passages.tell("f" * 32, Passage(ROUTE, ("A", "B"), (), 0.0), 0.010)
            assert await answer.content.readline() == b"event: path\n"
            path = json.loads((await answer.content.readline())[6:])
            feed.close()
            rest = await answer.read()
        assert b"event: path" not in rest
        assert not swarm.passages.watched
    assert path["model"] == "f" * 32 and path["back_ms"] == 1.333
    assert path["hops"][1] == {
        "peer": "b",
        "start": 2,
        "end": 4,
        "queue_ms": 1.0,
        "compute_ms": 2.0,
        "wire_ms": 1.333,
    }
