"""What a client has against peers: those caught, those in doubt, those to be looked at.

Policy only: no clock. Times are in seconds.
"""

from __future__ import annotations

from .config import AuditConfig

ENOUGH_QUARRELS = 3
"""Neighbours with whom one has quarrelled until it is not them: each quarrel has a liar, and a liar
is in all of its own."""

ENOUGH_REFUSALS = 5
"""Checks in a row that came to nothing because a peer did not show what it had committed to."""

_DOUBT_SECONDS = 600.0


class Repute:
    """One client's memory of its peers' honesty; shared by all its sessions."""

    def __init__(self, config: AuditConfig) -> None:
        self._config = config
        self._caught: dict[str, float] = {}
        self._doubted: dict[str, float] = {}
        self._watched: dict[str, float] = {}
        self._quarrels: dict[str, set[str]] = {}
        self._refusals: dict[str, int] = {}
        self.num_caught = 0
        """Times that somebody was caught; what peers kept before may come from it."""

    def catch(self, peer: str, now: float) -> None:
        """A peer was found to compute wrongly."""
        self._caught[peer] = now + self._config.avoid_seconds
        self.num_caught += 1

    def quarrel(self, one: str, other: str, now: float) -> None:
        """Two neighbours contradict each other: one of them lies, and it is not known which."""
        for peer, partner in ((one, other), (other, one)):
            partners = self._quarrels.setdefault(peer, set())
            partners.add(partner)
            self.watch(peer, now)
            if len(partners) >= ENOUGH_QUARRELS:
                self._doubted[peer] = now + _DOUBT_SECONDS
                partners.clear()

    def refuse(self, peer: str, now: float) -> None:
        """A peer did not show what it had committed to. It may have lost it."""
        self._refusals[peer] = self._refusals.get(peer, 0) + 1
        if self._refusals[peer] >= ENOUGH_REFUSALS:
            self.doubt(peer, now)

    def doubt(self, peer: str, now: float) -> None:
        """A peer is left alone for a while: what it does cannot be checked."""
        self._doubted[peer] = now + _DOUBT_SECONDS
        self._refusals.pop(peer, None)

    def agree(self, peer: str) -> None:
        """A check has found a peer right."""
        self._refusals.pop(peer, None)
        self._quarrels.pop(peer, None)

    def watch(self, peer: str, now: float) -> None:
        """There is a reason to look closer at a peer for a while."""
        self._watched[peer] = now + self._config.watch_seconds

    def rate(self, peer: str, now: float) -> float:
        """The part of a peer's work for us that is to be checked now."""
        if now < self._watched.get(peer, now):
            return max(self._config.rate, self._config.watch_rate)
        return self._config.rate

    def caught(self, now: float) -> frozenset[str]:
        """Peers that were found to compute wrongly."""
        return frozenset(peer for peer, until in self._caught.items() if now < until)

    def avoided(self, now: float) -> frozenset[str]:
        """Peers that no route leads through now."""
        doubted = (peer for peer, until in self._doubted.items() if now < until)
        return self.caught(now).union(doubted)
