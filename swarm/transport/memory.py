"""The twin of the network: any number of members in one process.

A `Network` delays, loses, freezes and kills on request. Time is the event loop's, so that a test
with a loop of simulated time needs no waiting.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarm.errors import NotAMember, PeerError, Unreachable

from . import Buffer, Stream, StreamHandler
from .gate import Gate, GateLimits, Guest
from .memory_stream import MemoryStream, Pipe
from .reach import Reach
from .walls import Walls

logger = logging.getLogger(__name__)


_PATIENCE = 5.0
"""Seconds after which dialling somebody hidden fails: nothing says no, as with a real router."""


@dataclass(frozen=True)
class Condition:
    """What happens to frames between two members.

    `delay` is one way, in seconds, with up to `jitter` more (order is kept); `rate` in bytes per
    second (0: no limit); `loss` and `duplicate` are probabilities per frame.
    """

    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0


class Network(Walls):
    """A simulated network; `seed` decides what is lost."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.default = Condition()
        self._members: dict[str, MemoryTransport] = {}
        self._conditions: dict[tuple[str, str], Condition] = {}
        self._frozen: dict[str, asyncio.Event] = {}
        self._keys: dict[str, Ed25519PrivateKey] = {}
        # Sees (sender, receiver, header, payload) of each frame and says whether to drop it.
        self.drop: Callable[[str, str, bytes, Buffer], bool] | None = None

    def transport(self, peer_id: str, gate: GateLimits | None = None) -> MemoryTransport:
        """A new member of the network, which limits by `gate` what others open to it."""
        if peer_id in self._members:
            raise ValueError(f"{peer_id} is taken")
        member = self._members[peer_id] = MemoryTransport(self, peer_id, gate)
        return member

    def between(self, one: str, other: str, condition: Condition) -> None:
        """Sets what happens to frames between two members, both ways."""
        self._conditions[one, other] = self._conditions[other, one] = condition

    def condition(self, sender: str, receiver: str) -> Condition:
        """What happens to frames on this way."""
        return self._conditions.get((sender, receiver), self.default)

    def freeze(self, peer_id: str) -> None:
        """Nothing leaves or reaches this member any more; nobody is told (a closed lid)."""
        self._frozen.setdefault(peer_id, asyncio.Event())

    def thaw(self, peer_id: str) -> None:
        """Ends `freeze`; what waited is delivered."""
        if event := self._frozen.pop(peer_id, None):
            event.set()

    def key(self, peer_id: str) -> Ed25519PrivateKey:
        """The key of a member, which its made-up id does not tell."""
        return self._keys.setdefault(peer_id, Ed25519PrivateKey.generate())

    def signer(self, peer_id: str) -> MemorySigner:
        """Signs as this one, whether it is in the network or not."""
        return MemorySigner(self, peer_id)

    async def kill(self, peer_id: str) -> None:
        """Ends a member at once: its streams break, and others are told (kill -9)."""
        self.thaw(peer_id)
        if member := self._members.get(peer_id):
            await member.aclose()

    def disconnect(self, one: str, other: str) -> None:
        """Breaks the streams between two members that both live on."""
        self.part(one, other)
        for stream in self._members[one].streams_to(other):
            stream.break_both("connection reset")

    def member(self, peer_id: str) -> MemoryTransport | None:
        """The member of this id, if it lives."""
        return self._members.get(peer_id)

    def forget(self, peer_id: str) -> None:
        """Frees the id of a member that has ended."""
        self._members.pop(peer_id, None)
        self.part_from_all(peer_id)

    def is_frozen(self, *peer_ids: str) -> bool:
        """Whether any of these is frozen."""
        return any(peer in self._frozen for peer in peer_ids)

    async def unfrozen(self, *peer_ids: str) -> None:
        """Returns once none of these is frozen."""
        while waiting := [self._frozen[peer] for peer in peer_ids if peer in self._frozen]:
            await waiting[0].wait()


class MemorySigner:
    """A `Signer` for a made-up id; the network knows everybody's key."""

    def __init__(self, network: Network, peer_id: str) -> None:
        self._network = network
        self.peer_id = peer_id

    def sign(self, message: bytes) -> bytes:
        """Our signature."""
        return self._network.key(self.peer_id).sign(message)

    def verifies(self, message: bytes, signature: bytes, peer: str) -> bool:
        """Whether `peer` has signed this message."""
        try:
            self._network.key(peer).public_key().verify(signature, message)
        except InvalidSignature:
            return False
        return True


