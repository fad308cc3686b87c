"""A way in through our own router, for one connection from one place.

A router lets in what answers something from inside. So we connect, from the port at which our
daemon listens, to the place from which the other side will dial; the two connections meet half way
and are one (simultaneous open, RFC 9293, section 3.5). At the dialling end it is its daemon's own.
At our end it is this socket, as the router tells a connection by its sequence numbers and would
not take the daemon's listening socket for the one that has asked; its bytes are passed on to the
daemon, to which this looks like anybody who dials it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

from . import ports
from .multiaddresses import IPAddress, parse_tcp

logger = logging.getLogger(__name__)

_OPEN = 4.0
_REST = 0.1
_CHUNK = 256 * 1024


class Doorway:
    """Ways in to what listens at `ip` and the port that `port` tells."""

    def __init__(self, ip: IPAddress, port: Callable[[], int]) -> None:
        self._ip = ip
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, places: Sequence[str]) -> None:
        """Lets connections from these places in, which are to come within `_OPEN` seconds."""
        for place in places:
            if (end := parse_tcp(place)) and end[0].version == self._ip.version:
                task = asyncio.get_running_loop().create_task(self._let_in(*end))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Ends every connection that came this way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _let_in(self, ip: IPAddress, port: int) -> None:
        try:
            async with asyncio.timeout(_OPEN):
                outside = await self._meet(ip, port)
        except TimeoutError:
            logger.debug("nobody came in from=%s:%d", ip, port)
            return
        try:
            await self._pass(outside)
        except OSError as error:
            logger.debug("way in ended from=%s:%d why=%s", ip, port, error)
        except Exception:
            logger.exception("way in failed from=%s:%d", ip, port)
        finally:
            outside.close()

    async def _meet(self, ip: IPAddress, port: int) -> socket.socket:
        """A connection; a router that says no does so until the other side has dialled."""
        while True:
            meeting = socket.socket(ports.family(ip), socket.SOCK_STREAM)
            try:
                meeting.setblocking(False)
                meeting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if hasattr(socket, "SO_REUSEPORT"):
                    meeting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                meeting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                meeting.bind((str(self._ip), self._port()))
                await asyncio.get_running_loop().sock_connect(meeting, (str(ip), port))
            except OSError as error:
                meeting.close()
                logger.debug("no way in yet from=%s:%d why=%s", ip, port, error)
            except BaseException:
                meeting.close()
                raise
            else:
                return meeting
            await asyncio.sleep(_REST)

    async def _pass(self, outside: socket.socket) -> None:
        loopback = "::1" if self._ip.version == 6 else "127.0.0.1"
        host = loopback if self._ip.is_unspecified else str(self._ip)
        inside = await asyncio.open_connection(host, self._port(), limit=_CHUNK)
        try:
            other = await asyncio.open_connection(sock=outside, limit=_CHUNK)
            try:
                # Either end closes both ways: libp2p has no use for half of a connection.
                pumps = [
                    asyncio.ensure_future(_pump(inside[0], other[1])),
                    asyncio.ensure_future(_pump(other[0], inside[1])),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
            finally:
                other[1].close()
        finally:
            inside[1].close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        sink.write(data)
        await sink.drain()
