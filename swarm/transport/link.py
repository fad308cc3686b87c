"""A link: messages to and from one member, over one stream.

Both sides prove that they belong to the group (`vouching`). A link keeps the connection warm with
heartbeats, and notices a peer that has gone or frozen. Whoever owns a link runs `Link.run` in a
task of its own; messages may be sent from anywhere meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from swarm import __version__
from swarm.errors import (
    ConfigError,
    Misbehaved,
    NotAMember,
    PeerError,
    RemoteProtocolError,
    Silent,
    Unreachable,
)

from ..background import first
from ..membership.certificate import Standing
from ..membership.membership import Membership
from ..wire.fields import Message
from ..wire.linking import Denied, Hello, Ping, Pong
from ..wire.messages import AnyMessage, decode, encode
from . import Buffer, Stream
from .conduct import Conduct, ConductLimits, Moved
from .line import Line
from .quota import Quota
from .vigil import Heartbeats, Vigil
from .vouching import Vouching, denial

logger = logging.getLogger(__name__)

_ROOM = 8 * 1024 * 1024
"""Bytes that may wait while `Link.room` lets more be posted; over a slow line, what it carries in
`_ROOM_S` seconds, but `_LEAST_ROOM`: what is urgent waits behind it."""
_ROOM_S = 0.5
_LEAST_ROOM = 64 * 1024


@dataclass(frozen=True)
class LinkConfig(Heartbeats):
    """What a link asks of the other side, and what it takes of us.

    Its greeting must be over after `handshake` seconds; how it lives on is said in `Heartbeats`,
    how it may behave in `conduct`. At most `backlog` bytes wait to be sent over one link, and
    `backlogs` over all of ours: there, the link on which most wait ends. A member may open `links`
    to us. All that this machine sends stays below `upload` bytes per second (0: no limit), which
    `Libp2pConfig.upload` sees to.
    """

    handshake: float = 10.0
    backlog: int = 512 * 1024 * 1024
    backlogs: int = 1024 * 1024 * 1024
    links: int = 32
    upload: float = 0.0
    conduct: ConductLimits = field(default_factory=ConductLimits)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.backlog, self.backlogs, self.links) < 1:
            raise ConfigError("backlog, backlogs and links must be at least 1")


@dataclass
class Traffic:
    """Frames that a link has carried, and the bytes of their headers and payloads."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_frames: int = 0
    received_frames: int = 0


OnMessage = Callable[["Link", AnyMessage, Buffer], Awaitable[None]]


