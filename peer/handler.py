"""What messages do on a peer: opens, wires, holds and closes sessions, and takes in their steps."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial

from swarm.errors import PeerError, RemoteProtocolError
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.transport.neighbours import Neighbours
from swarm.wire.messages import (
    AnyMessage,
    Close,
    Code,
    Copy,
    Failed,
    Held,
    Hold,
    Keep,
    Leaving,
    Meet,
    Next,
    Open,
    Step,
    Wire,
)

from .engine import Engine
from .growth import Growth
from .histories import Histories
from .inbox import Inbox
from .kept import Kept, KeptPrefixes
from .leases import Leases
from .limits import HandlerConfig
from .meetings import Meetings
from .openings import Openings, Served, reply
from .outbox import Outbox, Sent
from .session import Done, HopSession
from .tally import Tally

logger = logging.getLogger(__name__)

_ATTENTION = 2.0
"""Seconds for which the next hop's silence is noticed quickly after a step was sent to it."""

_DIAL_COST = 10.0
"""What a client pays for having us open a link, as if for so many messages."""

_MAX_COPIES = 4
"""Copies of one session's history that are under way at once."""


class Handler:
    """All sessions on this peer, and the messages that change them."""

    def __init__(
        self,
        served: Served,
        leases: Leases,
        kept: KeptPrefixes,
        tasks: asyncio.TaskGroup,
        config: HandlerConfig | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._leases = leases
        self._tally = tally or Tally()
        self._tasks = tasks
        limits = config or HandlerConfig()
        # Ordered by last use: the first is the one that has been silent longest.
        self._sessions: dict[str, HopSession] = {}
        self._closed_one = asyncio.Event()
        self._engine: Engine
        self._neighbours: Neighbours
        self._meetings: Meetings
        self._inbox = Inbox(limits.member)
        self._copies: Counter[str] = Counter()
        self._openings = Openings(
            served,
            leases,
            self._sessions,
            tasks,
            limits=limits,
            kept=kept,
            on_opened=self._let_in,
            on_pressed=lambda account, pages: self._growth.make_room(account, pages),
            tally=self._tally,
        )
        self._histories = Histories(
            self._sessions,
            kept,
            max_bytes=limits.history_bytes,
            max_session_bytes=limits.session_history_bytes,
        )
        self._growth = Growth(
            leases,
            self._sessions,
            tasks,
            self,
            lambda session, arrival: self._engine.submit(session, arrival),
            page_len=served.page_len,
            patience=limits.growth_patience,
        )

    def attach(self, engine: Engine, neighbours: Neighbours) -> None:
        """Names the two that the handler works with; they need the handler to be made."""
        self._engine, self._neighbours = engine, neighbours
        self._meetings = Meetings(neighbours, self._tasks)

    @property
    def num_sessions(self) -> int:
        """Open sessions."""
        return len(self._sessions)

    @property
    def num_openings(self) -> int:
        """Sessions that wait for room to open."""
        return len(self._openings)

    def stop_accepting(self) -> None:
        """Refuses new sessions from now on; running ones go on."""
        self._openings.accepting = False
        self._openings.close(Code.LEAVING, "this peer is leaving")

    async def drain(self, seconds: float) -> None:
        """Asks all clients to hand their sessions over to others, while they still run here.

        Returns when none is left, or after so many seconds.
        """
        for session in self._sessions.values():
            reply(session.client, Leaving(session.id, session.epoch, seconds))
        num_sessions = len(self._sessions)
        try:
            async with asyncio.timeout(seconds):
                while self._sessions:
                    self._closed_one.clear()
                    await self._closed_one.wait()
        except TimeoutError:
            logger.warning("sessions not handed over in time number=%d", len(self._sessions))
        finally:
            self._tally.num_handed_over += num_sessions - len(self._sessions)
            self._tally.num_left_behind += len(self._sessions)

    async def on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        """One message from a client or from the hop before."""
        match message:
            case Step():
                self._on_step(link, message, payload)
            case Open():
                self._openings.open(link, message)
            case Wire():
                self._on_wire(link, message)
            case Hold():
                self._on_hold(link, message)
            case Copy():
                self._on_copy(link, message)
            case Keep():
                self._on_keep(link, message)
            case Meet():
                self._meetings.meet(message)
            case Close():
                self._on_close(link, message)
            case Failed():
                self._on_failed(link, message)
            case _:
                raise RemoteProtocolError(f"a hop does not take {type(message).__name__}")

    def on_lost(self, link: Link, error: PeerError) -> None:
        """A link has ended: its clients' sessions close, sessions that sent to it say so."""
        self._openings.cancel(link)
        for session in list(self._sessions.values()):
            if session.client is link:
                self.close(session, "client gone")
            elif session.next_link is link:
                self.fail(session, Code.NEXT_UNREACHABLE, str(error), peer=link.peer)

    def on_done(self, session: HopSession, done: Done) -> None:
        """A part of a step has been computed."""
        if session.closed:
            return
        if done.last:
            self._inbox.remove(session, done.arrival)
        if session.next_link is not None:
            done = done.sent(session.next_link.round_trip)
        message = session.feed.push(done.committed(session).computed())
        if session.pending_hold is not None:
            self._hold(session, session.pending_hold)
        elif message is not None and session.outbox is not None:
            session.outbox.post(*message)
        self._histories.bound()

    def on_compute_failed(self, session: HopSession, error: Exception) -> None:
        """A batch with this session in it could not be computed: our fault, or this machine's."""
        if not session.closed:
            self.fail(session, Code.INTERNAL, f"{type(error).__name__}: {error}"[:200])
            self.close(session, "compute failed")

    def close_all(self, code: Code, why: str) -> None:
        """Ends all sessions, those that wait for room too, and tells their clients."""
        self._openings.close(code, why)
        for session in list(self._sessions.values()):
            self.fail(session, code, why)
            self.close(session, why)

    def close(self, session: HopSession, why: str) -> None:
        """Frees a session; its client is not told."""
        session.closed = True
        session.unwire()
        del self._sessions[session.id]
        self._engine.retire(session)
        self._inbox.drop(session)
        self._leases.release(session.id)
        self._closed_one.set()
        num_positions = sum(session.feed.history.lengths)
        logger.log(_level(session), "session closed positions=%d why=%s", num_positions, why)

    def fail(self, session: HopSession, code: Code, why: str, peer: str | None = None) -> None:
        """Tells a session's client that it cannot go on, and by which other peer's fault."""
        self._tally.failures[code] += 1
        logger.log(_level(session), "session failed code=%s why=%s", code, why)
        # The client is in the epoch of the hold that still waits: it drops what is of an older one.
        epoch = session.pending_hold.epoch if session.pending_hold is not None else session.epoch
        reply(session.client, Failed(session.id, epoch, code, why[:1000], peer))

    def _let_in(self, session: HopSession, found: tuple[Kept, int] | None) -> None:
        self._sessions[session.id] = session
        if found is not None:
            self._engine.recall(session, *found)
            logger.info("session goes on from what was kept positions=%d", found[1])

    def _on_close(self, link: Link, message: Close) -> None:
        self._openings.cancel(link, message.session)
        session = self._sessions.get(message.session)
        if session is not None and session.client is link:
            self.close(session, "closed")

    def _on_keep(self, link: Link, message: Keep) -> None:
        # If there is no such session any more, its client will hear so in another way.
        session = self._sessions.get(message.session)
        if session is not None and session.client is link:
            self._engine.keep(session, message)

    # Wiring

    def _on_hold(self, link: Link, message: Hold) -> None:
        session = self._own(link, message.session, message.epoch)
        if session is None or message.epoch <= session.epoch:
            return
        if len(message.keep) != session.num_rows:
            raise RemoteProtocolError(f"holds {len(message.keep)} of {session.num_rows} rows")
        self._engine.drop_steps(session)
        self._inbox.drop(session)
        session.backlog.clear()  # Room for it may come while the answer waits.
        if session.running:
            # What is being computed is not thrown away: the answer waits for it.
            session.pending_hold = message
        else:
            self._hold(session, message)

    def _hold(self, session: HopSession, message: Hold) -> None:
        session.start_epoch(message)
        self._tally.num_held += 1
        history = session.feed.history
        held = Held(session.id, message.epoch, history.lengths, history.replayable)
        reply(session.client, held)

    def _on_wire(self, link: Link, message: Wire) -> None:
        session = self._own(link, message.session, message.epoch)
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
            link.charge(_DIAL_COST)
            self._tasks.create_task(self._reach(session, message))

    def _on_copy(self, link: Link, message: Copy) -> None:
        session = self._own(link, message.session, message.epoch)
        if session is None or message.epoch != session.epoch:
            return
        for lengths in (message.next.has, message.until or message.next.has):
            if len(lengths) != session.num_rows:
                raise RemoteProtocolError(f"copies {len(lengths)} of {session.num_rows} rows")
        if self._copies[session.id] < _MAX_COPIES:
            self._copies[session.id] += 1
            self._tasks.create_task(self._copy(session, message))

    async def _copy(self, session: HopSession, message: Copy) -> None:
        next_ = message.next
        try:
            link = session.client
            if next_.peer is not None:
                link = await self._neighbours.link(next_.peer, next_.addresses)
            # As it is now: what is computed meanwhile, its client asks for in another way.
            for step, payload in session.feed.copy(message.epoch, next_, message.until):
                if session.closed or session.epoch != message.epoch:
                    return
                link.post(step, payload)
                self._tally.num_copied += sum(span.count for span in step.rows)
                await link.room()
        except PeerError as error:
            # Nothing has happened to the session: its client sees that the copy does not come.
            logger.info("history not copied peer=%s why=%s", error.peer, error)
        finally:
            self._copies -= Counter([session.id])

    async def _reach(self, session: HopSession, message: Wire) -> None:
        assert message.next.peer is not None
        try:
            link = await self._neighbours.link(message.next.peer, message.next.addresses)
        except PeerError as error:
            link, why = None, str(error)
        if session.closed or session.epoch != message.epoch:
            return
        if link is None:
            self.fail(session, Code.NEXT_UNREACHABLE, why, peer=message.next.peer)
        else:
            self._wire(session, link, message.next)

    def _wire(self, session: HopSession, link: Link, next: Next) -> None:
        outbox = Outbox(link, self._tasks, partial(self._post, session, link), session.position_len)
        session.wire(link, outbox)
        for message, payload in session.feed.wire(session.epoch, next):
            if isinstance(message, Step) and message.refill:
                self._tally.num_replayed += sum(span.count for span in message.rows)
            outbox.post(message, payload)

    # Steps

    def _on_step(self, link: Link, step: Step, payload: Buffer) -> None:
        session = self._session(link, step.session, step.epoch)
        if session is None or session.pending_hold is not None:
            return
        try:
            arrival = session.accept(step, payload, asyncio.get_running_loop().time())
        except LookupError as error:
            self.fail(session, Code.STEP_MISSING, str(error))
            return
        except RemoteProtocolError as error:
            if link is session.client:
                self.fail(session, Code.BAD_REQUEST, str(error))
            else:
                self.fail(session, Code.BAD_STEP, str(error), peer=link.peer)
            return
        if arrival is None:
            logger.debug("step dropped session=%s epoch=%d seq=%d", *_place(step))
            link.charge()
            return
        if (largest := self._inbox.add(session, arrival)) is not None:
            self.fail(largest, Code.BUSY, "too many steps wait here")
            self.close(largest, "too many steps")
            if session.closed:
                return
        # The order of the dictionary is the order of last use.
        self._sessions[session.id] = self._sessions.pop(session.id)
        session.backlog.append(arrival)
        self._growth.admit(session)

    # Answers

    def _session(self, link: Link, session_id: str, epoch: int) -> HopSession | None:
        session = self._sessions.get(session_id)
        if session is None:
            link.charge()
            why = "no such session here"
            reply(link, Failed(session_id, epoch, Code.UNKNOWN_SESSION, why))
        return session

    def _own(self, link: Link, session_id: str, epoch: int) -> HopSession | None:
        """The session of the client on this link; the hop before knows its name as well."""
        session = self._session(link, session_id, epoch)
        if session is not None and session.client is not link:
            raise RemoteProtocolError("commands a session of somebody else")
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
                self.fail(session, message.code, message.message, peer=peer)

    def _post(self, session: HopSession, link: Link, message: Sent, payload: Buffer) -> None:
        try:
            link.post(message, payload)
            if link is not session.client:
                link.attend(_ATTENTION)
        except PeerError as error:
            session.unwire()
            if link is not session.client:
                self.fail(session, Code.NEXT_UNREACHABLE, str(error), peer=link.peer)


def _level(session: HopSession) -> int:
    """Sessions in which nothing was computed may be thousands, and no lines of a log."""
    return logging.INFO if any(session.feed.history.lengths) else logging.DEBUG


def _place(step: Step) -> tuple[str, int, int]:
    return step.session, step.epoch, step.seq
