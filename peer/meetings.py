"""Links that clients ask a peer to open, because they may soon be needed."""

from __future__ import annotations

import asyncio
import logging

from swarm.errors import PeerError
from swarm.transport.neighbours import Neighbours
from swarm.wire.messages import Meet, Place

logger = logging.getLogger(__name__)

_MAX_MEETINGS = 16
"""Links that are being opened at once."""


class Meetings:
    """Opens such links, each once at a time; if that fails, it will show when one is needed."""

    def __init__(self, neighbours: Neighbours, tasks: asyncio.TaskGroup) -> None:
        self._neighbours = neighbours
        self._tasks = tasks
        self._under_way: set[str] = set()

    def meet(self, message: Meet) -> None:
        """Opens links to those that are named, as far as there are not too many under way."""
        for place in message.places:
            if place.peer not in self._under_way and len(self._under_way) < _MAX_MEETINGS:
                self._under_way.add(place.peer)
                self._tasks.create_task(self._meet(place))

    async def _meet(self, place: Place) -> None:
        try:
            await self._neighbours.link(place.peer, place.addresses)
        except PeerError as error:
            logger.debug("not met peer=%s why=%s", place.peer, error)
        finally:
            self._under_way.discard(place.peer)
