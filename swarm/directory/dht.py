"""The directory for the world: the group's own DHT, hivemind's over our libp2p daemon.

One dictionary per shelf holds one signed record per member, under the member's id; see
`swarm.directory.records`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from swarm.errors import ConfigError, LocalProtocolError, PeerError, RecordError, Unreachable

from ..membership.membership import Membership
from ..transport.libp2p import Libp2pTransport
from ..transport.light_hivemind import load
from . import LIFETIME, Announcement, Shelf, encode_announcement
from .records import (
    ANNOUNCEMENTS,
    CLOCK_TOLERANCE,
    authorizer,
    directory_key,
    max_lifetime,
    name_recipients,
    open_announcement,
    open_record,
    sign_record,
    validator,
)
from .values import serializer

logger = logging.getLogger(__name__)

_GRACE = 0.5
"""Seconds that other members get to answer after the first one has."""

_MAX_GREETINGS = 8
_MAX_MET = 128


@dataclass(frozen=True)
class DhtConfig:
    """How one member takes part in the DHT; times in seconds.

    A member that only `asks` stores nothing for others. One that `may_be_first` starts even if
    nobody answers. Every `rejoin` seconds it greets its entry points again, and members that it has
    lost. A node that has not answered for `patience` is skipped; `find` rather gives an earlier
    answer than wait longer than that.
    """

    asks: bool = False
    may_be_first: bool = False
    rejoin: float = 10.0
    patience: float = 2.0

    def __post_init__(self) -> None:
        if self.rejoin <= 0 or self.patience <= 0:
            raise ConfigError("the DHT's times must be positive")


class DhtDirectory:
    """A `Directory` in the group's DHT. Made by `join`."""

    def __init__(
        self, transport: Libp2pTransport, membership: Membership, node: Any, config: DhtConfig
    ) -> None:
        self._transport, self._membership = transport, membership
        self._node, self._config = node, config
        self._entries: dict[str, tuple[str, ...]] = {}
        self._acquaintances: dict[str, tuple[str, ...]] = {}
        self._own: Announcement | None = None
        self._expiries: dict[str, float] = {}
        self._found: dict[str, tuple[float, Announcement]] | None = None
        self._lookup: asyncio.Task[None] | None = None
        self._rejoiner: asyncio.Task[None] | None = None
        self._returned = asyncio.Event()
        self._closed = False

    @classmethod
    async def join(
        cls,
        transport: Libp2pTransport,
        membership: Membership,
        entries: Sequence[str],
        acquaintances: Sequence[str] = (),
        config: DhtConfig | None = None,
    ) -> DhtDirectory:
        """Joins by the members at these multiaddresses with `/p2p/` ids.

        `entries` are where the group is always met, `acquaintances` members known from before.

        Raises `Unreachable` if none of them answers (unless the config says that we may be first),
        and `ConfigError` if this machine's clock differs too much from theirs.
        """
        config = config or DhtConfig()
        directory = cls(transport, membership, await _node(transport, membership, config), config)
        try:
            directory._entries = _by_peer(entries, transport.peer_id)
            directory._acquaintances = _by_peer(acquaintances, transport.peer_id)
            await directory._enter()
        except BaseException:
            await directory.aclose()
            raise
        transport.strangers.vouch(directory._met)
        directory._rejoiner = asyncio.get_running_loop().create_task(directory._keep_joined())
        return directory

    @property
    def num_neighbours(self) -> int:
        """How many other nodes of the DHT we know."""
        return len(self._node.protocol.routing_table.uid_to_peer_id)

    @property
    def num_records(self) -> dict[str, int]:
        """Records that this node keeps, for itself and others, by shelf."""
        generate = load("hivemind.dht.routing").DHTID.generate
        storage, group, numbers = self._node.protocol.storage, self._membership.group, {}
        for shelf in (ANNOUNCEMENTS, *map(str, Shelf)):
            found = storage.get(generate(source=directory_key(group, shelf)))
            numbers[shelf] = 0 if found is None else len(found.value)
        return numbers

    async def announce(self, announcement: Announcement, lifetime: float = LIFETIME) -> None:
        """Publishes our announcement for `lifetime` seconds.

        The DHT keeps what expires last, so a shorter lifetime than before begins to count only when
        the earlier one has run out.
        """
        if announcement.peer != self._transport.peer_id:
            raise LocalProtocolError("an announcement in another member's name")
        self._own = announcement
        await self._store(ANNOUNCEMENTS, encode_announcement(announcement), lifetime)

    async def withdraw(self) -> None:
        """Replaces our announcement by an empty record, until that would have expired."""
        if self._own is None:
            return
        self._own = None
        await self._store(ANNOUNCEMENTS, b"", max(0.0, self._own_expiry - time.time()) + 1.0)

    async def publish(self, shelf: Shelf, record: bytes, lifetime: float = LIFETIME) -> None:
        """Puts our record on a shelf for `lifetime` seconds, as `announce` does."""
        await self._store(shelf, record, lifetime)

    async def read(self, shelf: Shelf) -> dict[str, bytes]:
        """The records on a shelf, by member; those that are not signed by one are left out."""
        trust, found = self._membership.trust, {}
        for member, (signed, expiry) in (await self._records(shelf)).items():
            try:
                _, found[member] = open_record(trust, shelf, member, signed, expiry)
            except RecordError as error:
                logger.debug("record dropped member=%s why=%s", member, error)
        return found

    async def find(self, model: str | None = None) -> tuple[Announcement, ...]:
        """Living announcements. Asks the DHT; if that takes long, gives what it answered before."""
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.get_running_loop().create_task(self._look())
            self._lookup.add_done_callback(_forget_error)
        while self._found is None and not self._lookup.done():
            await asyncio.wait({self._lookup})
        await asyncio.wait({self._lookup}, timeout=self._config.patience / 2)
        if self._closed or self._transport.daemon.ended:
            raise Unreachable(self._transport.peer_id, "we have left the network")
        if self._lookup.done():
            self._lookup.result()
        now = time.time()
        alive = {peer: entry for peer, (end, entry) in (self._found or {}).items() if end > now}
        alive.pop(self._transport.peer_id, None)
        if self._own is not None and self._own_expiry > now:
            alive[self._own.peer] = self._own
        return tuple(
            entry for _, entry in sorted(alive.items()) if model is None or entry.model == model
        )

    def come_back(self) -> None:
        """This machine was away: has everybody greeted at once, and dead connections ended."""
        self._returned.set()

    async def aclose(self) -> None:
        """Leaves the DHT."""
        if self._closed:
            return
        self._closed = True
        tasks = [task for task in (self._lookup, self._rejoiner) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._node.is_alive = False
        with suppress(Unreachable):
            await self._transport.daemon.alive_for(self._node.shutdown())

    @property
    def _own_expiry(self) -> float:
        return self._expiries.get(ANNOUNCEMENTS, 0.0)

    async def _store(self, shelf: str, record: bytes, lifetime: float) -> None:
        if lifetime > (limit := max_lifetime(shelf)):
            raise LocalProtocolError(f"a lifetime of {lifetime} s; the limit is {limit}")
        if self._transport.daemon.ended:
            raise Unreachable(self._transport.peer_id, "our own libp2p daemon has ended")
        member = self._membership.standing.member
        # The larger expiry wins, so ours has to rise even if the clock is set back.
        expiry = max(time.time() + lifetime, self._expiries.get(shelf, 0.0) + 0.001)
        self._expiries[shelf] = expiry
        signed = sign_record(self._membership, shelf, record, expiry)
        key = directory_key(self._membership.group, shelf)
        stored = await self._node.store(key, signed, expiration_time=expiry, subkey=member)
        if not stored:
            logger.warning("record not stored shelf=%s member=%s", shelf, member)

    async def _records(self, shelf: str) -> dict[str, tuple[bytes, float]]:
        result = await self._node.get(directory_key(self._membership.group, shelf), latest=True)
        return result.value if result is not None and isinstance(result.value, dict) else {}

    async def _look(self) -> None:
        trust, found = self._membership.trust, {}
        for member, (signed, expiry) in (await self._records(ANNOUNCEMENTS)).items():
            try:
                announcement = open_announcement(trust, member, signed, expiry)
            except RecordError as error:
                logger.debug("record dropped member=%s why=%s", member, error)
                continue
            if announcement is not None:
                found[announcement.peer] = (expiry, announcement)
        self._found = found
        # While the network is away nothing is found; these are the way back.
        met = {announcement.peer: announcement.addresses for _, announcement in found.values()}
        self._acquaintances = {**self._acquaintances, **met}
        for peer in list(self._acquaintances)[: max(0, len(self._acquaintances) - _MAX_MET)]:
            del self._acquaintances[peer]

    async def _enter(self) -> None:
        known = self._known
        if not known and not self._config.may_be_first:
            raise ConfigError("no address of any member of the group is known")
        loop = asyncio.get_running_loop()
        tasks = {loop.create_task(self._greet(peer, known[peer])) for peer in known}
        try:
            pending = tasks
            while pending and not _succeeded(tasks):
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                await asyncio.wait(pending, timeout=_GRACE)
            if _succeeded(tasks):
                await self._meet_neighbours()
            elif not self._config.may_be_first:
                raise self._nobody([task.exception() for task in tasks])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _known(self) -> dict[str, tuple[str, ...]]:
        """Addresses of every member that we could greet, by id."""
        found = (self._found or {}).items()
        announced = {peer: entry.addresses for peer, (_, entry) in found}
        known = {**self._acquaintances, **announced, **self._entries}
        known.pop(self._transport.peer_id, None)
        return known

    def _met(self) -> set[str]:
        """Members that may be connected without a stream of ours: the DHT has its own."""
        nodes = self._node.protocol.routing_table.peer_id_to_uid
        return {str(peer) for peer in nodes} | set(self._known)

    def _nobody(self, failures: Sequence[BaseException | None]) -> BaseException:
        for failure in failures:
            if failure is not None and not isinstance(failure, PeerError):
                return failure
        tried = self._entries or self._known
        where = ", ".join(address for addresses in tried.values() for address in addresses)
        return Unreachable(
            next(iter(tried)),
            f"nobody of the group answered at {where} ({failures[0]}); is the bootstrap running,"
            " and can this machine reach it?",
        )

    async def _greet(self, peer: str, addresses: Sequence[str]) -> None:
        """Connects to a node, so that each of us has the other in its routing table."""
        await self._transport.connect(peer, addresses)
        peer_id, protocol = load("hivemind.p2p").PeerID.from_base58(peer), self._node.protocol
        request = load("hivemind.proto.dht_pb2").PingRequest(peer=protocol.node_info)
        try:
            reply = await protocol.get_stub(peer_id).rpc_ping(
                request, timeout=self._config.patience
            )
        except TimeoutError as error:
            raise Unreachable(peer, "did not answer in time") from error
        except Exception as error:
            # hivemind says everything by plain exceptions, a refused request among them. Those who
            # were thrown out are told nothing else: an authority says what is the matter.
            if peer in self._entries:
                self._membership.doubt()
            raise Unreachable(
                peer,
                "does not take us for a member: it is of another group, or one of our clocks is"
                f" wrong ({str(error) or type(error).__name__})",
            ) from error
        if reply is None or not reply.peer.node_id:
            raise Unreachable(peer, "is no member of this group")
        skew = time.time() - reply.dht_time
        if abs(skew) > CLOCK_TOLERANCE:
            raise ConfigError(
                f"this machine's clock differs by {abs(skew):.0f} seconds from the group's; set it"
            )
        node_id = load("hivemind.dht.routing").DHTID.from_bytes(reply.peer.node_id)
        await protocol.update_routing_table(node_id, peer_id, responded=True)

    async def _meet_neighbours(self) -> None:
        await self._node.find_nearest_nodes([self._node.node_id])

    async def _keep_joined(self) -> None:
        """Finds again who was away: a bootstrap that came back, or the other half of a split."""
        while not self._transport.daemon.ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.rejoin):
                    await self._returned.wait()
            before, returned = self.num_neighbours, self._returned.is_set()
            self._returned.clear()
            try:
                async with asyncio.TaskGroup() as tasks:
                    for peer, addresses in (await self._to_greet(everybody=returned)).items():
                        greet = self._greet_anew if returned else self._greet_again
                        tasks.create_task(greet(peer, addresses))
                if self.num_neighbours > before:
                    await self._meet_neighbours()
            except Exception:
                logger.exception("rejoining failed")

    async def _to_greet(self, *, everybody: bool) -> dict[str, tuple[str, ...]]:
        """Entry points always: one that restarted has forgotten us. And some of the lost.

        `everybody` are all that we are connected to.
        """
        if everybody:
            connected = list(await self._transport.daemon.peers())[:_MAX_MET]
            return {peer: self._known.get(peer, ()) for peer in (*self._entries, *connected)}
        met = {str(peer) for peer in self._node.protocol.routing_table.peer_id_to_uid}
        lost = [peer for peer in self._known if peer not in met and peer not in self._entries]
        some = random.sample(lost, min(len(lost), _MAX_GREETINGS))
        return {peer: self._known[peer] for peer in (*self._entries, *some)}

    async def _greet_anew(self, peer: str, addresses: Sequence[str]) -> None:
        """Greets over a connection that may be dead, and if it is, over a new one.

        libp2p itself sees only after 40 s that nobody answers, and opens all streams over it.
        """
        try:
            await self._greet(peer, addresses)
        except (PeerError, ConfigError) as error:
            if isinstance(error.__cause__, TimeoutError):
                logger.info("connection ended peer=%s why=%s", peer, error)
                await self._transport.hang_up(peer)
                await self._greet_again(peer, addresses)

    async def _greet_again(self, peer: str, addresses: Sequence[str]) -> None:
        try:
            await self._greet(peer, addresses)
        except (PeerError, ConfigError) as error:
            logger.debug("member away peer=%s why=%s", peer, error)


