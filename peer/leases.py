"""Who may use how many pages of KV memory, and who waits for them.

A lease is a promise of pages to one session. It grows by need, never by maximum length. Where pages
are short, requests wait in order, but sessions that run already come before newcomers: a newcomer
that needs much would else hold up everybody. Among members, whoever would have least comes first,
so that nobody fills the queue for the others. Each waits at most its own patience, may be
cancelled, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from swarm.errors import Busy, RequestError


@dataclass(frozen=True)
class _Request:
    session: str
    account: str
    pages: int
    running: bool
    granted: asyncio.Future[None]


class Leases:
    """Pages of one peer, `peer` by id, promised to sessions."""

    def __init__(self, num_pages: int, peer: str = "") -> None:
        self.num_pages = num_pages
        self._peer = peer
        self._held: dict[str, int] = {}
        self._accounts: dict[str, str] = {}
        self._waiting: deque[_Request] = deque()
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever `free` has changed."""

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return self.num_pages - sum(self._held.values())

    @property
    def num_waiting(self) -> int:
        """Requests that wait for pages."""
        return len(self._waiting)

    def held(self, session: str) -> int:
        """Pages that a session holds."""
        return self._held.get(session, 0)

    def account(self, session: str) -> str:
        """Whose a session is that holds a lease."""
        return self._accounts.get(session, "")

    def try_hold(self, session: str, pages: int, account: str = "") -> bool:
        """Raises a session's lease to `pages` in all if that needs no waiting.

        `account` says whose the session is, when it is new.
        """
        more = pages - self.held(session)
        if more <= 0:
            return True
        if more > self.free or self._num_before(running=session in self._held):
            return False
        self._give(session, pages, account)
        return True

    async def hold(self, session: str, pages: int, patience: float, account: str = "") -> None:
        """Raises a session's lease to `pages` in all, waiting for its turn.

        Raises `Busy` after `patience` seconds, and `RequestError` where the peer could never give
        so many.
        """
        if pages > self.num_pages:
            raise RequestError(f"needs {pages} pages of KV memory; this peer has {self.num_pages}")
        if self.try_hold(session, pages, account):
            return
        running, granted = session in self._held, asyncio.get_running_loop().create_future()
        account = self._accounts.get(session, account)
        request = _Request(session, account, pages, running, granted)
        self._waiting.insert(self._num_before(running=running), request)
        self._grant()
        try:
            async with asyncio.timeout(patience):
                await request.granted
        except TimeoutError as error:
            if granted.done() and not granted.cancelled():
                return  # It came in the same turn of the loop as the end of our patience.
            raise Busy(self._peer, f"no room for {pages} pages within {patience:g} s") from error
        finally:
            # A grant may come in the same turn of the loop as a cancellation: it is then held, and
            # goes back when whoever opened the session releases it.
            if request in self._waiting:
                self._waiting.remove(request)
                self._grant()

    def release(self, session: str) -> None:
        """Ends a lease; whoever waits next gets the pages. Unknown sessions are no error."""
        if self._held.pop(session, None) is not None:
            del self._accounts[session]
            self.on_change()
        for request in [r for r in self._waiting if r.session == session]:
            request.granted.cancel()
            self._waiting.remove(request)
        self._grant()

    def _num_before(self, *, running: bool) -> int:
        """How many requests come before a new one."""
        if running:
            return sum(request.running for request in self._waiting)
        return len(self._waiting)

    def _give(self, session: str, pages: int, account: str) -> None:
        self._held[session] = max(pages, self.held(session))
        self._accounts.setdefault(session, account)
        self.on_change()

    def _grant(self) -> None:
        # Those that are cancelled, or out of patience, in this turn of the loop.
        self._waiting = deque(one for one in self._waiting if not one.granted.done())
        while self._waiting:
            request = self._next()
            if request.pages - self.held(request.session) > self.free:
                return
            self._waiting.remove(request)
            self._give(request.session, request.pages, request.account)
            request.granted.set_result(None)

    def _next(self) -> _Request:
        """Whose turn it is: who runs before who does not, then who would have least in all."""
        running = self._waiting[0].running
        claims: Counter[str] = Counter()
        for session, pages in self._held.items():
            claims[self._accounts[session]] += pages
        first, least = self._waiting[0], float("inf")
        for request in self._waiting:
            # What the same one has asked for before comes on top: so its requests keep their order.
            claims[request.account] += request.pages - self.held(request.session)
            if request.running == running and claims[request.account] < least:
                first, least = request, claims[request.account]
        return first
