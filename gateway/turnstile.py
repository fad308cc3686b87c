"""Where requests wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .config import GatewayConfig
from .refusals import Reason, Refusal
from .turns import Full, Turn, Turns


class Turnstile:
    """Lets requests through as `Turns` says."""

    def __init__(self, config: GatewayConfig) -> None:
        self._most = config.most_running
        self._turns = Turns(config.most_running, config.most_waiting, config.most_waiting_each)
        self._called: dict[Turn, asyncio.Future[None]] = {}
        self._refusal: Refusal | None = None

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        return self._turns.num_waiting

    @property
    def num_places(self) -> int:
        """Places that are taken."""
        return self._turns.num_places

    @asynccontextmanager
    async def turn(self, caller: str, places: int) -> AsyncIterator[None]:
        """Waits for the caller's turn, which lasts as long as the block; raises `Refusal`."""
        self.check(caller, places)
        loop = asyncio.get_running_loop()
        turn = self._turns.join(caller, places, loop.time())
        called = self._called[turn] = loop.create_future()
        try:
            self._call()
            await called
            yield
        finally:
            del self._called[turn]
            self._turns.leave(turn, loop.time())
            self._call()

    def check(self, caller: str, places: int) -> None:
        """Raises the `Refusal` with which `turn` would begin."""
        if self._refusal is not None:
            raise self._refusal
        if places > self._most:
            text = f"{places} answers at once are more than the {self._most} that are made here"
            raise Refusal(Reason.INVALID, text)
        try:
            self._turns.check(caller, places, asyncio.get_running_loop().time())
        except Full as full:
            text, after = str(full), full.retry_after
            raise Refusal(Reason.BUSY, text, retry_after=after) from full

    def close(self, refusal: Refusal) -> None:
        """Refuses those who wait and those who come; whose turn it is goes on."""
        self._refusal = refusal
        for called in self._called.values():
            if not called.done():
                called.set_exception(refusal)

    def _call(self) -> None:
        if self._refusal is not None:
            return
        for turn in self._turns.start():
            # Who was cancelled in this very moment gives its turn back as it leaves.
            if not self._called[turn].done():
                self._called[turn].set_result(None)
