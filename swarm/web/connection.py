"""A connection that is served: how many there may be, and who stands still for too long."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from .config import WebConfig

logger = logging.getLogger(__name__)


def plainly(status: int, text: str) -> web.Response:
    """A line of text."""
    return web.Response(status=status, text=f"{text}\n")


class Connections:
    """All connections. Where there are too many, the one that has been idle the longest ends.

    `refuse` makes the answer, of a status and a text, to one who does not speak HTTP.
    """

    def __init__(self, most: int, refuse: Callable[[int, str], web.Response] = plainly) -> None:
        self.refuse = refuse
        self._most = most
        self._all: set[Connection] = set()
        self._idle: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, connection: Connection) -> None:
        """A new one, which is idle until it has sent the head of a request."""
        self._all.add(connection)
        self._idle[connection] = None
        if len(self._all) > self._most:
            oldest = next(iter(self._idle))
            logger.info("connection refused num_connections=%d", len(self._all))
            self.leave(oldest)
            oldest.abort()

    def leave(self, connection: Connection) -> None:
        """It is gone."""
        self._all.discard(connection)
        self._idle.pop(connection, None)

    @contextmanager
    def busy(self, connection: Connection) -> Iterator[None]:
        """It has a request that is being answered."""
        self._idle.pop(connection, None)
        try:
            yield
        finally:
            if connection in self._all:
                self._idle[connection] = None


class Connection(web.RequestHandler):
    """One connection, as aiohttp serves it: it closes one that sends no whole head in time."""

    def __init__(self, server: web.Server, connections: Connections, config: WebConfig) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=config.patience,
            lingering_time=min(2.0, config.patience),
            access_log=None,  # type: ignore[arg-type]
            logger=logger,
        )
        self.connections = connections
        self._patience = config.patience
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counts it, and has the system notice a machine that has vanished without a word."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = int(self._patience * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self.connections.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Ends what is being answered to it."""
        self._go_on()
        self.connections.leave(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Who does not read is waited for, but not for ever: it holds a place and memory."""
        super().pause_writing()
        loop = asyncio.get_running_loop()
        self._stalled = loop.call_later(self._patience, self.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._go_on()

    def abort(self) -> None:
        """Hangs up."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is said to one who does not speak HTTP. Everything else is answered by the app."""
        if status >= 500:
            logger.error("connection failed status=%d", status, exc_info=exc)
        else:
            logger.info("no http why=%r", message)
        text = "this is no HTTP request" if status < 500 else "the server failed"
        response = self.connections.refuse(400 if status < 500 else 500, text)
        response.headers["Server"] = "homeswarm"
        response.force_close()
        return response

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


@web.middleware
async def keep_busy(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Has a connection count as busy while a request that came over it is answered."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        return await handler(request)
    with connection.connections.busy(connection):
        return await handler(request)
