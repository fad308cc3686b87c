"""How much this machine sends: one limit for all streams, so that its owner's line stays usable.

What is small goes at once and is paid for afterwards: heartbeats and control messages must not
wait, or others would take us for dead. Everything else goes in pieces, steps before what is long,
and streams in turn. So does what is small beyond its share: whoever has us answer very many pings
takes half of the line, and then one stream's turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import IntEnum

from swarm.errors import ConfigError

_URGENT = 512
"""Bytes of a frame that need not wait: heartbeats, and what opens, wires and closes sessions."""

_BRIEF = 32 * 1024
"""Bytes of a frame that goes before longer ones: a token on its way."""

_URGENT_SHARE = 0.5
"""Of the rate: what such frames may take together, after as much as that is in a second."""

_BURST_S = 0.05
_PIECE_S = 0.02
_LEAST_PIECE, _MOST_PIECE = 1400, 16 * 1024
"""Bytes that are sent at once: so few that on a slow line, too, each of many links carries some
within the time after which a silent one counts as dead."""

_EACH = 1.06
_PER_FRAME = 100
"""What the wire carries beside our bytes: headers of TCP, IP and Ethernet in each packet, and those
of libp2p's encryption and multiplexing."""

_BULK_TURN = 8
"""Of so many pieces one is of something long, whatever steps there are."""


class Lane(IntEnum):
    """What waits for what."""

    URGENT = 0
    BRIEF = 1
    BULK = 2


def lane(size: int) -> Lane:
    """The lane of a frame of `size` bytes."""
    if size <= _URGENT:
        return Lane.URGENT
    return Lane.BRIEF if size <= _BRIEF else Lane.BULK


class Uplink:
    """A token bucket for all that one process sends: `rate` bytes per second on the wire."""

    def __init__(self, rate: float) -> None:
        if rate <= 0:
            raise ConfigError("an upload rate must be positive")
        self.rate = rate
        self.piece_len = int(min(max(rate * _PIECE_S, _LEAST_PIECE), _MOST_PIECE))
        """Bytes of a piece; see `take`."""
        self._burst = max(rate * _BURST_S, float(self.piece_len))
        self._left = self._burst
        self._urgent_left = rate * _URGENT_SHARE
        self._counted_at = self._now()
        self._waiting: dict[Lane, deque[tuple[int, asyncio.Future[None]]]] = {
            Lane.BRIEF: deque(),
            Lane.BULK: deque(),
        }
        self._num_granted = 0
        self._timer: asyncio.TimerHandle | None = None
        self.sent_bytes = 0.0
        """Bytes that were paid for, with what the wire adds."""

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def charge(self, size: int) -> None:
        """Pays for what is sent without waiting."""
        self._count()
        self._pay(size + _PER_FRAME)

    def admits(self, size: int) -> bool:
        """Pays for a frame of `size` bytes if it may go at once; returns whether it may."""
        self._count()
        if lane(size) is Lane.URGENT:
            if self._urgent_left <= 0:
                return False
            self._urgent_left -= (size + _PER_FRAME) * _EACH
        elif self._owes or any(self._waiting.values()) or size > self.piece_len:
            return False
        self._pay(size + _PER_FRAME)
        return True

    async def take(self, size: int, of: Lane) -> None:
        """Waits until a piece of at most `piece_len` bytes may be sent, and pays for it."""
        self._count()
        waiting = self._waiting[of]
        if not self._owes and not any(self._waiting.values()):
            self._pay(size)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append((size, granted))
        self._plan()
        await granted

    @property
    def _owes(self) -> bool:
        # Less than a byte is rounding: waiting for it would take no time, and so would never end.
        return self._left <= -1.0

    def _pay(self, size: float) -> None:
        cost = size * _EACH
        self._left -= cost
        self.sent_bytes += cost

    def _count(self) -> None:
        now = self._now()
        gained = (now - self._counted_at) * self.rate
        self._left = min(self._burst, self._left + gained)
        share = self.rate * _URGENT_SHARE
        self._urgent_left = min(share, self._urgent_left + gained * _URGENT_SHARE)
        self._counted_at = now

    def _plan(self) -> None:
        if self._timer is None:
            delay = max(0.0, -self._left / self.rate)
            self._timer = asyncio.get_running_loop().call_later(delay, self._grant)

    def _grant(self) -> None:
        self._timer = None
        self._count()
        while not self._owes and (waiting := self._next()) is not None:
            size, granted = waiting.popleft()
            if not granted.done():  # Whoever waited may have gone.
                self._num_granted += 1
                self._pay(size)
                granted.set_result(None)
        if any(self._waiting.values()):
            self._plan()

    def _next(self) -> deque[tuple[int, asyncio.Future[None]]] | None:
        brief, bulk = self._waiting[Lane.BRIEF], self._waiting[Lane.BULK]
        if bulk and (not brief or self._num_granted % _BULK_TURN == 0):
            return bulk
        return brief or None
