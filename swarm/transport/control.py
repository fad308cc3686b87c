"""What members ask of one that relays: to dial back, to be reached through it, to reach others.

Questions go over a `Link` that both ends have proved to be members on, so that its heartbeats show
whether the relay lives, and hold the connection open over which it can open streams back to us.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from swarm.background import background
from swarm.errors import Busy, Misbehaved, PeerError, RemoteProtocolError, Unreachable

from ..membership.membership import Membership
from ..wire.fields import Message
from ..wire.messages import AnyMessage, decode, encode
from ..wire.relaying import Connect, Connected, Probe, Probed, Refusal, Refused, Reserve, Reserved
from . import Buffer, Carrier, Stream
from .link import Link, LinkConfig, accept, connect

CONTROL = "/homeswarm/relay/1"
"""Protocol of control links."""

CIRCUIT = "/homeswarm/circuit/1"
"""Protocol of streams to a relay that are to become circuits."""

VISIT = "/homeswarm/visit/1"
"""Protocol of streams by which a relay brings a circuit to its end."""

_PATIENCE = 7.0
"""Longer than dialling back takes, names that must be looked up included."""

_ERRORS: dict[Refusal, Callable[[str, str], PeerError]] = {
    Refusal.NO_RELAY: Unreachable,
    Refusal.FULL: Busy,
    Refusal.NOT_HERE: Unreachable,
}


@dataclass(frozen=True)
class Place:
    """A member, and the multiaddresses at which it can be dialled."""

    peer: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Circuit:
    """A stream to a member through a relay, and where the relay sees that member."""

    stream: Stream
    seen: tuple[str, ...]


@dataclass(frozen=True)
class Door:
    """Our own way to other members: who we are in which group, and how links are timed."""

    carrier: Carrier
    membership: Membership
    link_config: LinkConfig | None = None

    async def welcome(self, stream: Stream) -> Link:
        """A link over a stream that was opened to us; errors as in `link.accept`."""
        return await accept(stream, self.membership, self.link_config)

    @asynccontextmanager
    async def control(self, place: Place) -> AsyncIterator[Control]:
        """A control link for the length of the block, which a `PeerError` ends with the link."""
        stream = await self.carrier.open(place.peer, CONTROL, place.addresses)
        link = await connect(stream, self.membership, self.link_config)
        control = Control(link)
        try:
            async with background() as tasks:
                tasks.create_task(link.run(control.on_message))
                yield control
        finally:
            # A task that is cancelled before its first turn runs nothing, `finally` included.
            await link.aclose()

    async def circuit(self, relay: Place, target: str) -> Circuit:
        """A stream to `target` through a relay, which reads and writes what passes: seal it.

        Raises `Busy` if the relay has no room, `Unreachable` or `Misbehaved` (of the relay).
        """
        stream = await self.carrier.open(relay.peer, CIRCUIT, relay.addresses)
        try:
            await connect(stream, self.membership, self.link_config)
            await stream.send(encode(Connect(target)), b"")
            answer = await read(stream)
            if not isinstance(answer, Connected):
                raise _error(relay.peer, answer)
        except BaseException:
            await stream.aclose()
            raise
        return Circuit(stream, answer.seen)


class Control:
    """One question at a time to a member that relays. Made by `Door.control`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._answers: asyncio.Queue[AnyMessage] = asyncio.Queue()

    async def probe(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Those places at which the other side reaches us by a new connection."""
        answer = await self._ask(Probe(addresses))
        if not isinstance(answer, Probed):
            raise _error(self._link.peer, answer)
        return answer.addresses

    async def reserve(self) -> tuple[str, ...]:
        """Has the relay take visitors for us while the link lives; gives its addresses.

        Raises `Busy` if it has no room, `Unreachable` if it is no relay.
        """
        answer = await self._ask(Reserve())
        if not isinstance(answer, Reserved):
            raise _error(self._link.peer, answer)
        return answer.addresses

    async def on_message(self, link: Link, message: AnyMessage, _: Buffer) -> None:
        """Takes an answer; for `Link.run`."""
        if self._answers.qsize():
            raise RemoteProtocolError("answered what was not asked")
        self._answers.put_nowait(message)

    async def _ask(self, question: Message) -> AnyMessage:
        self._link.post(question)
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._answers.get()
        except TimeoutError as error:
            raise Unreachable(self._link.peer, "did not answer in time") from error


async def read(stream: Stream) -> AnyMessage:
    """The next message of a stream that is no link; raises `Misbehaved` if it is none."""
    header, _ = await stream.receive()
    try:
        return decode(header)
    except RemoteProtocolError as error:
        raise Misbehaved(stream.peer, str(error)) from error


def _error(relay: str, answer: AnyMessage) -> PeerError:
    if isinstance(answer, Refused):
        return _ERRORS[answer.why](relay, answer.message or str(answer.why))
    return Misbehaved(relay, f"answered by {type(answer).__name__}")
