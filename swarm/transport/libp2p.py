"""The transport for the world: libp2p streams through hivemind's daemon."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from swarm.errors import ConfigError, NotAMember, PeerError, Unreachable

from .. import identity
from ..wire.frames import DEFAULT_LIMITS, FrameLimits
from . import Stream, StreamHandler, dial_back, multiaddresses, ports
from .daemon import Daemon
from .doorway import Doorway
from .gate import Gate, GateLimits
from .libp2p_stream import Libp2pStream
from .reach import Reach
from .strangers import Strangers
from .uplink import Uplink

logger = logging.getLogger(__name__)

_REFRESH = 15.0
_STALE = 6.0
"""Seconds in which something arrives over a new stream, or over an older one, if there still is
somebody at the other end of a connection, busy as it may be: its end breaks off all that goes over
it."""

_LOOK = 0.5
"""Seconds between two looks at our own clock meanwhile."""

_RETURN = 12
"""Looks at our addresses, one each second, once this machine is back: libp2p's daemon takes up to
five seconds to see that it has others."""


@dataclass(frozen=True)
class Libp2pConfig:
    """How one member takes part in the network.

    `identity` is a key file (made if it is missing); without one the member has a new id each time.
    It listens at `host` and `port` (0: a free one). `announce` are addresses under which others
    reach it from outside, as multiaddresses or `host:port`. With `map_port` a router is asked to
    forward the port (UPnP, NAT-PMP). Opening a stream takes at most `patience` seconds. `gate`
    limits what others may open to us. We send at most `upload` bytes per second (0: no limit).
    """

    identity: Path | None = None
    host: str = "0.0.0.0"
    port: int = 0
    announce: tuple[str, ...] = ()
    map_port: bool = True
    patience: float = 5.0
    limits: FrameLimits = DEFAULT_LIMITS
    gate: GateLimits = field(default_factory=GateLimits)
    upload: float = 0.0

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.host)
        except ValueError as error:
            raise ConfigError(f"host {self.host!r} is no IP address") from error
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if self.upload < 0:
            raise ConfigError("an upload rate cannot be negative")
        if self.announce and not self.port:
            raise ConfigError("an announced address needs a fixed port: give --port too")
        for address in self.announce:
            multiaddresses.multiaddress(address)

    @property
    def ip(self) -> multiaddresses.IPAddress:
        """`host` as an address."""
        return ipaddress.ip_address(self.host)


class Libp2pTransport:
    """A `Carrier` over libp2p. Made by `create`, or by `start` for an `async with`."""

    def __init__(
        self, daemon: Daemon, config: Libp2pConfig, me: identity.Identity, uplink: Uplink | None
    ) -> None:
        self.daemon = daemon
        self.uplink = uplink
        self.signer = me
        self._config = config
        self._on_change: list[Callable[[], None]] = []
        self._addresses: tuple[str, ...] = ()
        self._streams: set[Libp2pStream] = set()
        self._watches: set[asyncio.Future[None]] = set()
        self.gate = Gate(config.gate)
        self.gate.know(self.peer_id)
        self.strangers = Strangers(daemon, self.gate)
        self._doorway = Doorway(config.ip, lambda: self.port)
        self._closing = False
        self._returned = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._keepers = [
            loop.create_task(self._keep_addresses()),
            loop.create_task(self.strangers.keep_few()),
        ]

    @classmethod
    async def create(cls, config: Libp2pConfig | None = None) -> Libp2pTransport:
        """Joins the network; raises `ConfigError` if the port is taken or the key is damaged."""
        config = config or Libp2pConfig()
        # p2pd reads the file once. Without one of ours it would make a key that we never see.
        with tempfile.TemporaryDirectory(prefix="swarm-identity-") as folder:
            me = identity.load_or_create(config.identity or Path(folder) / "identity")
            ports.check(config.ip, config.port)
            uplink = Uplink(config.upload) if config.upload else None
            charge = uplink.charge if uplink is not None else None
            daemon = await Daemon.start(_options(config, me), charge)
            transport = cls(daemon, config, me, uplink)
        try:
            await transport._read_addresses()
        except BaseException:
            await transport.aclose()
            raise
        return transport

    @classmethod
    @asynccontextmanager
    async def start(cls, config: Libp2pConfig | None = None) -> AsyncIterator[Libp2pTransport]:
        """As `create`, and leaves the network at the end of the block."""
        transport = await cls.create(config)
        try:
            yield transport
        finally:
            await transport.aclose()

    @property
    def peer_id(self) -> str:
        """Our own id."""
        return self.daemon.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others may reach us; loopback comes last."""
        return self._addresses

    @property
    def num_streams(self) -> int:
        """Streams that are open, whoever opened them."""
        return sum(not stream._writer.is_closing() for stream in self._streams)

    @property
    def reach(self) -> Reach:
        """Nobody has been asked."""
        return Reach.UNKNOWN

    def watch(self, on_change: Callable[[], None]) -> None:
        """Calls `on_change` when the machine or the router has given us other addresses."""
        self._on_change.append(on_change)

    @property
    def port(self) -> int:
        """The TCP port at which we listen; raises `ConfigError` where there is no address."""
        if self._config.port:
            return self._config.port
        if not self._addresses:
            raise ConfigError(f"{self._config.host} is no address at which others could reach us")
        # Not the first one: that may be the router's, which forwards another port.
        place = self._addresses[-1].split("/")
        return int(place[place.index("tcp") + 1])

    def come_back(self) -> None:
        """This machine was away: looks at once whether it has other addresses now."""
        self._returned.set()

    async def connect(self, peer: str, addresses: Sequence[str] = ()) -> None:
        """Makes sure that `peer` is connected; raises `Unreachable` after `patience`."""
        try:
            async with asyncio.timeout(self._config.patience):
                await self.daemon.connect(peer, addresses)
        except TimeoutError as error:
            raise Unreachable(peer, "did not answer in time") from error

    async def open(self, peer: str, protocol: str, addresses: Sequence[str] = ()) -> Stream:
        """Opens a stream; a dead address costs `patience` seconds at most."""
        if self._closing:
            raise Unreachable(peer, "we have left the network")
        try:
            async with asyncio.timeout(self._config.patience):
                await self.daemon.connect(peer, addresses)
                connection = await self.daemon.open(peer, protocol)
        except TimeoutError as error:
            raise Unreachable(peer, "did not answer in time") from error
        stream = self._own(peer, *connection)
        self._watches.add(watch := asyncio.ensure_future(self._see_answered(stream)))
        watch.add_done_callback(self._watches.discard)
        return stream

    async def _see_answered(self, stream: Libp2pStream) -> None:
        """Ends the connection to whoever does not answer over this stream, nor say anything else.

        libp2p itself sees only after 40 s that whoever was at the other end is in another network
        now. Until then it opens streams over what is left, without waiting for the other side.
        """
        ours = [each for each in self._streams if each.peer == stream.peer]
        before = {each: each.arrived_bytes for each in ours}
        slept = 0.0
        while slept < _STALE:
            begun = asyncio.get_running_loop().time()
            await asyncio.sleep(_LOOK)
            # Nobody is declared dead for our slowness.
            slept += _LOOK if asyncio.get_running_loop().time() - begun < 2 * _LOOK else 0.0
        ours = [each for each in (*ours, *self._streams) if each.peer == stream.peer]
        heard = any(each.arrived_bytes > before.get(each, 0) for each in ours)
        if not heard and not stream.closed:
            logger.info("connection ended peer=%s why=nobody answers over it", stream.peer)
            await self.hang_up(stream.peer)

    async def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Runs `handler` for each stream that is opened to us."""

        async def handle(
            peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            guest = self.gate.enter(peer, writer.transport.abort)
            if guest is None:
                logger.debug("stream refused peer=%s protocol=%s", peer, protocol)
                return
            stream = self._own(peer, reader, writer)
            try:
                await handler(stream)
            except PeerError as error:
                logger.debug("stream ended peer=%s why=%s", peer, error)
                if isinstance(error, NotAMember):
                    self.gate.forget(error.peer)
            except Exception:
                logger.exception("stream handler failed peer=%s", peer)
            finally:
                self.gate.leave(guest)
                await stream.aclose()

        await self.daemon.serve(protocol, handle)

    async def hang_up(self, peer: str) -> None:
        """Ends the connection to `peer`; libp2p itself sees only after 40 s that one is dead."""
        with suppress(Unreachable):
            await self.daemon.disconnect(peer)

    async def dial_back(self, peer: str, addresses: Sequence[str]) -> tuple[str, ...]:
        """Where a new TCP connection meets `peer`, which is connected to us.

        Raises `Unreachable` if it is not connected.
        """
        return await dial_back.reached(peer, await self.seen(peer), addresses)

    async def seen(self, peer: str) -> tuple[str, ...]:
        """Where `peer`, which is connected to us, comes from; raises `Unreachable` if it is not."""
        seen = (await self.daemon.peers()).get(peer)
        if not seen:
            raise Unreachable(peer, "is not connected")
        return seen

    async def let_in(self, peer: str, places: Sequence[str]) -> None:
        """Has our router let `peer` dial us from these places, for some seconds from now on."""
        self._doorway.open(places)
        # The first packet to each leaves before the task that sends it waits.
        await asyncio.sleep(0)

    async def wait_failed(self) -> None:
        """Returns never by itself: raises `Unreachable` (of ourselves) when our daemon has ended.

        Every open stream raises as well. Whoever owns the transport runs this in a task, and ends
        or starts anew.
        """
        await self.daemon.wait_ended()
        raise Unreachable(self.peer_id, "our own libp2p daemon has ended")

    async def aclose(self) -> None:
        """Closes every stream and ends the daemon."""
        if self._closing:
            return
        self._closing = True
        tasks = [*self._keepers, *self._watches]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(stream.aclose() for stream in self._streams))
        finally:
            try:
                await self.daemon.aclose()
            finally:
                await self._doorway.aclose()

    def _own(
        self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Libp2pStream:
        on_admit = partial(self.gate.know, peer)
        stream = Libp2pStream(peer, reader, writer, self._config.limits, on_admit, self.uplink)
        self._streams = {other for other in self._streams if not other.closed}
        self._streams.add(stream)
        return stream

    async def _keep_addresses(self) -> None:
        # A port that the router forwards, and a network that the machine moves to, show up later.
        looks = 0
        while not self.daemon.ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0 if looks else _REFRESH):
                    await self._returned.wait()
                looks = _RETURN
            self._returned.clear()
            looks = max(0, looks - 1)
            with suppress(Unreachable):
                await self._read_addresses()

    async def _read_addresses(self) -> None:
        places = multiaddresses.reachable(await self.daemon.addresses())
        before, self._addresses = self._addresses, tuple(f"{p}/p2p/{self.peer_id}" for p in places)
        if self._addresses != before:
            for on_change in self._on_change:
                on_change()


def _options(config: Libp2pConfig, me: identity.Identity) -> dict[str, Any]:
    """What `hivemind.P2P.create` takes.

    No relaying: p2pd's relay drops circuits silently after 128 KiB. Its own Kademlia stays on,
    because hivemind's DHT knows nodes by id alone and leaves finding their addresses to it.
    """
    outside = not config.ip.is_loopback
    announced: tuple[str, ...] = ()
    if config.announce:
        announced = (
            *map(multiaddresses.multiaddress, config.announce),
            *multiaddresses.of_machine(config.ip, config.port),
        )
    return {
        "identity_path": str(me.path),
        "check_if_identity_free": False,
        "host_maddrs": [multiaddresses.at(config.ip, config.port)],
        "announce_maddrs": announced or None,
        # It would end members' connections before new ones of strangers: see `GateLimits`.
        "conn_manager": False,
        "auto_nat": outside,
        "nat_port_map": outside and config.map_port,
        "use_relay": False,
        "use_ipfs": False,
    }
