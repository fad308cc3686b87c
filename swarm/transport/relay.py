"""The relay: passes sealed streams between members that cannot dial each other.

A member that nobody can dial keeps a control link here, and with it a connection; over that
connection the relay opens a stream to it for everybody who asks, and passes frames both ways. It
reads none of them (`swarm.transport.sealed`), keeps one per direction, and limits what each member
may use.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from swarm.background import background
from swarm.errors import Misbehaved, PeerError, RemoteProtocolError, Silent, Unreachable

from ..wire.messages import AnyMessage, encode
from ..wire.relaying import (
    Connect,
    Connected,
    Probe,
    Probed,
    Refusal,
    Refused,
    Reserve,
    Reserved,
    Visit,
)
from . import Buffer, Stream
from .control import CIRCUIT, CONTROL, VISIT, Door, read
from .link import Link
from .quota import Allowance
from .relay_config import RelayConfig
from .sealed import RECORD_LEN

logger = logging.getLogger(__name__)

_MEMBERSHIP_INTERVAL = 5.0
"""Seconds after which a circuit looks again whether its ends still are members."""

_DOUBT = 3.0
"""Seconds for which the link over which a member had its place before is looked at closely."""

_MEMBER_CONTROLS = 4
"""Control links of one member at once: its place, a probe, and either of them anew."""


class Bucket:
    """Bytes that one member may still send: at most `burst`, `rate` new ones a second (0: any)."""

    def __init__(self, rate: float, burst: int) -> None:
        self._allowance = Allowance(rate, burst) if rate else None

    async def take(self, num_bytes: int) -> None:
        """Waits until these bytes are paid for."""
        if self._allowance is None:
            return
        now = asyncio.get_running_loop().time()
        self._allowance.spend(num_bytes, now)
        if debt := self._allowance.debt(now):
            await asyncio.sleep(debt)

    @property
    def full(self) -> bool:
        """Whether it owes nothing, so that a new one would be the same."""
        now = asyncio.get_running_loop().time()
        return self._allowance is None or self._allowance.full(now)


@dataclass
class _Circuit:
    """Two streams between which frames are passed, and when the last one was.

    `links` are those over which the two members have shown their certificates.
    """

    ends: tuple[Stream, Stream]
    links: tuple[Link, Link]
    passed_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())


class Relay:
    """The relay of one member. `serve` begins; it takes reservations while it is `willing`."""

    def __init__(self, door: Door, config: RelayConfig) -> None:
        self._door = door
        self._config = config
        self._reserved: dict[str, Link] = {}
        self._silent: dict[str, None] = {}
        """Members whose places have ended in silence, the latest last."""
        self._controls: Counter[str] = Counter()
        self._circuits: Counter[str] = Counter()
        self._buckets: dict[str, Bucket] = {}
        self.willing = False
        self.num_passed_bytes = 0
        """What went through, both ways."""
        self.num_connected = 0
        """Circuits that came about, ended ones included."""
        self.refusals: Counter[Refusal] = Counter()

    @property
    def reserved(self) -> frozenset[str]:
        """Members that are reached through us."""
        return frozenset(self._reserved)

    @property
    def num_circuits(self) -> int:
        """Streams that are being passed on."""
        return sum(self._circuits.values()) // 2

    async def serve(self) -> None:
        """Answers other members from now on."""
        await self._door.carrier.serve(CONTROL, self._serve_control)
        await self._door.carrier.serve(CIRCUIT, self._serve_circuit)

    async def _serve_control(self, stream: Stream) -> None:
        link = await self._door.welcome(stream)
        if self._controls[link.account] >= _MEMBER_CONTROLS:
            raise Misbehaved(link.peer, "has too many control links")
        with _counted(self._controls, link.account):
            await self._answer(link)

    async def _answer(self, link: Link) -> None:
        async with background() as tasks:
            probes: set[asyncio.Task[None]] = set()

            async def on_message(link: Link, message: AnyMessage, _: Buffer) -> None:
                match message:
                    case Probe(addresses):
                        if probes:
                            raise RemoteProtocolError("asks again before it was answered")
                        probe = tasks.create_task(self._probe(link, addresses))
                        probes.add(probe)
                        probe.add_done_callback(probes.discard)
                    case Reserve():
                        if self._reserve(link):
                            tasks.create_task(self._end_former(link.peer))
                    case _:
                        raise RemoteProtocolError(f"a relay takes no {type(message).__name__}")

            try:
                await link.run(on_message)
            except Silent:
                holder = self._reserved.get(link.peer)
                if holder is link:
                    self._note_silent(link.peer)
                elif holder is not None:
                    # It is in another network now, and has a place again over a new connection;
                    # libp2p would go on opening visits over the old one.
                    await self._door.carrier.hang_up(link.peer)
                raise
            finally:
                if self._reserved.get(link.peer) is link:
                    del self._reserved[link.peer]
                    logger.info("relay reservation ended peer=%s", link.peer)

    async def _probe(self, link: Link, addresses: tuple[str, ...]) -> None:
        found = await self._door.carrier.dial_back(link.peer, addresses)
        link.post(Probed(found))

    def _reserve(self, link: Link) -> bool:
        """Gives a member a place, or refuses it one; returns whether its last one fell silent."""
        if not self.willing:
            self.refusals[Refusal.NO_RELAY] += 1
            link.post(Refused(Refusal.NO_RELAY, "is no relay"))
        elif link.peer not in self._reserved and (
            len(self._reserved) >= self._config.max_reservations
        ):
            self.refusals[Refusal.FULL] += 1
            link.post(Refused(Refusal.FULL, f"relays for {len(self._reserved)} members already"))
        else:
            former = self._reserved.get(link.peer)
            if former is not None and former is not link:
                # If it is silent, that is to be known at once: visits may go over its connection.
                former.attend(_DOUBT)
            self._reserved[link.peer] = link
            logger.info("relay reservation peer=%s", link.peer)
            link.post(Reserved(self._door.carrier.addresses))
            if link.peer in self._silent:
                del self._silent[link.peer]
                return True
        return False

    def _note_silent(self, peer: str) -> None:
        """A member whose place has ended in silence is away, or comes by another connection."""
        self._silent.pop(peer, None)
        self._silent[peer] = None
        if len(self._silent) > self._config.max_reservations:
            del self._silent[next(iter(self._silent))]

    async def _end_former(self, peer: str) -> None:
        """Ends the connections of a member that was silent over one, if it has come by another.

        The new one ends with them, and the member comes once more; if there is but one, it was only
        slow, and what else goes over it is left alone.
        """
        with suppress(Unreachable):
            if len(await self._door.carrier.seen(peer)) > 1:
                logger.info("connection ended peer=%s why=it was silent over another", peer)
                await self._door.carrier.hang_up(peer)

    async def _serve_circuit(self, stream: Stream) -> None:
        link = await self._door.welcome(stream)
        caller, target = link.peer, await self._wish(stream)
        refusal = self._refusal(link, target)
        if refusal is not None:
            self.refusals[refusal.why] += 1
            await stream.send(encode(refusal), b"")
            return
        links = (link, self._reserved[target])
        # A member has one share, however many programs it makes keys for.
        with _counted(self._circuits, *(end.account for end in links)):
            there = await self._visit(target)
            if there is None:
                self.refusals[Refusal.NOT_HERE] += 1
                gone = Refused(Refusal.NOT_HERE, f"{target[-8:]} does not answer")
                await stream.send(encode(gone), b"")
                return
            try:
                carrier = self._door.carrier
                await there.send(encode(Visit(caller, await carrier.seen(caller))), b"")
                await stream.send(encode(Connected(await carrier.seen(target))), b"")
                for end in (stream, there):
                    end.admit(RECORD_LEN)
                self.num_connected += 1
                await self._pass(_Circuit((stream, there), links))
            finally:
                await there.aclose()

    async def _wish(self, stream: Stream) -> str:
        try:
            async with asyncio.timeout(self._config.patience):
                message = await read(stream)
        except TimeoutError as error:
            raise Unreachable(stream.peer, "asked for nobody") from error
        if not isinstance(message, Connect):
            raise Misbehaved(stream.peer, f"a relay takes no {type(message).__name__} here")
        return message.peer

    def _refusal(self, caller: Link, target: str) -> Refused | None:
        limit = self._config.member_circuits
        if target not in self._reserved or target == caller.peer:
            return Refused(Refusal.NOT_HERE, f"{target[-8:]} has no place here")
        if self.num_circuits >= self._config.max_circuits:
            return Refused(Refusal.FULL, f"passes {self.num_circuits} streams already")
        for end in (caller, self._reserved[target]):
            if self._circuits[end.account] >= limit:
                return Refused(Refusal.FULL, f"passes {limit} streams of {end.peer[-8:]} already")
        return None

    async def _visit(self, target: str) -> Stream | None:
        """A stream to a member that cannot be dialled, over the connection that it keeps."""
        try:
            async with asyncio.timeout(self._config.patience):
                return await self._door.carrier.open(target, VISIT)
        except (Unreachable, TimeoutError) as error:
            logger.debug("relay visit failed peer=%s why=%s", target, error)
            return None

    async def _pass(self, circuit: _Circuit) -> None:
        one, other = circuit.ends
        logger.debug("relay circuit from=%s to=%s", one.peer, other.peer)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(circuit, circuit.ends, circuit.links[0].account))
                tasks.create_task(self._pump(circuit, circuit.ends[::-1], circuit.links[1].account))
                tasks.create_task(self._end_idle(circuit))
        except* PeerError as errors:
            logger.debug("relay circuit ended why=%s", errors.exceptions[0])

    async def _pump(self, circuit: _Circuit, ends: tuple[Stream, Stream], sender: str) -> None:
        bucket, clock = self._bucket(sender), asyncio.get_running_loop().time
        source, sink = ends
        while True:
            header, payload = await source.receive()
            await bucket.take(len(header) + len(payload))
            # Waits while the other end is slower, and so does the one that sends.
            await sink.send(header, payload)
            circuit.passed_at = clock()
            self.num_passed_bytes += len(header) + len(payload)

    async def _end_idle(self, circuit: _Circuit) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            rest = circuit.passed_at + self._config.idle - clock()
            if rest <= 0:
                raise Unreachable(circuit.ends[1].peer, "nothing has passed for long")
            await asyncio.sleep(min(rest, _MEMBERSHIP_INTERVAL))
            for link in circuit.links:
                link.check_membership()

    def _bucket(self, member: str) -> Bucket:
        # Kept while a member owes anything: a new circuit is no new allowance.
        settled = [other for other, bucket in self._buckets.items() if bucket.full]
        for other in settled:
            if not self._circuits[other]:
                del self._buckets[other]
        if member not in self._buckets:
            self._buckets[member] = Bucket(self._config.rate, self._config.burst)
        return self._buckets[member]


@contextmanager
def _counted(counts: Counter[str], *members: str) -> Iterator[None]:
    """Counts these members for the length of the block."""
    counts.update(members)
    try:
        yield
    finally:
        counts.subtract(members)
        for member in members:
            if not counts[member]:
                del counts[member]