class Link:
    """Messages to and from one member. Made by `connect` or `accept`; use `run` to receive."""

    def __init__(self, stream: Stream, membership: Membership, config: LinkConfig) -> None:
        self._stream = stream
        self._config = config
        self._vouching = Vouching(membership, stream.peer)
        self._outbox: deque[tuple[bytes, Buffer]] = deque()
        self._outbox_bytes = 0
        self._wake = asyncio.Event()
        self._left = asyncio.Event()
        self._turn = asyncio.Lock()
        self._accepted = False
        self._line = Line()
        self._vigil = Vigil(config, self._line)
        self._alert = asyncio.Event()
        self._closed = False
        self._fault: str | None = None
        self._conduct = Conduct(config.conduct)
        self.backlogs: Quota[Link] = Quota(config.backlog, config.backlogs)
        """Bytes that wait on each of our links; whoever has several lets them share one."""
        self.traffic = Traffic()
        self.measured = asyncio.Event()
        """Set with the first `round_trip`."""

    @property
    def peer(self) -> str:
        """Id of the member on the other side."""
        return self._stream.peer

    @property
    def standing(self) -> Standing:
        """Who the member on the other side is in the group."""
        return self._vouching.standing

    def check_membership(self) -> None:
        """Raises `NotAMember` once the other side's certificate has expired or been revoked."""
        self._vouching.check()

    @property
    def account(self) -> str:
        """The member against which is counted what the other side takes of us."""
        return self.standing.member

    @property
    def closed(self) -> bool:
        """Whether the link has ended, from either side."""
        return self._closed

    @property
    def upload_rate(self) -> float:
        """See `Line.upload_rate`."""
        return self._line.upload_rate

    @property
    def round_trip(self) -> float | None:
        """See `Line.round_trip`."""
        return self._line.round_trip

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life."""
        return _now() - self._vigil.heard_at

    def forgive(self, factor: float) -> None:
        """Gives the other side so many times longer before its silence is an alarm."""
        self._vigil.leniency = factor

    def attend(self, seconds: float) -> None:
        """For so long somebody waits for the other side: its silence is to be noticed quickly."""
        if self._vigil.attend(seconds, _now()):
            self._alert.set()

    def post(self, message: Message, payload: Buffer = b"") -> None:
        """Sends one message without waiting; messages keep their order.

        Raises `Unreachable` once the link has ended, and ends it if the other side reads so slowly
        that more than `backlog` bytes wait, or another one if too many wait on all.
        """
        if self._closed:
            raise Unreachable(self.peer, "the link is closed")
        header = encode(message)
        size = len(header) + len(payload)
        probe = None if self._outbox_bytes else self._line.probe(size, _now())
        self._put(header, payload)
        if probe is not None:
            self._put(encode(Ping(probe)), b"")

    @property
    def crowded(self) -> bool:
        """Whether whoever has much to post is to wait for `room`."""
        return self._turn.locked() or self._outbox_bytes > self._room_bytes

    @property
    def _room_bytes(self) -> float:
        room = min(_ROOM, self._config.backlog // 2)
        rate = self.upload_rate or self._config.upload
        return min(room, max(rate * _ROOM_S, _LEAST_ROOM)) if rate else room

    async def room(self) -> None:
        """Returns when little waits to be sent, for those who have much and can wait: in turn.

        Whoever then posts one message and comes again is behind all others who wait. Also returns
        when the link has ended: `post` says so.
        """
        async with self._turn:
            while self._outbox_bytes > self._room_bytes and not self._closed:
                self._left.clear()
                await self._left.wait()

    def _put(self, header: bytes, payload: Buffer) -> None:
        # Most messages leave at once; waking the sender's task for each costs 0.1 ms per trip.
        if not self._outbox_bytes and self._stream.offer(header, payload):
            self._count_sent(header, payload)
            return
        self._outbox.append((header, payload))
        self._outbox_bytes += len(header) + len(payload)
        self.backlogs.add(self, len(header) + len(payload))
        if self._outbox_bytes > self._config.backlog:
            self._cut()
        elif self.backlogs.overflows and (largest := self.backlogs.largest) is not None:
            largest._cut()
        self._wake.set()

    def _cut(self) -> None:
        """Ends the link with the next turn of the loop, whatever still waits."""
        self._closed = True
        self._fault = self._fault or f"reads too slowly: {self._outbox_bytes} bytes wait"
        self._alert.set()

    def charge(self, cost: float = 1.0) -> None:
        """What the other side has just sent brought nothing: it counts like a request."""
        self._conduct.charge(cost, _now())

    async def run(self, on_message: OnMessage) -> None:
        """Hands every message to `on_message`, in order, until the link ends; sends what is posted.

        Always ends by raising: `Unreachable` when the other side is gone, `Silent` when it gives no
        sign of life, `NotAMember` when its certificate ends, `Misbehaved` when it does not speak
        our protocol, or whatever `on_message` raised. Heartbeats and certificates stay in here.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._transmit())
                tasks.create_task(self._beat())
                tasks.create_task(self._receive(on_message))
        except* PeerError as errors:
            raise first(errors) from None
        finally:
            self._closed = True
            self._outbox.clear()
            self.backlogs.remove(self, self.backlogs.of(self))
            await self.aclose()

    async def aclose(self) -> None:
        """Ends the link; what is posted but not sent is lost. May be called again."""
        self._closed = True
        self._left.set()
        await self._stream.aclose()

    async def ping(self) -> None:
        """Asks for a sign of life now; the answer updates `round_trip`."""
        now = _now()
        self._vigil.ask(now)
        self.post(Ping(self._line.ask(now)))

    async def _transmit(self) -> None:
        while True:
            if not self._outbox:
                self._wake.clear()
                await self._wake.wait()
                continue
            header, payload = self._outbox.popleft()
            await self._send(header, payload)
            self._outbox_bytes -= len(header) + len(payload)
            self.backlogs.remove(self, len(header) + len(payload))
            self._left.set()

    async def _send(self, header: bytes, payload: Buffer) -> None:
        await self._stream.send(header, payload)
        self._count_sent(header, payload)

    def _count_sent(self, header: bytes, payload: Buffer) -> None:
        self._vigil.said_at = _now()
        self.traffic.sent_bytes += len(header) + len(payload)
        self.traffic.sent_frames += 1

    async def _receive(self, on_message: OnMessage) -> None:
        while True:
            message, payload = await self._next()
            self._conduct.note(message, self._vigil.heard_at)
            match message:
                case Ping(number):
                    self.post(Pong(number))
                case Pong(number):
                    self._line.answer(number, _now())
                    if self._line.round_trip is not None:
                        self.measured.set()
                case Hello():
                    raise Misbehaved(self.peer, "greeted twice")
                case _ if not self._vouching.hear(message, payload):
                    await self._hand_over(on_message, message, payload)
            if self._conduct.owes:
                # Nothing is read: then the other side cannot send either.
                await asyncio.sleep(self._conduct.debt(_now()))

    async def _hand_over(self, on_message: OnMessage, message: AnyMessage, payload: Buffer) -> None:
        try:
            await on_message(self, message, payload)
        except RemoteProtocolError as error:
            raise Misbehaved(self.peer, str(error)) from error

    async def _next(self) -> tuple[AnyMessage, Buffer]:
        header, payload = await self._stream.receive()
        self._vigil.heard_at = _now()
        self.traffic.received_bytes += len(header) + len(payload)
        self.traffic.received_frames += 1
        try:
            return decode(header), payload
        except RemoteProtocolError as error:
            raise Misbehaved(self.peer, str(error)) from error

    async def _beat(self) -> None:
        vigil = self._vigil
        vigil.begin(_now(), accepted=self._accepted)
        await self.ping()
        while True:
            asked, arrived = _now(), self._stream.arrived_bytes
            interval = vigil.interval(asked)
            await self._pause(interval)
            vigil.look(self._stream.arrived_bytes - arrived, asked)
            if self._fault is not None:
                raise Silent(self.peer, self._fault)
            if self._closed:
                raise Unreachable(self.peer, "the link was closed")
            # Nobody is declared dead for our slowness.
            if _now() - asked > 2 * interval:
                vigil.excuse(_now(), interval)
                self._conduct.rest()
            if (fault := self._conduct.fault(self._moved(), _now())) is not None:
                raise Silent(self.peer, fault)
            if vigil.overdue(_now()):
                raise Silent(self.peer, f"silent for {self.silence:.1f} s")
            self._vouch()
            if vigil.wants_ping(_now()):
                await self.ping()

    def _vouch(self) -> None:
        """Tells the other side what is new of memberships, and ends the link if its own is over."""
        for message, payload in self._vouching.news():
            self.post(message, payload)
        try:
            self.check_membership()
        except NotAMember as error:
            if last := denial(error):
                self.post(last)
            raise

    def _moved(self) -> Moved:
        left, arrived = self._stream.left_bytes, self._stream.arrived_bytes
        return Moved(self._outbox_bytes, left, arrived, self.traffic.received_frames)

    async def _pause(self, seconds: float) -> None:
        """Waits until the next look, or until somebody begins to wait for the other side."""
        self._alert.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._alert.wait()
        except TimeoutError:
            return


