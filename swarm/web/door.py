"""Addresses at which a program answers HTTP: taken, listened at, and given back."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Generic, Protocol, TypeVar

from aiohttp import web

from swarm.errors import ConfigError

from .certificate import tls_context
from .config import WebConfig
from .connection import Connection, Connections

_BACKLOG = 128
_GREETING = 10.0
"""Seconds for a TLS handshake."""

_LAST_WORDS = 2.0
"""Seconds for an answer that is broken off to say so."""


Config = TypeVar("Config", bound=WebConfig)


class Lock(Protocol):
    """Whether whoever asks must show a key; if not, `advice` says how to have one asked for."""

    @property
    def required(self) -> bool: ...

    @property
    def advice(self) -> str: ...


class Door(Generic[Config]):
    """Addresses that are taken, at which nobody is answered yet. Made by `Door.opened`."""

    def __init__(
        self, config: Config, sockets: list[socket.socket], tls: ssl.SSLContext | None
    ) -> None:
        self.config = config
        self.sockets = sockets
        self.tls = tls

    @classmethod
    @contextmanager
    def opened(cls, config: Config, lock: Lock) -> Iterator[Door[Config]]:
        """Takes the addresses for the length of the block: what may be wrong with them is told
        before models are opened, which takes its time.

        Raises `ConfigError`: for addresses, certificates, and where others than this machine could
        ask without a key.
        """
        if not config.is_local and not lock.required:
            raise ConfigError(
                f"at {config.host} others than this machine can ask: that needs a key."
                f" {lock.advice}, or serve at 127.0.0.1"
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


@asynccontextmanager
async def listening(
    app: web.Application, door: Door[Any], connections: Connections
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
    door: Door[Any], sock: socket.socket, connection: Callable[[], Connection]
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


def _bind(config: WebConfig, stack: ExitStack) -> list[socket.socket]:
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
        if sys.platform != "win32":  # There it would let us in beside others.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


@contextmanager
def _said_plainly(config: WebConfig) -> Iterator[None]:
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
