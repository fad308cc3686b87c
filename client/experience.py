"""What a client has seen of peers' speed: a claim counts until experience speaks against it.

Policy only: no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from swarm.directory import Announcement
from swarm.wire.messages import HopTime

from .route import HOP_SECONDS, UNKNOWN_ROUND_TRIP, Hop

_NUM = 8
"""Steps of which the quickest counts: whatever disturbed single ones is nobody's lie."""

_ENOUGH = 4

_TOLERANCE = 1.5
_SLACK = 0.001
"""A hop may take so many times, and so many seconds more than what was announced."""

_HALF_LIFE = 300.0
"""Seconds after which half of what was seen is forgotten, so that a peer gets another chance."""


class Experience:
    """How much slower peers have been than they say, in seconds per block of a decode step."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}
        self._time: dict[str, float] = {}

    def note(
        self,
        route: Sequence[Hop],
        times: Sequence[HopTime],
        seconds: float,
        announced: Mapping[str, Announcement],
        round_trips: Mapping[str, float],
        now: float,
    ) -> None:
        """A decode step went through `route` in `seconds`, of which the hops admit `times`.

        What they do not admit and no way explains is shared by all: whoever hides its slowness is
        soon the one whom all slow routes have in common.
        """
        if [(hop.start, hop.end) for hop in route] != [(time.start, time.end) for time in times]:
            return
        admitted = [(time.queue + time.compute) / 1e6 for time in times]
        # No two peers are further apart than by way of us.
        way = sum(round_trips.get(hop.peer, UNKNOWN_ROUND_TRIP) + HOP_SECONDS for hop in route)
        hidden = max(0.0, seconds - sum(admitted) - way) / len(route)
        for hop, spent in zip(route, admitted, strict=True):
            entry = announced.get(hop.peer)
            if entry is None or entry.start >= entry.end:
                continue
            num_blocks = hop.end - hop.start
            share = num_blocks / (entry.end - entry.start)
            expected = entry.queue_seconds + entry.decode_seconds * share
            excess = spent + hidden - _TOLERANCE * expected - _SLACK
            self._seen.setdefault(hop.peer, deque(maxlen=_NUM)).append(excess / num_blocks)
            self._time[hop.peer] = now

    def slower(self, peer: str, now: float) -> float:
        """Seconds per block by which a peer is slower than it says; 0 for those that are not."""
        seen = self._seen.get(peer, ())
        if len(seen) < _ENOUGH:
            return 0.0
        age = max(0.0, now - self._time[peer])
        return float(max(0.0, min(seen)) * 0.5 ** (age / _HALF_LIFE))
