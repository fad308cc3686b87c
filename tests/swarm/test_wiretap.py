"""Whoever sits on the line between two members, over real libp2p: a proxy that sees every byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from swarm import identity
from swarm.background import background
from swarm.errors import PeerError
from swarm.membership.founder import Founder
from swarm.transport import Buffer, Stream
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
from swarm.transport.link import Link, accept, connect
from swarm.wire.messages import AnyMessage, Close

PROTOCOL = "/homeswarm/test/1"
SECRET = b"the prompt that nobody is to read " * 40
MESSAGE = Close("s" * 16)


class Wiretap:
    """Passes a connection on to `port`; keeps what passes, and alters it when told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server
        self.outgoing = bytearray()
        self.incoming = bytearray()
        self.alters = False

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._port)
        with suppress(OSError):
            pumps = [
                asyncio.ensure_future(self._pump(reader, there[1], self.outgoing)),
                asyncio.ensure_future(self._pump(there[0], writer, self.incoming)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        writer.close()
        there[1].close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, seen: bytearray
    ) -> None:
        while data := await source.read(65536):
            seen += data
            if self.alters:
                # The first byte, as what comes before an altered one still is as it was sent.
                data = bytes([data[0] ^ 1]) + data[1:]
            sink.write(data)
            await sink.drain()

    async def aclose(self) -> None:
        self._server.close()


class Line:
    """Two members, and the wiretap between them."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        key, authority = identity.create(folder / "group"), identity.create(folder / "authority")
        self.founder = Founder(key, authority)
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.num_links = 0

    async def open(self, tasks: asyncio.TaskGroup) -> None:
        config = Libp2pConfig(host="127.0.0.1")
        self.near = await self._stack.enter_async_context(Libp2pTransport.start(config))
        self.far = await self._stack.enter_async_context(Libp2pTransport.start(config))
        self.tap = Wiretap(self.far.port)
        port = await self.tap.start()
        self._stack.push_async_callback(self.tap.aclose)
        self.address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{self.far.peer_id}"
        await self.far.serve(PROTOCOL, self._serve)
        membership = self.founder.admit(self.near.signer)
        self.link = await connect(
            await self.near.open(self.far.peer_id, PROTOCOL, (self.address,)), membership
        )
        self.running = tasks.create_task(self._run(self.link))

    async def _run(self, link: Link) -> PeerError | None:
        async def ignore(link: Link, message: AnyMessage, payload: Buffer) -> None: ...

        try:
            await link.run(ignore)
        except PeerError as error:
            return error
        return None

    async def _serve(self, stream: Stream) -> None:
        link = await accept(stream, self.founder.admit(self.far.signer))
        self.num_links += 1

        async def keep(link: Link, message: AnyMessage, payload: Buffer) -> None:
            self.received.put_nowait(bytes(payload))

        await link.run(keep)


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with asyncio.timeout(60), AsyncExitStack() as stack, background() as tasks:
        line = Line(stack, tmp_path)
        await line.open(tasks)
        yield line
        await line.link.aclose()


async def test_the_network_reads_nothing(line: Line) -> None:
    line.link.post(MESSAGE, SECRET)
    assert await line.received.get() == SECRET
    assert len(line.tap.outgoing) > len(SECRET), "the wiretap sees the connection"
    for seen in (bytes(line.tap.outgoing), bytes(line.tap.incoming)):
        assert SECRET[:34] not in seen
        assert line.founder.group.key.encode() not in seen


async def test_the_network_alters_nothing(line: Line) -> None:
    line.link.post(MESSAGE, SECRET)
    assert await line.received.get() == SECRET
    line.tap.alters = True
    line.link.post(MESSAGE, b"more")
    assert isinstance(await line.running, PeerError)
    assert line.received.empty()


async def test_what_was_recorded_opens_nothing(line: Line) -> None:
    """All that a member has sent on a connection, sent again on another one."""
    line.link.post(MESSAGE, SECRET)
    await line.received.get()
    recorded = bytes(line.tap.outgoing)
    reader, writer = await asyncio.open_connection("127.0.0.1", line.far.port)
    writer.write(recorded)
    answer = b""
    with suppress(OSError):
        # The handshake's first message is answered with fresh keys; what follows fits none of them.
        while piece := await reader.read(65536):
            answer += piece
    writer.close()
    assert SECRET[:34] not in answer
    assert line.num_links == 1 and line.received.empty()
    line.link.post(MESSAGE, b"the member goes on")
    assert await line.received.get() == b"the member goes on"
