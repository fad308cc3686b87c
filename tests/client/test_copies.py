"""How a client has a hop show what it has sent on."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from swarm.client.auditing.copies import CopyOf
from swarm.client.exchange import Exchange
from swarm.client.hop import OpenHop
from swarm.client.route import Hop
from swarm.errors import Misbehaved, StepTimeout
from swarm.session.feed import Computed, Feed
from swarm.wire.messages import Copy, RowRange, Want

pytestmark = pytest.mark.simulated_time

SIZE = 8192
"""Bytes of a position, as of a model with 7 billion parameters."""


class Shower:
    """A link to a hop that shows its history over a line of `rate` bytes per second."""

    peer = "hop"

    def __init__(self, exchange: Exchange, rate: float, num_rows: int = 1) -> None:
        self.feed = Feed(num_rows, SIZE)
        self.largest = 0
        self._exchange = exchange
        self._rate = rate
        self._tasks: set[asyncio.Task[None]] = set()

    def write(self, row: int, data: bytes) -> None:
        rows = (RowRange(row, 0, len(data) // SIZE),)
        self.feed.push(Computed(rows, memoryview(data), Want.NOTHING, 0))

    def post(self, message: Any, payload: bytes = b"") -> None:
        assert isinstance(message, Copy)
        task = asyncio.create_task(self._show(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _show(self, message: Copy) -> None:
        shown = 0
        for step, data in self.feed.copy(message.epoch, message.next, message.until):
            await asyncio.sleep(len(data) / self._rate)
            shown += len(data)
            await self._exchange.on_message(self, step, data)  # type: ignore[arg-type]
        self.largest = max(self.largest, shown)


def copy_of(link: Any) -> CopyOf:
    return CopyOf(OpenHop(Hop("hop", 0, 1), link), SIZE)


async def test_a_long_history_comes_in_parts_over_a_slow_line() -> None:
    """0.5 Mbit/s: as a whole it would take too long, and all else would wait behind it."""
    exchange, data = Exchange(), os.urandom(300 * SIZE)
    link = Shower(exchange, rate=62_500.0, num_rows=2)
    link.write(0, os.urandom(3 * SIZE))
    link.write(1, data)
    assert bytes(await copy_of(link).fetch(exchange, 1, 1, (0, 290))) == data[: 290 * SIZE]
    assert link.largest <= 1 << 17


async def test_a_hop_that_shows_nothing_is_waited_for_once() -> None:
    exchange = Exchange()
    link = Shower(exchange, rate=1.0)
    link.write(0, os.urandom(SIZE))
    with pytest.raises(StepTimeout):
        await copy_of(link).fetch(exchange, 1, 0, (2,))
    assert not exchange._receivers


async def test_more_than_was_asked_for_is_not_taken() -> None:
    exchange = Exchange()
    link = Shower(exchange, rate=1e9)
    link.write(0, os.urandom(5 * SIZE))
    copy = link.feed.copy
    link.feed.copy = lambda epoch, next_, until: copy(epoch, next_)  # type: ignore[method-assign]
    with pytest.raises(Misbehaved):
        await copy_of(link).fetch(exchange, 1, 0, (2,))