class MemoryTransport:
    """A `Carrier` in a `Network`."""

    def __init__(self, network: Network, peer_id: str, gate: GateLimits | None = None) -> None:
        self._network = network
        self._peer_id = peer_id
        self._handlers: dict[str, StreamHandler] = {}
        self._streams: list[MemoryStream] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.gate = Gate(gate)
        self.gate.know(peer_id)
        self.signer = network.signer(peer_id)

    @property
    def peer_id(self) -> str:
        """Our own id."""
        return self._peer_id

    @property
    def reach(self) -> Reach:
        """Nobody has been asked."""
        return Reach.UNKNOWN

    def watch(self, on_change: Callable[[], None]) -> None:
        """Our address never changes."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """One made-up address, so that whoever passes addresses on can be tested."""
        return (f"/memory/{self._peer_id}",)

    @property
    def num_streams(self) -> int:
        """Streams that are open, whoever opened them."""
        return sum(stream._outgoing.broken is None for stream in self._streams)

    async def open(self, peer: str, protocol: str, addresses: Sequence[str] = ()) -> Stream:
        """Opens a stream; takes a round trip."""
        if self._closed:
            raise Unreachable(peer, "we have left the network")
        await self._network.unfrozen(self._peer_id, peer)
        delay = self._network.condition(self._peer_id, peer).delay
        if delay:
            await asyncio.sleep(2 * delay)
        if self._network.is_hidden(peer) and not self.is_connected(peer):
            await asyncio.sleep(_PATIENCE)
            raise Unreachable(peer, "did not answer in time")
        target = self._network.member(peer)
        if target is None:
            raise Unreachable(peer, "not in the network")
        return target._accept(self, protocol)

    async def connect(self, peer: str, addresses: Sequence[str] = ()) -> None:
        """Connects to `peer`, without a stream; takes a round trip."""
        await self._network.unfrozen(self._peer_id, peer)
        await asyncio.sleep(2 * self._network.condition(self._peer_id, peer).delay)
        if self.is_connected(peer):
            return
        if not self._network.lets_in(peer, self._peer_id):
            await asyncio.sleep(_PATIENCE)
            raise Unreachable(peer, "did not answer in time")
        if self._network.member(peer) is None:
            raise Unreachable(peer, "not in the network")
        self._network.join(self._peer_id, peer)

    async def hang_up(self, peer: str) -> None:
        """Breaks our streams to `peer`."""
        self._network.part(self._peer_id, peer)
        for stream in self.streams_to(peer):
            stream.break_both("connection reset")

    async def dial_back(self, peer: str, addresses: Sequence[str]) -> tuple[str, ...]:
        """Its addresses, unless it is hidden."""
        if not self.is_connected(peer):
            raise Unreachable(peer, "is not connected")
        await self._network.unfrozen(self._peer_id, peer)
        target = self._network.member(peer)
        if target is None or self._network.is_hidden(peer):
            return ()
        return tuple(place for place in addresses if place in target.addresses)

    async def seen(self, peer: str) -> tuple[str, ...]:
        """Its address, if that would help others."""
        if not self.is_connected(peer):
            raise Unreachable(peer, "is not connected")
        return self._network.seen(peer)

    async def let_in(self, peer: str, places: Sequence[str]) -> None:
        """Has our router let `peer` in."""
        self._network.let_in(self._peer_id, peer)

    async def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Runs `handler` for each stream that is opened to us."""
        self._handlers[protocol] = handler

    async def aclose(self) -> None:
        """Breaks all streams and leaves the network."""
        if self._closed:
            return
        self._closed = True
        self._network.forget(self._peer_id)
        for stream in self._streams:
            stream.break_both("connection reset")
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def is_connected(self, peer: str) -> bool:
        """Whether we share a stream or a connection with `peer`, whoever opened it."""
        joined = self._network.are_joined(self._peer_id, peer)
        return joined or any(not stream.closed for stream in self.streams_to(peer))

    def streams_to(self, peer: str) -> list[MemoryStream]:
        """Our streams to one member."""
        return [stream for stream in self._streams if stream.peer == peer]

    def _accept(self, caller: MemoryTransport, protocol: str) -> MemoryStream:
        handler = self._handlers.get(protocol)
        if handler is None:
            raise Unreachable(self._peer_id, f"does not serve {protocol}")
        us, other = self._peer_id, caller.peer_id
        there, back = Pipe(self._network, other, us), Pipe(self._network, us, other)
        ours = MemoryStream(other, back, there, partial(self.gate.know, other))
        theirs = MemoryStream(us, there, back, partial(caller.gate.know, us))
        guest = self.gate.enter(other, partial(ours.break_both, "had to go"))
        if guest is None:
            raise Unreachable(self._peer_id, "has too many streams of ours")
        self._streams.append(ours)
        caller._streams.append(theirs)
        task = asyncio.get_running_loop().create_task(self._handle(handler, ours, guest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return theirs

    async def _handle(self, handler: StreamHandler, stream: MemoryStream, guest: Guest) -> None:
        try:
            await handler(stream)
        except PeerError as error:
            logger.debug("stream ended peer=%s why=%s", stream.peer, error)
            if isinstance(error, NotAMember):
                self.gate.forget(error.peer)
        except Exception:
            logger.exception("stream handler failed peer=%s", stream.peer)
        finally:
            self.gate.leave(guest)
            await stream.aclose()