def _by_peer(addresses: Sequence[str], me: str) -> dict[str, tuple[str, ...]]:
    known: dict[str, tuple[str, ...]] = {}
    for address in addresses:
        peer = address.rpartition("/p2p/")[2]
        if peer != me:
            known[peer] = (*known.get(peer, ()), address)
    return known


def _succeeded(tasks: Collection[asyncio.Task[None]]) -> bool:
    return any(task.done() and task.exception() is None for task in tasks)


def _forget_error(task: asyncio.Task[None]) -> None:
    """Marks the error as seen: `find` raises it, unless it has given an earlier answer already."""
    if not task.cancelled():
        task.exception()


async def _node(transport: Libp2pTransport, membership: Membership, config: DhtConfig) -> Any:
    routing = load("hivemind.dht.routing")
    # Nodes read what they are sent with this, some of it before the validator sees it.
    load("hivemind.dht.protocol").DHTProtocol.serializer = serializer()
    node = await load("hivemind.dht.node").DHTNode.create(
        transport.daemon.p2p,
        # The same node as before a restart: others may still have it in their tables.
        node_id=routing.DHTID.generate(source=transport.peer_id),
        client_mode=config.asks,
        wait_timeout=config.patience,
        # What is cached would be old, and the dictionary is small.
        cache_locally=False,
        cache_nearest=0,
        cache_on_store=False,
        cache_refresh_before_expiry=0,
        backoff_rate=1.0,
        record_validator=validator(membership.trust),
        authorizer=authorizer(membership),
    )
    name_recipients(node.protocol)
    return node
