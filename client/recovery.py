"""One recovery: how often and how long a session tries to become whole, and what it then says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from swarm.errors import Busy, NoRouteError, PeerError, RequestError, SwarmError

from .chain import Refused
from .config import SessionConfig

logger = logging.getLogger(__name__)

_POLL = 0.25
"""Seconds between two looks for somebody who serves what is missing."""

_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
"""Seconds before a third chain in a row is built where two have broken at once, and at most: two
peers that dialled each other in the same moment are told for 5 s that they cannot (libp2p's dial
backoff), and then can."""

OnWait = Callable[[SwarmError | None], None]
"""Told what a session waits for, again whenever that changes, and None when it goes on."""


def log_wait(error: SwarmError | None) -> None:
    """What is done where nobody else wants to be told."""
    if error is not None:
        logger.warning("waiting why=%s", error)


async def pause_before(number: int) -> None:
    """Waits before the chain with this number, from 1, where those before it broke at once."""
    if number > 2:
        await asyncio.sleep(min(_LONGEST_PAUSE, _PAUSE * 2 ** (number - 3)))


class Recovery:
    """Tries routes until one holds; made anew for each recovery.

    `excluded` are peers that are asked only if there are no others.
    """

    def __init__(self, config: SessionConfig, excluded: set[str], on_wait: OnWait) -> None:
        self._config = config
        self._excluded = excluded
        self._on_wait = on_wait
        self._num_attempts = 0
        self._refused: Busy | RequestError | None = None
        self._missing_since: float | None = None
        self._asked_again = False
        self._told = ""

    async def run(self, build: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        """Calls `build` with the peers to leave out until it succeeds.

        Raises `NoRouteError` after `route_patience` without a route, `Busy` if the peers are full,
        `RequestError` if they could never hold the session, the last `PeerError` after
        `max_attempts`.
        """
        try:
            while not await self._try(build):
                pass
        finally:
            if self._told:
                self._on_wait(None)

    async def _try(self, build: Callable[[frozenset[str]], Awaitable[None]]) -> bool:
        try:
            await build(frozenset(self._excluded))
        except NoRouteError as error:
            await self._wait(error)
        except Refused as refused:
            if isinstance(refused.fault.error, RequestError):
                raise refused.fault.error from None
            self._note(refused.fault.error)
            if refused.fault.too_long:
                self._refused = RequestError(str(refused.fault.error))
        except PeerError as error:
            self._note(error)
        else:
            return True
        return False

    def _note(self, error: PeerError) -> None:
        # Waiting for room took its own time: it does not count as waiting for a route.
        self._num_attempts, self._missing_since = self._num_attempts + 1, None
        logger.info("route failed attempt=%d why=%s", self._num_attempts, error)
        # Kept out of the next try, without being blamed.
        self._excluded.add(error.peer)
        if isinstance(error, Busy):
            self._refused = error
        if self._num_attempts >= self._config.max_attempts:
            raise error

    async def _wait(self, error: NoRouteError) -> None:
        if self._refused is not None:
            raise self._refused from None
        if self._excluded and not self._asked_again:
            # Who was left out because of what came before may be all that there is.
            self._asked_again = True
            self._excluded.clear()
            return
        self._excluded.clear()
        now, patience = asyncio.get_running_loop().time(), self._config.route_patience
        if self._missing_since is None:
            self._missing_since = now
        if now - self._missing_since >= patience:
            raise error
        if str(error) != self._told:
            self._told = str(error)
            logger.info("waiting for a route up_to=%gs why=%s", patience, error)
            self._on_wait(error)
        await asyncio.sleep(_POLL)
