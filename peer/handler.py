"""What messages do on a peer: opens, wires, holds and closes sessions, and takes in their steps."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from itertools import count

from swarm.errors import Busy, ConfigError, PeerError, RemoteProtocolError, RequestError
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.transport.neighbours import Neighbours
from swarm.wire.messages import (
    AnyMessage,
    Close,
    Code,
    Failed,
    Held,
    Hold,
    Next,
    Open,
    Opened,
    Step,
    Wire,
)

from .engine import Engine
from .leases import Leases
from .session import Done, HopSession

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HandlerConfig:
    """Limits of what sessions may take.

    `history_bytes` bounds what all sessions' histories hold together; beyond it the sessions that
    have been silent longest lose theirs, and recovery then goes one hop further back for them.
    `growth_patience` is how many seconds a running session waits for more KV memory before the
    newest session has to give way.
    """

    history_bytes: int = 1 << 30
    growth_patience: float = 2.0
    max_sessions: int = 1024

    def __post_init__(self) -> None:
        if self.history_bytes < 0 or self.growth_patience <= 0 or self.max_sessions < 1:
            raise ConfigError("a handler's limits must be positive")


@dataclass(frozen=True)
class Served:
    """What this peer serves: blocks `[start, end)` of the model with fingerprint `model`."""

    model: str
    start: int
    end: int
    hidden_size: int
    page_len: int


class Handler:
    """All sessions on this peer, and the messages that change them."""

    def __init__(
        self,
        served: Served,
        leases: Leases,
        tasks: asyncio.TaskGroup,
        config: HandlerConfig | None = None,
    ) -> None:
        self._served = served
        self._leases = leases
        self._tasks = tasks
        self._config = config or HandlerConfig()
        # Ordered by last use: the first is the one that has been silent longest.
        self._sessions: dict[str, HopSession] = {}
        self._opening: dict[str, tuple[Link, Open, asyncio.Task[None]]] = {}
        self._accepting = True
        self._numbers = count()
        self._engine: Engine
        self._neighbours: Neighbours

    def attach(self, engine: Engine, neighbours: Neighbours) -> None:
        """Names the two that the handler works with; they need the handler to be made."""
        self._engine, self._neighbours = engine, neighbours

    @property
    def num_sessions(self) -> int:
        """Open sessions."""
        return len(self._sessions)

    @property
    def num_openings(self) -> int:
        """Sessions that wait for room to open."""
        return len(self._opening)

    def stop_accepting(self) -> None:
        """Refuses new sessions from now on; running ones go on."""
        self._accepting = False

    async def on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        """One message from a client or from the hop before."""
        match message:
            case Step():
                self._on_step(link, message, payload)
            case Open():
                self._on_open(link, message)
            case Wire():
                self._on_wire(link, message)
            case Hold():
                self._on_hold(link, message)
            case Close():
                self._on_close(link, message)
            case Failed():
                self._on_failed(link, message)
            case _:
                raise RemoteProtocolError(f"a hop does not take {type(message).__name__}")

    def on_lost(self, link: Link, error: PeerError) -> None:
        """A link has ended: its clients' sessions close, sessions that sent to it say so."""
        for client, _, task in list(self._opening.values()):
            if client is link:
                task.cancel()
        for session in list(self._sessions.values()):
            if session.client is link:
                self._close(session, "client gone")
            elif session.next_link is link:
                self._fail(session, Code.NEXT_UNREACHABLE, str(error), peer=link.peer)

    def on_done(self, session: HopSession, done: Done) -> None:
        """A part of a step has been computed."""
        if session.closed:
            return
        message = session.feed.push(done.computed())
        if session.pending_hold is not None:
            self._hold(session, session.pending_hold)
        elif message is not None and session.next_link is not None:
            self._post(session, session.next_link, *message)
        self._bound_history()

    def on_compute_failed(self, session: HopSession, error: Exception) -> None:
        """A batch with this session in it could not be computed: our fault, or this machine's."""
        if not session.closed:
            self._fail(session, Code.INTERNAL, f"{type(error).__name__}: {error}"[:200])
            self._close(session, "compute failed")

    def close_all(self, code: Code, why: str) -> None:
        """Ends all sessions, those that wait for room too, and tells their clients."""
        for link, request, task in list(self._opening.values()):
            task.cancel()
            self._refuse(link, request, code, why)
        for session in list(self._sessions.values()):
            self._fail(session, code, why)
            self._close(session, why)

    # Opening and closing

    def _on_open(self, link: Link, request: Open) -> None:
        if refusal := self._refusal(request):
            self._refuse(link, request, *refusal)
            return
        task = self._tasks.create_task(self._open(link, request))
        self._opening[request.session] = (link, request, task)
        task.add_done_callback(lambda _: self._opening.pop(request.session, None))

    def _refusal(self, request: Open) -> tuple[Code, str] | None:
        served = self._served
        if not self._accepting:
            return Code.LEAVING, "this peer is leaving"
        if request.model != served.model:
            return Code.WRONG_MODEL, f"this peer serves model {served.model}"
        if not served.start <= request.start < request.end <= served.end:
            return Code.WRONG_MODEL, f"this peer serves blocks {served.start}:{served.end}"
        if request.session in self._sessions or request.session in self._opening:
            return Code.BAD_REQUEST, "the session is open already"
        if len(self._sessions) + len(self._opening) >= self._config.max_sessions:
            return Code.BUSY, f"{self._config.max_sessions} sessions are open"
        return None

    async def _open(self, link: Link, request: Open) -> None:
        pages = request.rows * -(-request.positions // self._served.page_len)
        try:
            await self._leases.hold(request.session, pages, request.patience)
        except Busy as error:
            self._refuse(link, request, Code.BUSY, str(error))
            return
        except RequestError as error:
            self._refuse(link, request, Code.BAD_REQUEST, str(error))
            return
        except asyncio.CancelledError:
            # A close may come in the same turn as the grant: nothing may be left behind.
            self._leases.release(request.session)
            raise
        if link.closed:
            self._leases.release(request.session)
            return
        session = HopSession(request, link, self._served.hidden_size, next(self._numbers))
        self._sessions[request.session] = session
        self._reply(link, Opened(request.session, request.epoch))

    def _refuse(self, link: Link, request: Open, code: Code, why: str) -> None:
        logger.debug("session refused code=%s why=%s", code, why)
        self._reply(link, Failed(request.session, request.epoch, code, why[:1000]))

    def _on_close(self, link: Link, message: Close) -> None:
        client, _, opening = self._opening.get(message.session, (None, None, None))
        if opening is not None and client is link:
            opening.cancel()
        session = self._sessions.get(message.session)
        if session is not None and session.client is link:
            self._close(session, "closed")

    def _close(self, session: HopSession, why: str) -> None:
        session.closed = True
        del self._sessions[session.id]
        self._engine.retire(session)
        self._leases.release(session.id)
        lengths = session.feed.history.lengths
        logger.info("session closed positions=%d why=%s", sum(lengths), why)

    # Wiring

    def _on_hold(self, link: Link, message: Hold) -> None:
        session = self._session(link, message.session, message.epoch)
        if session is None or message.epoch <= session.epoch:
            return
        if len(message.keep) != session.num_rows:
            raise RemoteProtocolError(f"holds {len(message.keep)} of {session.num_rows} rows")
        self._engine.drop_steps(session)
        session.backlog.clear()  # Room for it may come while the answer waits.
        if session.running:
            # What is being computed is not thrown away: the answer waits for it.
            session.pending_hold = message
        else:
            self._hold(session, message)

    def _hold(self, session: HopSession, message: Hold) -> None:
        session.start_epoch(message)
        history = session.feed.history
        held = Held(session.id, message.epoch, history.lengths, history.replayable)
        self._reply(session.client, held)

    def _on_wire(self, link: Link, message: Wire) -> None:
        session = self._session(link, message.session, message.epoch)
        if session is None or message.epoch != session.epoch:
            return
        for lengths in (message.next.has, message.next.settled or message.next.has):
            if len(lengths) != session.num_rows:
                raise RemoteProtocolError(f"wired {len(lengths)} of {session.num_rows} rows")
        peer = message.next.peer
        next_link = session.client if peer is None else self._neighbours.get(peer)
        if next_link is not None:
            self._wire(session, next_link, message.next)
        else:
            self._tasks.create_task(self._reach(session, message))

    async def _reach(self, session: HopSession, message: Wire) -> None:
        assert message.next.peer is not None
        try:
            link = await self._neighbours.link(message.next.peer, message.next.addresses)
        except PeerError as error:
            link, why = None, str(error)
        if session.closed or session.epoch != message.epoch:
            return
        if link is None:
            self._fail(session, Code.NEXT_UNREACHABLE, why, peer=message.next.peer)
        else:
            self._wire(session, link, message.next)

    def _wire(self, session: HopSession, link: Link, next: Next) -> None:
        session.next_link = link
        for message, payload in session.feed.wire(session.epoch, next):
            self._post(session, link, message, payload)

    # Steps

    def _on_step(self, link: Link, step: Step, payload: Buffer) -> None:
        session = self._session(link, step.session, step.epoch)
        if session is None or session.pending_hold is not None:
            return
        try:
            arrival = session.accept(step, payload, asyncio.get_running_loop().time())
        except LookupError as error:
            self._fail(session, Code.STEP_MISSING, str(error))
            return
        except RemoteProtocolError as error:
            self._fail(session, Code.BAD_REQUEST, str(error))
            return
        if arrival is None:
            logger.debug("step dropped session=%s epoch=%d seq=%d", *_place(step))
            return
        # The order of the dictionary is the order of last use.
        self._sessions[session.id] = self._sessions.pop(session.id)
        session.backlog.append(arrival)
        self._admit(session)

    def _admit(self, session: HopSession) -> None:
        """Gives the session's steps to the engine, as far as its lease reaches."""
        if session.waiting:
            return
        pages = session.pages_needed(self._served.page_len)
        if self._leases.try_hold(session.id, pages):
            while session.backlog:
                self._engine.submit(session, session.backlog.popleft())
        else:
            session.waiting = True
            self._tasks.create_task(self._grow(session))

    async def _grow(self, session: HopSession) -> None:
        try:
            while not await self._try_grow(session):
                pass
        except RequestError as error:
            self._give_up(session, Code.BAD_REQUEST, str(error))
        except asyncio.CancelledError:
            # The session closed while it waited; `release` cancels the request, not this task.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        else:
            session.waiting = False
            if not session.closed:
                self._admit(session)

    async def _try_grow(self, session: HopSession) -> bool:
        """Whether there was room in time; if not, the newest session loses what it has.

        Were all to wait instead, nobody would give back anything. As it is always the newest, here
        and at every other peer, the oldest comes to its end, and then the next.
        """
        pages = session.pages_needed(self._served.page_len)
        try:
            await self._leases.hold(session.id, pages, self._config.growth_patience)
        except Busy as error:
            if session.closed or not session.backlog:
                return True  # A new epoch has dropped what needed the room.
            newest = max(self._sessions.values(), key=lambda one: one.number)
            self._fail(newest, Code.BUSY, f"made room for older sessions: {error}")
            self._close(newest, "made room")
            return session.closed
        return True

    def _give_up(self, session: HopSession, code: Code, why: str) -> None:
        session.waiting = False
        if not session.closed:
            session.backlog.clear()
            self._fail(session, code, why)

    # Answers

    def _session(self, link: Link, session_id: str, epoch: int) -> HopSession | None:
        session = self._sessions.get(session_id)
        if session is None:
            why = "no such session here"
            self._reply(link, Failed(session_id, epoch, Code.UNKNOWN_SESSION, why))
        return session

    def _on_failed(self, link: Link, message: Failed) -> None:
        """The next hop could not take a step; only the client can do something about it."""
        peer = message.peer or link.peer
        for session in list(self._sessions.values()):
            # The next hop names the session by the name that it has there.
            next = session.feed.next
            if next is None or next.session != message.session or session.next_link is not link:
                continue
            if message.epoch == session.epoch:
                self._fail(session, message.code, message.message, peer=peer)

    def _fail(self, session: HopSession, code: Code, why: str, peer: str | None = None) -> None:
        logger.info("session failed code=%s why=%s", code, why)
        # The client is in the epoch of the hold that still waits: it drops what is of an older one.
        epoch = session.pending_hold.epoch if session.pending_hold is not None else session.epoch
        self._reply(session.client, Failed(session.id, epoch, code, why[:1000], peer))

    def _post(self, session: HopSession, link: Link, message: AnyMessage, payload: Buffer) -> None:
        try:
            link.post(message, payload)
        except PeerError as error:
            session.next_link = None
            if link is not session.client:
                self._fail(session, Code.NEXT_UNREACHABLE, str(error), peer=link.peer)

    def _reply(self, link: Link, message: AnyMessage) -> None:
        try:
            link.post(message)
        except PeerError as error:
            logger.debug("answer lost peer=%s why=%s", link.peer, error)

    def _bound_history(self) -> None:
        total = sum(session.feed.history.num_bytes for session in self._sessions.values())
        for session in self._sessions.values():
            if total <= self._config.history_bytes:
                break
            if session.feed.next is None:
                continue  # It has not been sent yet: nobody would send it again.
            total -= session.feed.history.num_bytes
            session.feed.history.drop()


def _place(step: Step) -> tuple[str, int, int]:
    return step.session, step.epoch, step.seq
