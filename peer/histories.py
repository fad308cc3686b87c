"""What sessions' histories take together, and whose is dropped where that is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from .kept import KeptPrefixes
from .session import HopSession


class Histories:
    """Bounds the histories of `sessions`, which are in the order of their last use.

    They and those of what is kept hold at most `max_bytes` in all, one session's at most
    `max_session_bytes`. Kept ones go first, then, of the member that has most, those of the
    sessions that have been silent longest.
    """

    def __init__(
        self,
        sessions: Mapping[str, HopSession],
        kept: KeptPrefixes,
        *,
        max_bytes: int,
        max_session_bytes: int,
    ) -> None:
        self._sessions = sessions
        self._kept = kept
        self._max_bytes = max_bytes
        self._max_session_bytes = max_session_bytes

    def bound(self) -> None:
        """Drops histories until the limits hold, except those that were not sent on yet."""
        total = sum(session.feed.history.num_bytes for session in self._sessions.values())
        limit = self._max_bytes - total
        while self._kept.history_bytes > limit and self._kept.drop_history():
            pass
        for session in self._sessions.values():
            if session.feed.history.num_bytes > self._max_session_bytes:
                total -= self._drop(session)
        while total > self._max_bytes and (dropped := self._drop_one()):
            total -= dropped

    def _drop_one(self) -> int:
        """Of the member whose histories hold most, the one that was silent longest."""
        held: Counter[str] = Counter()
        for session in self._sessions.values():
            if session.feed.next is not None:
                held[session.account] += session.feed.history.num_bytes
        largest = max(held, key=held.__getitem__, default=None)
        own = (one for one in self._sessions.values() if one.account == largest)
        return next((size for one in own if (size := self._drop(one))), 0)

    def _drop(self, session: HopSession) -> int:
        """The bytes that are free now."""
        if session.feed.next is None:
            return 0  # It has not been sent yet: nobody would send it again.
        size = session.feed.history.num_bytes
        session.feed.history.drop()
        return size
