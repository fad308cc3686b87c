"""Steps that have come and are not computed yet: what they hold, by session and by member."""

from __future__ import annotations

from collections import Counter

from swarm.transport.quota import Quota

from .limits import MemberLimits
from .session import Arrival, HopSession

_STEP_BYTES = 1024
"""What a step takes beside its payload, about."""


class Inbox:
    """Counts what arrives until it is computed or dropped."""

    def __init__(self, limits: MemberLimits) -> None:
        self._accounts: Quota[str] = Quota(limits.inbox_bytes, limits.all_inbox_bytes)
        self._sessions: Counter[HopSession] = Counter()

    @property
    def num_bytes(self) -> int:
        """What all steps hold."""
        return self._accounts.held

    def add(self, session: HopSession, arrival: Arrival) -> HopSession | None:
        """Counts a step; gives the session that has to be closed where it is too much."""
        size = _size(arrival)
        within = self._accounts.fits(session.account, size)
        self._accounts.add(session.account, size)
        self._sessions[session] += size
        if within:
            return None
        largest = self._accounts.largest if self._accounts.overflows else session.account
        held = {one: size for one, size in self._sessions.items() if one.account == largest}
        return max(held, key=held.__getitem__)

    def remove(self, session: HopSession, arrival: Arrival) -> None:
        """A step has been computed. One of those that were dropped may still come back."""
        self._release(session, min(_size(arrival), self._sessions[session]))

    def drop(self, session: HopSession) -> None:
        """The session's steps are dropped."""
        self._release(session, self._sessions[session])

    def _release(self, session: HopSession, size: int) -> None:
        self._accounts.remove(session.account, size)
        self._sessions[session] -= size
        if not self._sessions[session]:
            del self._sessions[session]


def _size(arrival: Arrival) -> int:
    return len(arrival.payload) + _STEP_BYTES
