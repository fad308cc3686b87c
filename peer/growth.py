"""Memory for sessions that run: each step takes what it needs, or waits for it in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from swarm.errors import Busy, RequestError
from swarm.wire.messages import Code

from .fairness import Holding, gives_way
from .leases import Leases
from .session import Arrival, HopSession

_IDLE = 60.0
"""Seconds without a step after which a session is no longer in use."""


class Owner(Protocol):
    """Whoever a session is failed and closed by."""

    def fail(self, session: HopSession, code: Code, why: str) -> None:
        """Tells the client that the session cannot go on."""

    def close(self, session: HopSession, why: str) -> None:
        """Frees the session."""


class Growth:
    """Hands steps on to `submit` once the session's lease covers them.

    `patience` is how many seconds a session waits for memory until the newest one gives way.
    """

    def __init__(
        self,
        leases: Leases,
        sessions: Mapping[str, HopSession],
        tasks: asyncio.TaskGroup,
        owner: Owner,
        submit: Callable[[HopSession, Arrival], None],
        *,
        page_len: int,
        patience: float,
    ) -> None:
        self._leases = leases
        self._sessions = sessions
        self._tasks = tasks
        self._owner = owner
        self._submit = submit
        self._page_len = page_len
        self._patience = patience
        self._made_room_at = float("-inf")

    def admit(self, session: HopSession) -> None:
        """Gives the session's waiting steps to the engine, as far as its lease reaches."""
        if session.waiting:
            return
        if self._leases.try_hold(session.id, session.pages_needed(self._page_len)):
            while session.backlog:
                self._submit(session, session.backlog.popleft())
        else:
            session.waiting = True
            self._tasks.create_task(self._grow(session))

    async def _grow(self, session: HopSession) -> None:
        try:
            while not await self._try_grow(session):
                pass
        except RequestError as error:
            session.waiting = False
            if not session.closed:
                session.backlog.clear()
                self._owner.fail(session, Code.TOO_LONG, str(error))
        except asyncio.CancelledError:
            # The session closed while it waited; `release` cancels the request, not this task.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        else:
            session.waiting = False
            if not session.closed:
                self.admit(session)

    def make_room(self, account: str, pages: int) -> None:
        """A session of `account` that is to open has waited for long.

        Whoever has more than a share gives it up as far as it can spare it; the others only wait.
        """
        found = gives_way(self._holdings(), account, pages, self._leases.num_pages)
        if found is not None and found.account != account and pages > self._leases.free:
            self._close(self._sessions[found.session], f"made room for others: {pages} pages")

    async def _try_grow(self, session: HopSession) -> bool:
        """Whether there was room in time; if not, the newest session loses what it has.

        Were all to wait instead, nobody would give back anything. As it is always the newest, here
        and at every other peer, and the oldest that needs it, the oldest comes to its end, and then
        the next. What a member has beyond its share goes first, except for its oldest session.
        """
        leases = self._leases
        pages = session.pages_needed(self._page_len)
        try:
            await leases.hold(session.id, pages, self._patience)
        except Busy as error:
            if session.closed or not session.backlog:
                return True  # A new epoch has dropped what needed the room.
            if session.number > min(one.number for one in self._sessions.values() if one.waiting):
                return False  # Somebody older comes first; all of us together would evict all.
            account, more = leases.account(session.id), pages - leases.held(session.id)
            found = gives_way(self._holdings(), account, more, leases.num_pages)
            newest = max(self._sessions.values(), key=lambda one: one.number)
            victim = newest if found is None else self._sessions[found.session]
            self._close(victim, f"made room for older sessions: {error}")
            return session.closed
        return True

    def _close(self, session: HopSession, why: str) -> None:
        now = asyncio.get_running_loop().time()
        # Patience ends for many in one turn: one gives way at a time.
        if now - self._made_room_at >= self._patience / 2:
            self._made_room_at = now
            self._owner.fail(session, Code.BUSY, why)
            self._owner.close(session, "made room")

    def _holdings(self) -> list[Holding]:
        leases, now = self._leases, asyncio.get_running_loop().time()
        return [
            Holding(
                one.id,
                leases.account(one.id),
                one.number,
                leases.held(one.id),
                idle=now - one.used_at > _IDLE,
            )
            for one in sorted(self._sessions.values(), key=lambda one: one.number)
        ]
