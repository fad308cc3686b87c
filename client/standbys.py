"""Plan B: who would take over from each hop of the running sessions, with the streams open.

When a hop dies, a replacement has to be linked with the client, with the hop before it and with the
one after. Dialling takes several round trips each, and seconds where a machine is off, so it is
done while nothing is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from weakref import WeakKeyDictionary

from swarm.errors import NoRouteError, PeerError, SwarmError
from swarm.transport.link import Link
from swarm.wire.messages import Meet, Place

from .model_key import ModelKey
from .route import Hop, Route
from .router import Router

logger = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds after which the plans are made anew: as often as peers announce themselves."""


class Standbys:
    """Plans for every route that is in use; `run` keeps them up."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._routes: dict[str, tuple[ModelKey, Route]] = {}
        self._changed = asyncio.Event()
        self._told: WeakKeyDictionary[Link, set[str]] = WeakKeyDictionary()

    def note(self, session: str, key: ModelKey, route: Route) -> None:
        """A session goes through `route` from now on."""
        self._routes[session] = (key, route)
        now = asyncio.get_running_loop().time()
        self._router.crowd.enter(session, (hop.peer for hop in route), now)
        self._changed.set()

    def forget(self, session: str) -> None:
        """A session has ended."""
        self._routes.pop(session, None)
        self._router.crowd.leave(session)

    async def run(self) -> None:
        """Plans until cancelled; while no session runs, nothing is done."""
        while True:
            try:
                async with asyncio.timeout(INTERVAL if self._routes else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            for key, route in set(self._routes.values()):
                try:
                    await self._router.meet(key)
                except SwarmError as error:
                    logger.debug("no plan B why=%s", error)
                else:
                    self._introduce(key, route)

    def _introduce(self, key: ModelKey, route: Route) -> None:
        """Tells every peer that would have to send to somebody new who that would be."""
        now = set(pairwise(hop.peer for hop in route))
        for lost in dict.fromkeys(hop.peer for hop in route):
            try:
                other = self._router.without(key, route, lost)
            except NoRouteError as error:
                logger.debug("no plan B peer=%s why=%s", lost, error)
                continue
            for before, after in pairwise(other):
                if (before.peer, after.peer) not in now:
                    self._tell(before, after)

    def _tell(self, before: Hop, after: Hop) -> None:
        link = self._router.open_link(before.peer)
        if link is None or before.peer == after.peer:
            return
        told = self._told.setdefault(link, set())
        if after.peer in told:
            return
        try:
            link.post(Meet((Place(after.peer, after.addresses),)))
            told.add(after.peer)
        except PeerError as error:
            logger.debug("not told peer=%s why=%s", before.peer, error)
