"""What sessions' histories take together, and whose is dropped where that is too much."""

from __future__ import annotations

from collections.abc import Mapping

from .kept import KeptPrefixes
from .session import HopSession


class Histories:
    """Bounds the histories of `sessions`, which are in the order of their last use.

    They and those of what is kept hold at most `max_bytes` in all, one session's at most
    `max_session_bytes`. Kept ones go first, then those of the sessions that have been silent
    longest.
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
            held = session.feed.history.num_bytes
            if total <= self._max_bytes and held <= self._max_session_bytes:
                continue
            if session.feed.next is None:
                continue  # It has not been sent yet: nobody would send it again.
            total -= held
            session.feed.history.drop()
