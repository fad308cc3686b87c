"""Has a hop show what it has sent on so far."""

from __future__ import annotations

import asyncio
import secrets

from swarm.errors import Misbehaved, PeerError, SessionLost, StepTimeout
from swarm.session.trace import Trace
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.wire.messages import AnyMessage, Copy, Next, Step

from ..exchange import Exchange
from ..hop import OpenHop

_PATIENCE = 8.0
"""Seconds until the next part of a copy arrives."""

_PART_LEN = 1 << 17
"""Bytes that are asked for at once. Outputs of the session may have to wait behind them: for 2 s on
a line of 0.5 Mbit/s."""


class CopyOf:
    """The first positions of one row, as one hop has sent them on. Used once."""

    def __init__(self, hop: OpenHop, position_len: int) -> None:
        self._hop = hop
        self._position_len = position_len
        self._name = secrets.token_hex(16)
        self._row = 0
        self._num_bytes = 0
        self._data = bytearray()
        self._error: PeerError | None = None
        self._news = asyncio.Event()

    async def fetch(
        self, exchange: Exchange, epoch: int, row: int, lengths: tuple[int, ...]
    ) -> memoryview:
        """The bytes of the first `lengths[row]` positions of `row`; of other rows nothing.

        Raises `PeerError` where they do not come, in time or at all.
        """
        self._row, length = row, lengths[row]
        exchange.register(self._name, self)
        self._hop.on_close.append(self._end)
        try:
            step = max(1, _PART_LEN // self._position_len)
            for position in range(0, length, step):
                self._ask(epoch, len(lengths), position, min(position + step, length))
                while len(self._data) < self._num_bytes:
                    await self._wait()
            return memoryview(self._data)
        finally:
            exchange.unregister(self._name)
            self._hop.on_close.remove(self._end)

    def _ask(self, epoch: int, num_rows: int, start: int, end: int) -> None:
        def of_row(position: int) -> tuple[int, ...]:
            return tuple(position if row == self._row else 0 for row in range(num_rows))

        self._num_bytes = end * self._position_len
        next_ = Next(None, self._name, (), of_row(start))
        self._hop.link.post(Copy(self._hop.session, epoch, next_, of_row(end)))

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._news.clear()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._news.wait()
        except TimeoutError as error:
            raise StepTimeout(self._hop.hop.peer, "did not show what it had sent on") from error

    def _end(self) -> None:
        self._error = SessionLost(self._hop.hop.peer, "the session there has ended")
        self._news.set()

    def on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        """A part of the copy."""
        if link is not self._hop.link or not isinstance(message, Step):
            return
        position = len(self._data) // self._position_len
        count = len(payload) // self._position_len
        rows = [(span.row, span.position, span.count) for span in message.rows]
        whole = len(payload) == count * self._position_len
        room = self._num_bytes - len(self._data)
        if rows != [(self._row, position, count)] or not whole or len(payload) > room:
            self._error = Misbehaved(link.peer, f"shows {rows} instead of what it was asked for")
        else:
            self._data += payload
        self._news.set()

    def on_lost(self, link: Link, error: PeerError) -> None:
        """A link has ended, perhaps the one over which the copy comes."""
        if link is self._hop.link:
            self._error = SessionLost(link.peer, str(error))
            self._news.set()


def traced(data: memoryview, position_len: int) -> bytes:
    """The mark of these positions."""
    trace = Trace(position_len)
    trace.write(0, data)
    return trace.mark(len(data) // position_len)