async def connect(stream: Stream, membership: Membership, config: LinkConfig | None = None) -> Link:
    """Greets the other side of a stream that we have opened; closes it where that fails.

    Raises `NotAMember` if the other side is not of this group, `Unreachable` if it goes away, does
    not answer in time, or does not take us for a member.
    """
    return await _greeted(Link(stream, membership, config or LinkConfig()), _greet)


async def accept(stream: Stream, membership: Membership, config: LinkConfig | None = None) -> Link:
    """Answers the greeting of whoever has opened this stream; errors as in `connect`."""
    return await _greeted(Link(stream, membership, config or LinkConfig()), _answer)


async def _greeted(link: Link, greeting: Callable[[Link], Awaitable[None]]) -> Link:
    try:
        async with asyncio.timeout(link._config.handshake):
            await greeting(link)
        link._stream.admit()
    except TimeoutError as error:
        await link.aclose()
        raise Unreachable(link.peer, "did not answer the greeting") from error
    except BaseException:
        await link.aclose()
        raise
    return link


async def _greet(link: Link) -> None:
    await link._send(encode(Hello(link._vouching.show(), __version__)), b"")
    message, _ = await link._next()
    # Only whom we have dialled may raise doubts: anybody can knock.
    if isinstance(message, Denied):
        link._vouching.denied(message.lapse)
    _meet(link, message)


async def _answer(link: Link) -> None:
    link._accepted = True
    message, _ = await link._next()
    try:
        _meet(link, message)
    except NotAMember as error:
        if last := denial(error):
            with suppress(Unreachable):
                await link._send(encode(last), b"")
        raise
    await link._send(encode(Hello(link._vouching.show(), __version__)), b"")


def _meet(link: Link, message: AnyMessage) -> None:
    if not isinstance(message, Hello):
        raise Misbehaved(link.peer, "did not greet")
    link._vouching.meet(message.credential)
    logger.debug("link opened peer=%s version=%s", link.peer, message.version)


def _now() -> float:
    return asyncio.get_running_loop().time()
