"""Our places at relays: through them we are reached by those who cannot dial us."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from swarm.errors import PeerError

from . import circuits
from .control import Door, Place

logger = logging.getLogger(__name__)

_FIRST_REST = 1.0
_LONGEST_REST = 30.0
_ALIVE = 2.0


class Reservations:
    """Places at up to `limit` relays, each held by a task of `tasks` while the relay lives.

    `on_change` is called when a place has been won or lost, and when a relay has refused.
    """

    def __init__(
        self, door: Door, tasks: asyncio.TaskGroup, limit: int, on_change: Callable[[], None]
    ) -> None:
        self._door = door
        self._tasks = tasks
        self._limit = limit
        self._on_change = on_change
        self._held: dict[str, tuple[str, ...]] = {}
        self._holders: dict[str, asyncio.Task[None]] = {}
        self._rests: dict[str, tuple[float, float]] = {}
        self._returns: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others reach us through relays."""
        return tuple(address for held in self._held.values() for address in held)

    @property
    def relays(self) -> tuple[str, ...]:
        """The relays at which we have a place."""
        return tuple(self._held)

    @property
    def seeking(self) -> bool:
        """Whether some relay has been asked and has not answered yet."""
        return len(self._holders) > len(self._held)

    def expects(self, relay: str) -> bool:
        """Whether this relay may bring us visitors."""
        return relay in self._holders

    def top_up(self, relays: Sequence[Place]) -> None:
        """Asks as many of these relays as places are missing, in their order."""
        now = asyncio.get_running_loop().time()
        for place in relays:
            rested_at, _ = self._rests.get(place.peer, (now, 0.0))
            if rested_at <= now:
                self._ask(place)

    def _ask(self, place: Place) -> None:
        if place.peer not in self._holders and len(self._holders) < self._limit:
            holder = self._tasks.create_task(self._hold(place))
            self._holders[place.peer] = holder
            holder.add_done_callback(partial(self._forget, place.peer))

    def drop(self) -> None:
        """Gives all places back."""
        for task in (*self._holders.values(), *self._returns):
            task.cancel()

    async def _hold(self, place: Place) -> None:
        try:
            async with self._door.control(place) as control:
                addresses = await control.reserve()
                known = Place(place.peer, (*place.addresses, *addresses))
                self._held[place.peer] = circuits.through(known, self._door.carrier.peer_id)
                self._rests.pop(place.peer, None)
                logger.info("relay found peer=%s", place.peer)
                self._on_change()
                await asyncio.Future()
        except PeerError as error:
            held = place.peer in self._held
            logger.log(
                logging.INFO if held else logging.DEBUG,
                "relay %s peer=%s why=%s",
                "lost" if held else "refused",
                place.peer,
                error,
            )
            self._rest(place.peer)
            if held:
                del self._held[place.peer]
                self._on_change()
                await self._end_if_dead(place)
                self._return_soon(place)
        except Exception:
            logger.exception("relay not asked peer=%s", place.peer)
            self._rest(place.peer)

    def _return_soon(self, place: Place) -> None:
        task = asyncio.current_task()
        # A place that ends in the moment in which we are cancelled hides that we are.
        if task is not None and not task.cancelling():
            self._returns.add(again := self._tasks.create_task(self._return(place)))
            again.add_done_callback(self._returns.discard)

    async def _return(self, place: Place) -> None:
        """Asks a relay that had room until now once more, as soon as its rest is over.

        Whoever looks for relays may be waiting for the directory, and that for dead connections.
        """
        await asyncio.sleep(_FIRST_REST)
        self._ask(place)

    async def _end_if_dead(self, place: Place) -> None:
        """Ends the connection to a relay that does not even greet over it.

        With a router or a network a connection dies without a word, and libp2p would go on using
        it. If only our link has ended (one of us was slow), the others over it are left alone.
        """
        try:
            async with asyncio.timeout(_ALIVE), self._door.control(place):
                return
        except (PeerError, TimeoutError):
            await self._door.carrier.hang_up(place.peer)

    def _forget(self, relay: str, _: asyncio.Task[None]) -> None:
        self._held.pop(relay, None)
        del self._holders[relay]
        self._on_change()

    def _rest(self, relay: str) -> None:
        """A relay that failed is asked again later, and each time later."""
        _, before = self._rests.get(relay, (0.0, 0.0))
        rest = min(_LONGEST_REST, max(_FIRST_REST, 2 * before))
        self._rests[relay] = (asyncio.get_running_loop().time() + rest, rest)
