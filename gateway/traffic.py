"""The requests that are being answered, for who wants to stop when they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .refusals import Reason, Refusal

_RETRY = 5.0
"""Seconds until another gateway may have taken this one's place."""


def stopping() -> Refusal:
    """What is said to those who come, or still wait, while the gateway is stopping."""
    return Refusal(Reason.STOPPING, "the gateway is stopping", retry_after=_RETRY)


class Traffic:
    """Counts requests, and lets none in once it is closed."""

    def __init__(self) -> None:
        self.num_running = 0
        self._closed = False
        self._idle = asyncio.Event()

    @contextmanager
    def request(self) -> Iterator[None]:
        """One request is answered inside the block; raises `Refusal` once this is closed."""
        if self._closed:
            raise stopping()
        self.num_running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.num_running -= 1
            if not self.num_running:
                self._idle.set()

    def close(self) -> None:
        """Lets nobody in any more."""
        self._closed = True

    async def idle(self, seconds: float) -> None:
        """Waits until nothing is answered, and no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.num_running:
                    await self._idle.wait()
