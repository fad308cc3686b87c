"""What peers compute again for the sessions of one client: all at once, where a peer has died.

Policy only: no clock.
"""

from __future__ import annotations

from collections.abc import Iterable


class Refills:
    """Positions that sessions wait for, by the peers that have to compute them."""

    def __init__(self) -> None:
        self._lacking: dict[str, tuple[frozenset[str], int]] = {}

    def begin(self, session: str, peers: Iterable[str], lacking: int) -> None:
        """Nothing can come out of a session before its peers have computed so many positions."""
        self.end(session)
        if lacking > 0:
            self._lacking[session] = frozenset(peers), lacking

    def end(self, session: str) -> None:
        """Something has come out of it, or nobody waits for it any more."""
        self._lacking.pop(session, None)

    def ahead(self, peers: Iterable[str]) -> int:
        """Positions, of all sessions, that the busiest of these peers has to compute first."""
        return max(
            (
                sum(lacking for others, lacking in self._lacking.values() if peer in others)
                for peer in peers
            ),
            default=0,
        )
