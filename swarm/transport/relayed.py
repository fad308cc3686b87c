"""The transport of members: dials others directly, and goes through a relay where that fails.

It lies on another transport, libp2p or the twin. It finds out whether others can dial us; if
not, it keeps places at relays, and announces addresses that lead through them. If they can, it is a
relay for others itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from swarm.background import background
from swarm.errors import ConfigError, Misbehaved, PeerError, SwarmError, Unreachable

from ..membership.membership import Membership
from ..wire.relaying import Visit
from . import Carrier, Stream, StreamHandler, circuits, gauge, punch, race, sealed
from .control import VISIT, Door, Place, read
from .gauge import Gauge
from .link import LinkConfig
from .punch import Punch
from .reach import Reach, judge
from .relay import Relay
from .relay_config import RelayConfig
from .reservations import Reservations

logger = logging.getLogger(__name__)

_MAX_ADDRESSES = 32
"""As many as a message may name."""

_ASKED = 3
_MAX_MET = 16
_GRACE = 0.5

FindRelays = Callable[[], Awaitable[Iterable[Place]]]


@dataclass(frozen=True)
class RelayedConfig:
    """How a member reaches others and is reached; times in seconds.

    One that `listens` finds out whether it can be dialled, again every `look_interval`, and keeps
    up to `max_relays` places at relays if it cannot; one that does not only asks others. `relay` is
    what it gives to others where it can be dialled itself, or with `always_relays` in any case.
    What leads directly to a peer is tried `head_start` before a relay is, and a relay may take
    `patience`, `punch_patience` of it for a direct connection that the relay only arranges (0: none
    is tried). Who or what did not answer is asked again after `retry_interval`.
    """

    listens: bool = True
    always_relays: bool = False
    relay: RelayConfig = field(default_factory=RelayConfig)
    max_relays: int = 2
    head_start: float = 0.3
    patience: float = 8.0
    punch_patience: float = 2.0
    look_interval: float = 60.0
    retry_interval: float = 5.0

    def __post_init__(self) -> None:
        if self.max_relays < 1 or self.head_start < 0:
            raise ConfigError("max_relays must be at least 1, head_start cannot be negative")
        if not 0 <= self.punch_patience < self.patience:
            raise ConfigError("punch_patience cannot be negative, and must be below patience")
        if min(self.patience, self.look_interval, self.retry_interval) <= 0:
            raise ConfigError("patience and intervals must be positive")


class RelayedTransport:
    """A `Transport` on a `Carrier`. Made by `start`; the carrier is closed by who made it."""

    def __init__(
        self,
        door: Door,
        tasks: asyncio.TaskGroup,
        entries: Sequence[Place],
        config: RelayedConfig,
    ) -> None:
        self.carrier: Carrier = door.carrier
        self.relay = Relay(door, config.relay)
        self._door = door
        self._config = config
        self._entries = tuple(place for place in entries if place.peer != door.carrier.peer_id)
        self._find: FindRelays | None = None
        self._met: dict[str, Place] = {}
        self._told: object = None
        self._handlers: dict[str, StreamHandler] = {}
        self._watchers: list[Callable[[], None]] = []
        self._reach = Reach.UNKNOWN
        self._found: tuple[str, ...] = ()
        self._look_at = 0.0
        self._news = asyncio.Event()
        self._punch = Punch(door.carrier, tasks, config.punch_patience)
        self._reservations = Reservations(door, tasks, config.max_relays, self._on_change)

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        carrier: Carrier,
        membership: Membership,
        entries: Sequence[Place] = (),
        config: RelayedConfig | None = None,
        *,
        remembered: Sequence[Place] = (),
        link_config: LinkConfig | None = None,
    ) -> AsyncIterator[RelayedTransport]:
        """A transport for the length of the block.

        `entries` are members who are asked first whether they reach us, and for a place. If they
        answer, that is settled when the block begins. Until `follow` gives others, members who are
        `remembered` are asked after them.
        """
        config = config or RelayedConfig()
        async with background() as tasks:
            door = Door(carrier, membership, link_config)
            transport = cls(door, tasks, entries, config)
            transport.relay.willing = config.relay.serve and config.always_relays
            if config.listens or config.always_relays:
                await transport.relay.serve()
                await transport.serve(gauge.PROTOCOL, Gauge(membership, link_config).accept)
            if config.listens:
                await carrier.serve(VISIT, transport._accept)
                carrier.watch(transport._on_new_address)
                await transport._settle([*transport._entries, *remembered])
                tasks.create_task(transport._keep())
            yield transport

    @property
    def peer_id(self) -> str:
        """Our own id."""
        return self.carrier.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others may dial us, and then where relays take visitors for us."""
        behind = self._reservations.addresses
        direct = dict.fromkeys((*self._found, *self.carrier.addresses))
        return (*tuple(direct)[: _MAX_ADDRESSES - len(behind)], *behind)

    @property
    def reach(self) -> Reach:
        """Whether others reach us directly."""
        return self._reach

    @property
    def num_streams(self) -> int:
        """Streams that are open, those between us and relays included."""
        return self.carrier.num_streams

    @property
    def relays(self) -> tuple[str, ...]:
        """The members through which we are reached."""
        return self._reservations.relays

    def follow(self, find: FindRelays) -> None:
        """From now on also asks the members that `find` gives, which can be dialled."""
        self._find = find
        self._news.set()

    def watch(self, on_change: Callable[[], None]) -> None:
        """Calls `on_change` when `addresses` or `reach` have changed."""
        self._watchers.append(on_change)
        self.carrier.watch(on_change)

    async def open(self, peer: str, protocol: str, addresses: Sequence[str] = ()) -> Stream:
        """Opens a stream, directly or through one of the relays that the addresses name.

        Raises `Busy` if all that kept us from it is that relays have no room.
        """
        direct, relays = circuits.split(peer, addresses)
        attempts: list[Callable[[], Awaitable[Stream]]] = [
            partial(self.carrier.open, peer, protocol, direct)
        ]
        # Where we have a place ourselves, the connection is there already.
        for relay in sorted(relays, key=lambda place: place.peer not in self.relays):
            if relay.peer != self.peer_id:
                attempts.append(partial(self._open_through, relay, peer, protocol))
        return await race.first(peer, attempts, self._config.head_start)

    async def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Runs `handler` for each stream that is opened to us, directly or through a relay."""
        self._handlers[protocol] = handler
        await self.carrier.serve(protocol, handler)

    async def aclose(self) -> None:
        """Closes every stream and leaves the network."""
        await self.carrier.aclose()

    async def _open_through(self, relay: Place, peer: str, protocol: str) -> Stream:
        try:
            async with asyncio.timeout(self._config.patience):
                with sealed.blamed(peer):
                    circuit = await self._door.circuit(relay, peer)
                if self._punch.promises(peer, circuit.seen):
                    if await self._punch.connect(peer, circuit, self._reach):
                        with suppress(Unreachable):
                            return await self._punch.open(peer, protocol)
                    with sealed.blamed(peer):
                        circuit = await self._door.circuit(relay, peer)
                try:
                    return await sealed.call(circuit.stream, peer, protocol, self.carrier.signer)
                except BaseException:
                    await circuit.stream.aclose()
                    raise
        except TimeoutError as error:
            raise Unreachable(peer, f"did not answer through {relay.peer[-8:]}") from error

    async def _accept(self, stream: Stream) -> None:
        """Serves a stream that a relay brings."""
        if not self._reservations.expects(stream.peer):
            raise Misbehaved(stream.peer, "brings a visitor, though we have no place there")
        try:
            async with asyncio.timeout(self._config.patience):
                visit = await read(stream)
                if not isinstance(visit, Visit):
                    raise Misbehaved(stream.peer, "does not say who the visitor is")
                visitor, protocol = await sealed.answer(stream, visit.peer, self.carrier.signer)
                handler = self._handlers.get(protocol)
                if protocol == punch.PROTOCOL:
                    handler = partial(self._punch.answer, seen=visit.seen)
                if handler is None:
                    await sealed.refuse(visitor)
                    raise Unreachable(visit.peer, f"asks for {protocol}, which we do not serve")
                await sealed.accept(visitor)
        except TimeoutError as error:
            raise Unreachable(stream.peer, "brought a visitor who did not say anything") from error
        await handler(visitor)

    def _on_change(self) -> None:
        self._news.set()
        state = (self._reach, self.addresses)
        if state == self._told:
            return
        self._told = state
        for watcher in self._watchers:
            watcher()

    def _on_new_address(self) -> None:
        """Another network, or a forwarded port: what was found out may be wrong now."""
        self._look_at = 0.0
        self._news.set()

    async def _settle(self, known: Sequence[Place]) -> None:
        """The first look, and the first place at a relay if we need one."""
        await self._look(known[:_ASKED])
        if self._reach is not Reach.RELAYED:
            return
        self._reservations.top_up(known)
        # Nobody waits longer for a relay than for a peer.
        try:
            async with asyncio.timeout(self._config.patience):
                while self._reservations.seeking and not self.relays:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            logger.warning("no relay answers yet")

    async def _keep(self) -> None:
        """Looks again from time to time, and replaces relays that are gone."""
        clock = asyncio.get_running_loop().time
        while True:
            rest = self._config.retry_interval
            if self._reach is not Reach.RELAYED or len(self.relays) >= self._config.max_relays:
                rest = min(max(0.0, self._look_at - clock()), self._config.look_interval)
            try:
                async with asyncio.timeout(rest):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            try:
                await self._renew()
                continue
            except SwarmError as error:
                logger.warning("relays not looked for why=%s", error)
            except Exception:
                logger.exception("relays not looked for")
            await asyncio.sleep(self._config.retry_interval)

    async def _renew(self) -> None:
        public = await self._public()
        if asyncio.get_running_loop().time() >= self._look_at:
            await self._look(public[:_ASKED])
        if self._reach is Reach.RELAYED:
            self._reservations.top_up(public)
        elif self._reach is Reach.DIRECT:
            self._reservations.drop()

    async def _public(self) -> list[Place]:
        """Members who may relay for us, in an order of our own, so that all are used.

        Entries come first, and last those who are not found any more: when the network was away, so
        was the directory.
        """
        found = {} if self._find is None else {place.peer: place for place in await self._find()}
        found.pop(self.peer_id, None)
        others = random.sample(list(found), len(found))
        lost = [peer for peer in self._met if peer not in found]
        entries = {place.peer: place for place in self._entries}
        places = {**self._met, **found, **entries}
        self._met = dict(list({**self._met, **found}.items())[-_MAX_MET:])
        return [places[peer] for peer in dict.fromkeys((*entries, *others, *lost))]

    async def _look(self, asked: Sequence[Place]) -> None:
        """Asks some members whether they reach us anew."""
        answers = await self._answers(asked)
        reach = judge(answers)
        known = reach is not Reach.UNKNOWN
        rest = self._config.look_interval if known else self._config.retry_interval
        self._look_at = asyncio.get_running_loop().time() + rest
        if not known:
            return
        before = (self._reach, self._found)
        self._reach = reach
        # Also where we did not know that we listen: a port forwarded by hand.
        self._found = tuple(dict.fromkeys(place for answer in answers for place in answer))
        if (self._reach, self._found) == before:
            return
        logger.info("reach=%s asked=%d", reach, len(answers))
        config = self._config
        self.relay.willing = config.relay.serve and (config.always_relays or reach is Reach.DIRECT)
        self._on_change()

    async def _answers(self, asked: Sequence[Place]) -> list[tuple[str, ...]]:
        """What they say who answer soon after the first one."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._probe(place)) for place in asked]
        pending = set(tasks)
        try:
            async with asyncio.timeout(self._config.patience):
                while pending and not any(_answer(task) is not None for task in tasks):
                    _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if pending:
                    await asyncio.wait(pending, timeout=_GRACE)
        except TimeoutError:
            logger.debug("nobody dials back")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [answer for task in tasks if (answer := _answer(task)) is not None]

    async def _probe(self, place: Place) -> tuple[str, ...] | None:
        try:
            async with self._door.control(place) as control:
                return await control.probe(self.carrier.addresses)
        except PeerError as error:
            logger.debug("not dialled back peer=%s why=%s", place.peer, error)
            return None


def _answer(task: asyncio.Task[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    return task.result() if task.done() and not task.cancelled() else None
