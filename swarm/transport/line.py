"""What heartbeats tell of the line to one member: its round trips, and how fast it carries ours.

Policy alone; times are seconds that the caller reads.
"""

from __future__ import annotations

_LEAST_SIZE = 64 * 1024
"""Bytes of a message from which on its way is timed: over less, the round trip is all there is."""

_SHORTEST_WAY = 1e-3
"""Seconds; an event loop's clock may not be finer."""

_MAX_PINGS = 64
"""Heartbeats whose answers are waited for; older ones count as lost."""


class Line:
    """One link's line, measured by the answers to numbered heartbeats."""

    def __init__(self) -> None:
        self._num_pings = 0
        self._pings: dict[int, float] = {}
        self._probe: tuple[int, float, int] | None = None
        self._least_trip = float("inf")
        self.upload_rate = 0.0
        """Bytes per second that large messages reach the other side with; 0 while unknown."""
        self.round_trip: float | None = None
        """Smoothed round trip of heartbeats in seconds, once one has been measured."""
        self.deviation = 0.0
        """Smoothed distance of single round trips from `round_trip`, in seconds."""

    def ask(self, now: float) -> int:
        """The number of a heartbeat that is sent now."""
        self._num_pings += 1
        self._pings[self._num_pings] = now
        self._pings.pop(self._num_pings - _MAX_PINGS, None)
        return self._num_pings

    def probe(self, size: int, now: float) -> int | None:
        """The number of a heartbeat to send behind a message of `size` bytes; None for none.

        The line must be idle: what waits before the message would count as its slowness.
        """
        if size < _LEAST_SIZE or self._probe is not None:
            return None
        self._num_pings += 1
        self._probe = self._num_pings, now, size
        return self._num_pings

    def answer(self, number: int, now: float) -> None:
        """A heartbeat has been answered."""
        if self._probe is not None and self._probe[0] == number:
            (_, sent, size), self._probe = self._probe, None
            self._measure_rate(size, now - sent)
        elif (sent_at := self._pings.pop(number, None)) is not None:
            self._measure_trip(now - sent_at)

    def _measure_rate(self, size: int, taken: float) -> None:
        if self._least_trip == float("inf"):
            return
        # Without others' bytes in the way: heartbeats may have waited behind large messages too.
        rate = size / max(taken - self._least_trip, _SHORTEST_WAY)
        # Whatever else held the answer up makes the line look slower than it is, nothing makes it
        # look faster: the best counts, and is forgotten slowly.
        self.upload_rate = max(rate, self.upload_rate + 0.1 * (rate - self.upload_rate))

    def _measure_trip(self, taken: float) -> None:
        """Smooths round trip and deviation as TCP does (RFC 6298, section 2)."""
        self._least_trip = min(self._least_trip, taken)
        if self.round_trip is None:
            self.round_trip, self.deviation = taken, taken / 2
        else:
            self.deviation += 0.25 * (abs(taken - self.round_trip) - self.deviation)
            self.round_trip += 0.125 * (taken - self.round_trip)
