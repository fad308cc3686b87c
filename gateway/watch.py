"""Whether a model can be asked now, and for how long it could not."""

from __future__ import annotations

import asyncio

from swarm.client import RemoteModel
from swarm.errors import NoRouteError

_FRESH = 1.0
"""Seconds for which an answer is used again, whoever asks."""

_POLL = 0.5


class Watch:
    """Looks, when somebody wants to know, which blocks of one model nobody serves.

    A gap that has been there for `patience` seconds is no longer waited for: whoever comes then is
    refused at once, as are those who have waited.
    """

    def __init__(self, model: RemoteModel, patience: float) -> None:
        self._model = model
        self._patience = patience
        self._looking = asyncio.Lock()
        self._missing: tuple[tuple[int, int], ...] = ()
        self._looked = float("-inf")
        self._since: float | None = None

    async def missing(self) -> tuple[tuple[int, int], ...]:
        """The blocks that nobody serves; empty where there is a route."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() - self._looked > _FRESH:
                self._missing = await self._model.missing()
                self._looked = loop.time()
                if not self._missing:
                    self._since = None
                elif self._since is None:
                    self._since = self._looked
            return self._missing

    async def ready(self) -> None:
        """Waits until there is a route; raises `NoRouteError` when the patience is over."""
        while missing := await self.missing():
            self._check(missing)
            await asyncio.sleep(_POLL)

    async def guard(self) -> None:
        """Raises `NoRouteError` as soon as there has been no route for too long."""
        while True:
            await asyncio.sleep(_POLL)
            if missing := await self.missing():
                self._check(missing)

    def _check(self, missing: tuple[tuple[int, int], ...]) -> None:
        assert self._since is not None, "a gap has a beginning"
        if asyncio.get_running_loop().time() - self._since >= self._patience:
            raise NoRouteError(missing)
