"""How fast a peer is just now, from what it was alone and from the batches that it runs.

Policy only: no torch, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_SPAN = 5.0
"""Seconds over which load is averaged, and over which it is forgotten."""

_GRACE = 2.0
"""Seconds without a batch after which the peer counts as less and less loaded."""

_MANY = 32
"""Positions of prompts in a batch from which their speed can be told."""


@dataclass(frozen=True)
class Speed:
    """What a span takes, in seconds: a decode step, and each position of a long prefill.

    `queue_seconds` is what a decode step that arrives now would wait before it is computed.
    """

    decode_seconds: float
    prefill_seconds: float
    queue_seconds: float = 0.0


@dataclass(frozen=True)
class Ran:
    """A batch: how long it took, and what was in it.

    `queue` is the mean time for which its `num_decode` decode steps had waited.
    """

    seconds: float
    num_decode: int
    num_prefill: int
    queue: float = 0.0


class _Estimate:
    """A mean of what was seen lately; without news it goes back to `idle`."""

    def __init__(self, idle: float) -> None:
        self._idle = self._value = idle
        self._time = float("-inf")

    def note(self, value: float, now: float) -> None:
        old = self.at(now)
        # After a pause one batch says little: it may have been out of the ordinary.
        share = min(0.25, 1 - math.exp(-max(0.0, now - self._time) / _SPAN))
        self._value, self._time = old + share * (value - old), now

    def at(self, now: float) -> float:
        silent = max(0.0, now - self._time - _GRACE)
        return self._idle + (self._value - self._idle) * math.exp(-silent / _SPAN)


class Load:
    """The speed of a span under what it has to do; `idle` is its speed alone."""

    def __init__(self, idle: Speed) -> None:
        self.idle = idle
        self._decode = _Estimate(idle.decode_seconds)
        self._prefill = _Estimate(idle.prefill_seconds)
        self._queue = _Estimate(0.0)
        self._rest = 0.0
        self._time = 0.0

    def ran(self, ran: Ran, now: float) -> None:
        """A batch is done."""
        self._rest = self._rest_at(now) + ran.seconds**2 / 2 / _SPAN
        self._time = now
        if ran.num_decode:
            self._decode.note(ran.seconds, now)
            self._queue.note(ran.queue, now)
        if ran.num_prefill >= _MANY:
            self._prefill.note(ran.seconds / ran.num_prefill, now)

    def speed(self, now: float) -> Speed:
        """The speed for one session more.

        It waits as long as others' decode steps did lately, or for the rest of the batch that it
        is likely to find: half the square of each batch's time, over all time (the mean residual
        life of a renewal process), which counts peers that only compute prompts as well.
        """
        queue = max(self._queue.at(now), self._rest_at(now))
        return Speed(self._decode.at(now), self._prefill.at(now), queue)

    def _rest_at(self, now: float) -> float:
        return self._rest * math.exp(-max(0.0, now - self._time) / _SPAN)
