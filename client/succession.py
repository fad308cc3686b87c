"""Hops that leave are replaced while they still serve, for as long as there are such."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from swarm.errors import SwarmError
from swarm.session.feed import Feed

from .access import Access
from .chain import Chain, Refused
from .handover import Handover
from .model_key import ModelKey
from .progress import Progress

logger = logging.getLogger(__name__)

_RETRY = 0.25
_LONGEST_RETRY = 4.0
"""Seconds until a handover that did not come about is tried again, at first and in the end."""


class Succession:
    """Tries handovers for one session's chain, one at a time, in the background.

    `adopt` makes the heirs part of the session and says whether they came in time.
    """

    def __init__(
        self,
        chain: Chain,
        key: ModelKey,
        access: Access,
        adopt: Callable[[Handover], Awaitable[bool]],
    ) -> None:
        self._chain = chain
        self._key = key
        self._access = access
        self._adopt = adopt
        self._task: asyncio.Task[None] | None = None

    def begin(self, progress: Progress, feed: Feed) -> None:
        """Some hop is leaving: looks for heirs, unless that is under way."""
        if self._task is None:
            self._task = self._access.tasks.create_task(self._run(progress, feed))

    def cancel(self) -> None:
        """Gives up what is under way; may be called again."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, progress: Progress, feed: Feed) -> None:
        pause = _RETRY
        try:
            while any(hop.leaving for hop in self._chain.hops):
                if await self._try(progress, feed):
                    continue
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_RETRY)
        except Exception:
            logger.exception("handover failed")
        finally:
            self._task = None

    async def _try(self, progress: Progress, feed: Feed) -> bool:
        access = self._access
        handover = Handover(self._chain, self._key, access.router, access.exchange, access.config)
        try:
            if self._chain.wired:
                await handover.prepare(progress, feed)
                return await self._adopt(handover)
        except (SwarmError, Refused) as error:
            logger.info("handover failed why=%s", error)
        finally:
            handover.give_up()
        return False
