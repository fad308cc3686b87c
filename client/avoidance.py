"""Peers to leave alone for a while: a time that grows with each fault, and ends."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 1.0
"""Seconds for a first fault."""

LONGEST = 15.0
"""Well below the time that a session waits for a route: a lone peer is tried again in time."""

FORGIVEN_AFTER = 300.0
"""Seconds without a fault after which the next one counts as the first."""


@dataclass(frozen=True)
class _Fault:
    until: float
    penalty: float


class Avoidance:
    """Faults of peers; the caller gives the time in seconds."""

    def __init__(self) -> None:
        self._faults: dict[str, _Fault] = {}

    def blame(self, peer: str, now: float) -> None:
        """Notes a fault: avoided for a second at first, twice as long each further time."""
        old = self._faults.get(peer)
        if old is not None and now < old.until:
            return  # One death is seen by many sessions; it is one fault.
        repeated = old is not None and now < old.until + FORGIVEN_AFTER
        penalty = min(LONGEST, 2 * old.penalty) if old is not None and repeated else FIRST
        self._faults[peer] = _Fault(now + penalty, penalty)

    def avoided(self, now: float) -> frozenset[str]:
        """Peers to avoid now."""
        return frozenset(peer for peer, fault in self._faults.items() if now < fault.until)
