"""A gateway that serves: from sockets to models, and its end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web

from swarm.client import RemoteModel, SpeculationConfig
from swarm.errors import ConfigError

from .answer import Answerer
from .app import create_app
from .certificate import tls_context
from .config import GatewayConfig
from .connection import Connection, Connections
from .core import Core
from .endpoints import all_endpoints
from .fallback import Fallback, FallbackConfig
from .hybrid import Hybrid
from .keys import Keys
from .metrics import Metrics
from .traffic import Traffic, stopping

logger = logging.getLogger(__name__)

_BACKLOG = 128
_GREETING = 10.0
"""Seconds for a TLS handshake."""

_LAST_WORDS = 2.0
"""Seconds for an answer that is broken off to say so."""


class Door:
    """Addresses that are taken, at which nobody is answered yet. Made by `Door.opened`."""

    def __init__(
        self, config: GatewayConfig, sockets: list[socket.socket], tls: ssl.SSLContext | None
    ) -> None:
        self.config = config
        self.sockets = sockets
        self.tls = tls

    @classmethod
    @contextmanager
    def opened(cls, config: GatewayConfig, keys: Keys) -> Iterator[Door]:
        """Takes the addresses for the length of the block: what may be wrong with them is told
        before models are opened, which takes its time.

        Raises `ConfigError`: for addresses, certificates, and where others than this machine could
        ask without a key.
        """
        if not config.is_local and not keys.required:
            raise ConfigError(
                f"at {config.host} others than this machine can ask: that needs a key. Make one"
                " with `swarm serve keys add NAME`, or serve at 127.0.0.1"
            )
        tls = None
        if config.certificate is not None and config.private_key is not None:
            tls = tls_context(config.certificate, config.private_key)
        with ExitStack() as stack:
            yield cls(config, _bind(config, stack), tls)

    @property
    def url(self) -> str:
        """Where it is reached, as far as is known here: of all addresses, one of this machine."""
        host, port = self.sockets[0].getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls else 'http'}://{host}:{port}"


class Gateway:
    """A gateway that answers. Made by `serve`."""

    def __init__(self, door: Door, core: Core, traffic: Traffic) -> None:
        self._door = door
        self._traffic = traffic
        self.core = core
        self.connections = Connections(door.config.most_connections)

    @property
    def url(self) -> str:
        """Such as `http://127.0.0.1:8000`; APIs are below its `/v1`."""
        return self._door.url

    @property
    def num_running(self) -> int:
        """Requests that are being answered, or wait for it."""
        return self._traffic.num_running


@asynccontextmanager
async def serve(
    models: Mapping[str, RemoteModel],
    config: GatewayConfig | None = None,
    keys: Keys | None = None,
    *,
    speculation: SpeculationConfig | None = None,
    door: Door | None = None,
    metrics: Metrics | None = None,
    fallback: FallbackConfig | None = None,
) -> AsyncIterator[Gateway]:
    """Answers for these models, by the names by which they are asked, for the length of the block.

    With a `fallback` that is asked for them while they have no route. When the block is left nobody
    new is let in, what runs goes on for `config.drain` seconds, and is then broken off with an
    error. `door` has its own config; `metrics` are told what happens. Raises `ConfigError` as
    `Door.opened`.
    """
    keys, metrics = keys or Keys(), metrics or Metrics()
    async with AsyncExitStack() as stack:
        if door is None:
            door = stack.enter_context(Door.opened(config or GatewayConfig(), keys))
        core, traffic = Core(models, door.config, speculation), Traffic()
        turnstile = core.turnstile
        metrics.watch_load(lambda: (turnstile.num_places, turnstile.num_waiting))
        answerer: Answerer = core
        stops = [core.stop]
        if fallback is not None:
            outside = await stack.enter_async_context(Fallback.opened(fallback))
            answerer, stops = Hybrid(core, outside), [core.stop, outside.stop]
        app = create_app(all_endpoints(), answerer, door.config, keys, traffic, metrics)
        gateway = Gateway(door, core, traffic)
        async with listening(app, door, gateway.connections):
            logger.info("gateway serving url=%s models=%d", gateway.url, len(models))
            try:
                yield gateway
            finally:
                traffic.close()
                logger.info("gateway stopping num_running=%d", traffic.num_running)
                await traffic.idle(door.config.drain)
                for stop in stops:
                    stop(stopping())
                await traffic.idle(_LAST_WORDS)


@asynccontextmanager
async def listening(
    app: web.Application, door: Door, connections: Connections
) -> AsyncIterator[None]:
    """Answers at a door with this application for the length of the block."""
    # Who has asked and gone away is no longer answered: the handler is cancelled at once.
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, shutdown_timeout=_LAST_WORDS
    )
    await runner.setup()
    try:
        server = runner.server
        assert server is not None

        def connection() -> Connection:
            return Connection(server, connections, door.config)

        with ExitStack() as stack:
            for sock in door.sockets:
                listener = await _listen(door, sock, connection)
                stack.callback(listener.close)
            yield
    finally:
        await runner.cleanup()


async def _listen(
    door: Door, sock: socket.socket, connection: Callable[[], Connection]
) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    with _said_plainly(door.config):
        if door.tls is None:
            return await loop.create_server(connection, sock=sock, backlog=_BACKLOG)
        # Until TLS stands a connection is none of those that are counted.
        seconds = min(_GREETING, door.config.patience)
        return await loop.create_server(
            connection,
            sock=sock,
            ssl=door.tls,
            ssl_handshake_timeout=seconds,
            backlog=_BACKLOG,
        )


def _bind(config: GatewayConfig, stack: ExitStack) -> list[socket.socket]:
    """Sockets of all addresses that the host has here, with one port."""
    with _said_plainly(config):
        found = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        for family, *_, address in dict.fromkeys(found):
            port = sockets[0].getsockname()[1] if sockets else config.port
            try:
                sock = _bound(family, (address[0], port, *address[2:]))
            except OSError as error:
                # A machine without IPv6 has no ::1, whatever its localhost is said to be.
                if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise
            sockets.append(stack.enter_context(sock))
    return sockets


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


@contextmanager
def _said_plainly(config: GatewayConfig) -> Iterator[None]:
    """Has errors of addresses say what to do."""
    where = f"{config.host}:{config.port}"
    try:
        yield
    except socket.gaierror as error:
        raise ConfigError(f"{config.host}: there is no such address") from error
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                text = f"another program listens at {where}: choose another --port"
            case errno.EADDRNOTAVAIL:
                text = f"{config.host} is no address of this machine"
            case errno.EACCES:
                text = f"port {config.port} is not for ordinary users: choose one above 1023"
            case number:
                text = f"cannot listen at {where}: {os.strerror(number or 0)}"
        raise ConfigError(text) from error
