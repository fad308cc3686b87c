"""Sessions that are about to open on this peer: refused, waiting for memory, or let in."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

from swarm.errors import Busy, PeerError, RequestError
from swarm.transport.link import Link
from swarm.wire.messages import AnyMessage, Code, Failed, Open, Opened, Queued

from .kept import Kept, KeptPrefixes
from .leases import Leases
from .limits import HandlerConfig
from .session import HopSession
from .tally import Tally

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """What this peer serves: blocks `[start, end)` of the model with fingerprint `model`."""

    model: str
    start: int
    end: int
    hidden_size: int
    page_len: int


class Openings:
    """Answers every `Open`; a session that is let in goes to `on_opened` first.

    It goes there with the row of `kept` that it begins as, and how much of it, if there is one.
    `sessions` are those that are open already; the caller changes them. What one member may open
    is limited by `limits.member`; `on_pressed(account, pages)` is called again and again while one
    of its sessions waits for so many, first after `limits.growth_patience` seconds.
    """

    def __init__(
        self,
        served: Served,
        leases: Leases,
        sessions: Mapping[str, HopSession],
        tasks: asyncio.TaskGroup,
        *,
        limits: HandlerConfig,
        kept: KeptPrefixes,
        on_opened: Callable[[HopSession, tuple[Kept, int] | None], None],
        on_pressed: Callable[[str, int], None] = lambda account, pages: None,
        tally: Tally | None = None,
    ) -> None:
        self._served = served
        self._tally = tally or Tally()
        self._leases = leases
        self._sessions = sessions
        self._tasks = tasks
        self._limits = limits
        self._kept = kept
        self._on_opened = on_opened
        self._on_pressed = on_pressed
        self._waiting: dict[str, tuple[Link, Open, asyncio.Task[None]]] = {}
        self._queued: Counter[str] = Counter()
        self._numbers = count()
        self.accepting = True
        """Whether new sessions are let in at all."""

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, link: Link, request: Open) -> None:
        """Lets a session in, now or when there is memory for it, or says why not."""
        if refusal := self._refusal(request) or self._excess(link.account, request):
            self._refuse(link, request, *refusal)
            return
        task = self._tasks.create_task(self._open(link, request))
        self._waiting[request.session] = (link, request, task)
        task.add_done_callback(lambda _: self._waiting.pop(request.session, None))

    def cancel(self, link: Link, session: str | None = None) -> None:
        """The client on `link` no longer wants its sessions, or one of them."""
        for name, (client, _, task) in list(self._waiting.items()):
            if client is link and session in (None, name):
                task.cancel()

    def close(self, code: Code, why: str) -> None:
        """Refuses all that wait."""
        for link, request, task in list(self._waiting.values()):
            task.cancel()
            self._refuse(link, request, code, why)

    def _refusal(self, request: Open) -> tuple[Code, str] | None:
        served = self._served
        if not self.accepting:
            return Code.LEAVING, "this peer is leaving"
        if request.model != served.model:
            return Code.WRONG_MODEL, f"this peer serves model {served.model}"
        if not served.start <= request.start < request.end <= served.end:
            return Code.WRONG_MODEL, f"this peer serves blocks {served.start}:{served.end}"
        if request.session in self._sessions or request.session in self._waiting:
            return Code.BAD_REQUEST, "the session is open already"
        if len(self._sessions) + len(self._waiting) >= self._limits.max_sessions:
            return Code.BUSY, f"{self._limits.max_sessions} sessions are open"
        return None

    def _excess(self, account: str, request: Open) -> tuple[Code, str] | None:
        """What would be too much for one member, though there may be room."""
        rows = [one.num_rows for one in self._sessions.values() if one.account == account]
        rows += [one.rows for link, one, _ in self._waiting.values() if link.account == account]
        if len(rows) >= self._limits.member.sessions:
            return Code.BUSY, f"{len(rows)} sessions are yours already"
        if sum(rows) + request.rows > self._limits.member.rows:
            return Code.BUSY, f"{sum(rows)} rows are yours already"
        return None

    async def _wait(self, account: str, request: Open, pages: int) -> None:
        """Returns when there is room; raises `Busy` if the member waits too often already."""
        if self._queued[account] >= self._limits.member.waiting:
            raise Busy(
                self._served.model, f"{self._queued[account]} sessions of yours wait already"
            )
        self._queued[account] += 1
        pressing = self._tasks.create_task(self._press(account, pages))
        try:
            patience = min(request.patience, self._limits.member.patience)
            await self._leases.hold(request.session, pages, patience, account)
        finally:
            self._queued -= Counter([account])
            pressing.cancel()

    async def _press(self, account: str, pages: int) -> None:
        while True:
            await asyncio.sleep(self._limits.growth_patience)
            self._on_pressed(account, pages)

    async def _open(self, link: Link, request: Open) -> None:
        pages = request.rows * -(-request.positions // self._served.page_len)
        try:
            if not self._leases.try_hold(request.session, pages, link.account):
                if (waiting := self._queued[link.account]) >= self._limits.member.waiting:
                    why = f"{waiting} sessions of yours wait already"
                    self._refuse(link, request, Code.BUSY, why)
                    return
                if pages <= self._leases.num_pages:
                    reply(link, Queued(request.session, request.epoch))
                await self._wait(link.account, request, pages)
        except Busy as error:
            self._refuse(link, request, Code.BUSY, str(error))
            return
        except RequestError as error:
            self._refuse(link, request, Code.TOO_LONG, str(error))
            return
        except asyncio.CancelledError:
            # A close may come in the same turn as the grant: nothing may be left behind.
            self._leases.release(request.session)
            raise
        if link.closed:
            self._leases.release(request.session)
            return
        session = HopSession(request, link, self._served.hidden_size, next(self._numbers))
        session.used_at = now = asyncio.get_running_loop().time()
        found = self._kept.find(link.peer, request, now)
        # Who wants our word for it from the beginning gets nothing of which we have no trace.
        if found is not None and not session.commitments.recall(found[0].traces, found[1]):
            found = None
        if found is not None:
            kept, length = found
            session.recall(kept.history.head(length))
            self._tally.num_recalled += length
        self._tally.num_opened += 1
        self._on_opened(session, found)
        history = session.feed.history
        has = max(history.lengths)
        reply(link, Opened(request.session, request.epoch, has, history.replayable))

    def _refuse(self, link: Link, request: Open, code: Code, why: str) -> None:
        self._tally.refusals[code] += 1
        logger.debug("session refused code=%s why=%s", code, why)
        reply(link, Failed(request.session, request.epoch, code, why[:1000]))


def reply(link: Link, message: AnyMessage) -> None:
    """Answers a client; one that is gone needs no answer."""
    try:
        link.post(message)
    except PeerError as error:
        logger.debug("answer lost peer=%s why=%s", link.peer, error)
