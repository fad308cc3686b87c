"""Keeps clients, and the sessions of one client, from all choosing the same peer at once.

Announcements tell others' load only seconds later. Policy only: no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b

SPREAD = 0.1
"""Part of a peer's time by which clients differ in what they prefer."""

_NEWS = 10.0
"""Seconds after which announcements tell what a session does to a peer."""

_OPENING = 2.0
"""Seconds for which a session counts that is about to be opened."""


class Crowd:
    """How one client leans: `weight` is a factor for the time that a peer would take.

    A client without a name leans nowhere, and takes equal peers by their ids.
    """

    def __init__(self, client: str = "") -> None:
        self._client = client
        self._sent: deque[tuple[float, str]] = deque()
        self._open: dict[str, tuple[float, tuple[str, ...]]] = {}

    def send(self, peers: Iterable[str], now: float) -> None:
        """A session is about to be opened on these peers."""
        self._sent.extend((now, peer) for peer in peers)

    def enter(self, session: str, peers: Iterable[str], now: float) -> None:
        """A session is open on these peers, and perhaps on others no more."""
        since, _ = self._open.get(session, (now, ()))
        self._open[session] = since, tuple(peers)

    def leave(self, session: str) -> None:
        """A session has ended: what it kept where it was may serve the next one."""
        self._open.pop(session, None)

    def weight(self, peer: str, now: float) -> float:
        """1 and up to a tenth more by chance, and a tenth for each of our new sessions there.

        A row more costs a batch about as much.
        """
        if not self._client:
            return 1.0
        while self._sent and self._sent[0][0] <= now - _OPENING:
            self._sent.popleft()
        sent = sum(name == peer for _, name in self._sent)
        new = sum(now - since < _NEWS and peer in peers for since, peers in self._open.values())
        return 1 + SPREAD * (self._chance(peer) + max(sent, new))

    def _chance(self, peer: str) -> float:
        """In [0, 1), always the same for a client and a peer."""
        digest = blake2b(f"{self._client} {peer}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64
