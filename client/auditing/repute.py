"""What a client has against peers: those caught, those in doubt, those to be looked at.

Policy only: no clock. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from .config import AuditConfig

ENOUGH_QUARRELS = 3
"""Quarrels with different others until it is not them: each has a liar, and a liar is in all of its
own. Where one of the others was in all of them too, it may be that one."""

_MAX_QUARRELS = 16
"""Quarrels that are remembered of one peer."""

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
        self._quarrels: dict[str, list[frozenset[str]]] = {}
        self._refusals: dict[str, int] = {}
        self.num_caught = 0
        """Times that somebody was caught; what peers kept before may come from it."""

    def catch(self, peer: str, now: float) -> None:
        """A peer was found to compute wrongly."""
        self._caught[peer] = now + self._config.avoid_seconds
        self.num_caught += 1

    def quarrel(self, owners: Mapping[str, str], now: float) -> None:
        """One of these peers lies about what passed between them, and it is not known which.

        `owners` names the member behind each: a member's many peers count as one against others.
        """
        for peer, owner in owners.items():
            others = frozenset(each for each in owners.values() if each != owner)
            known = self._quarrels.setdefault(peer, [])
            if others not in known:
                known.append(others)
            del known[:-_MAX_QUARRELS]
            self.watch(peer, now)
            if len(known) >= ENOUGH_QUARRELS and not frozenset.intersection(*known):
                self._doubted[peer] = now + _DOUBT_SECONDS
                known.clear()

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
