"""What the page at the gateway shows of the swarm: who serves what, and which way tokens take."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiohttp import web

from swarm.client import Passage, Swarm
from swarm.overview import Overview
from swarm.web.swarm_feed import MOST_PEERS, Full, SwarmFeed, tell_events, tell_overview

from .refusals import Reason, Refusal

_RETRY = 10.0


def add_swarm(app: web.Application, swarm: Swarm) -> SwarmFeed:
    """Answers what the page asks of this swarm; whoever stops the gateway closes the feed."""

    async def look() -> Overview:
        # Who has a key of ours need not be a member, and is told no home's address.
        return (await swarm.overview(most=MOST_PEERS)).without_addresses()

    def on_watch(watched: bool) -> None:
        # Sessions tell of their steps only while somebody looks.
        (swarm.passages.watch if watched else swarm.passages.unwatch)(tell)

    feed = SwarmFeed(look, on_watch=on_watch)
    tell = partial(_tell_path, feed)

    async def overview(_: web.Request) -> web.StreamResponse:
        return await tell_overview(feed)

    async def events(request: web.Request) -> web.StreamResponse:
        try:
            return await tell_events(request, feed)
        except Full as error:
            raise Refusal(Reason.BUSY, str(error), retry_after=_RETRY) from error

    app.router.add_get("/page/api/swarm", overview)
    app.router.add_get("/page/api/swarm/events", events)
    return feed


def _tell_path(feed: SwarmFeed, model: str, passage: Passage, seconds: float) -> None:
    if feed.wants_path and (path := _path(model, passage, seconds)) is not None:
        feed.tell_path(path)


def _path(model: str, passage: Passage, seconds: float) -> dict[str, Any] | None:
    """A step's way, hop by hop, in milliseconds."""
    if (spent := passage.divided(seconds)) is None:
        return None
    hops, back = spent
    return {
        "model": model,
        "hops": [
            {
                "peer": hop.peer,
                "start": hop.start,
                "end": hop.end,
                "queue_ms": round(queue * 1e3, 3),
                "compute_ms": round(compute * 1e3, 3),
                "wire_ms": round(wire * 1e3, 3),
            }
            for hop, (queue, compute, wire) in zip(passage.route, hops, strict=True)
        ],
        "back_ms": round(back * 1e3, 3),
    }
