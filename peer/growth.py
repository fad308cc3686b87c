"""Memory for sessions that run: each step takes what it needs, or waits for it in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from swarm.errors import Busy, RequestError
from swarm.wire.messages import Code

from .leases import Leases
from .session import Arrival, HopSession


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

    async def _try_grow(self, session: HopSession) -> bool:
        """Whether there was room in time; if not, the newest session loses what it has.

        Were all to wait instead, nobody would give back anything. As it is always the newest, here
        and at every other peer, and the oldest that needs it, the oldest comes to its end, and then
        the next.
        """
        pages = session.pages_needed(self._page_len)
        try:
            await self._leases.hold(session.id, pages, self._patience)
        except Busy as error:
            if session.closed or not session.backlog:
                return True  # A new epoch has dropped what needed the room.
            if session.number > min(one.number for one in self._sessions.values() if one.waiting):
                return False  # Somebody older comes first; all of us together would evict all.
            now = asyncio.get_running_loop().time()
            if now - self._made_room_at < self._patience / 2:
                return False  # Patience ends for many in one turn: one gives way at a time.
            self._made_room_at = now
            newest = max(self._sessions.values(), key=lambda one: one.number)
            self._owner.fail(newest, Code.BUSY, f"made room for older sessions: {error}")
            self._owner.close(newest, "made room")
            return session.closed
        return True
