"""A gateway from its sockets to its end: limits on connections, TLS, stopping."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from swarm.errors import ConfigError
from swarm.gateway.app import create_app, no_request
from swarm.gateway.config import GatewayConfig
from swarm.gateway.endpoint import Call, Endpoint
from swarm.gateway.keys import Keys, given
from swarm.gateway.openai.dialect import OPENAI
from swarm.gateway.service import serve
from swarm.web.connection import Connections
from swarm.web.door import Door, listening

HANGING = 60.0
"""Seconds: what takes longer hangs, however busy the machine is."""

KEY = "a-key-of-twenty-and-more"


@dataclass
class Kitchen:
    """Answers at once, never, or without an end; knows who has gone."""

    began: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def quick(self, call: Call) -> web.Response:
        return web.Response(text="done")

    async def never(self, call: Call) -> web.Response:
        self.began.set()
        try:
            await asyncio.Future()
        finally:
            self.gone.set()
        raise AssertionError

    async def endless(self, call: Call) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(call.request)
        self.began.set()
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            self.gone.set()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(
            Endpoint("GET", f"/{handler.__name__}", "", OPENAI, handler)
            for handler in (self.quick, self.never, self.endless)
        )


@dataclass
class Place:
    """Where a kitchen answers."""

    kitchen: Kitchen
    connections: Connections
    port: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def ask(self, text: bytes) -> asyncio.StreamReader:
        """Sends this over a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(text)
        return reader

    async def leave(self) -> None:
        """Hangs up all of them."""
        for writer in self.writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def kitchen(scripted: Any, **options: Any) -> AsyncIterator[Place]:
    config = GatewayConfig(port=0, **options)
    place = Kitchen()
    connections = Connections(config.most_connections, no_request)
    app = create_app(place.endpoints, scripted, config)
    with Door.opened(config, Keys()) as door:
        async with listening(app, door, connections):
            running = Place(place, connections, door.sockets[0].getsockname()[1])
            try:
                yield running
            finally:
                await running.leave()


QUICK = b"GET /quick HTTP/1.1\r\nHost: localhost\r\n\r\n"
NEVER = QUICK.replace(b"quick", b"never")
ENDLESS = QUICK.replace(b"quick", b"endless")


@pytest.mark.parametrize("text", [NEVER, ENDLESS])
async def test_who_hangs_up_is_no_longer_answered(scripted: Any, text: bytes) -> None:
    async with kitchen(scripted) as place:
        await place.ask(text)
        await place.kitchen.began.wait()
        await place.leave()
        async with asyncio.timeout(HANGING):
            await place.kitchen.gone.wait()
        assert len(place.connections) == 0


async def test_who_reads_nothing_is_hung_up_on(scripted: Any) -> None:
    async with kitchen(scripted, patience=0.3) as place:
        await place.ask(ENDLESS)
        place.writers[0].transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(HANGING):
            await place.kitchen.gone.wait()


@pytest.mark.parametrize("beginning", [b"", b"GET", b"GET /quick HTTP/1.1\r\nHost:"])
async def test_who_sends_no_whole_head_is_hung_up_on(scripted: Any, beginning: bytes) -> None:
    async with kitchen(scripted, patience=0.2) as place:
        reader = await place.ask(beginning)
        async with asyncio.timeout(HANGING):
            assert await reader.read() == b""


async def test_who_is_answered_slowly_is_not(scripted: Any) -> None:
    async with kitchen(scripted, patience=0.1) as place:
        reader = await place.ask(NEVER)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await reader.read()


async def test_of_too_many_connections_the_oldest_idle_one_ends(scripted: Any) -> None:
    async with kitchen(scripted, most_connections=3) as place:
        await place.ask(NEVER)
        await place.kitchen.began.wait()
        idle = [await place.ask(b"") for _ in range(2)]
        newest = await place.ask(QUICK)
        assert b" 200 " in await newest.readline()
        with suppress(ConnectionError):
            assert await idle[0].read() == b""
        assert len(place.connections) == 3
        assert not place.kitchen.gone.is_set()


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET /quick HTTP/9.9\r\n\r\n",
        b"GET /quick HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /quick HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET /quick HTTP/1.1\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_in_json(scripted: Any, text: bytes) -> None:
    async with kitchen(scripted) as place:
        reader = await place.ask(text)
        answer = await reader.read()
        assert b" 400 " in answer.splitlines()[0]
        assert b'"error"' in answer and b"aiohttp" not in answer


async def test_a_request_that_names_no_host_is_refused(scripted: Any) -> None:
    async with kitchen(scripted) as place:
        reader = await place.ask(b"GET /quick HTTP/1.0\r\n\r\n")
        assert b" 403 " in await reader.readline()


async def test_a_port_is_another_programs(scripted: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = GatewayConfig(port=other.getsockname()[1])
        with pytest.raises(ConfigError, match="choose another --port"):
            with Door.opened(config, Keys()):
                raise AssertionError


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_is_not_ours(host: str) -> None:
    config = GatewayConfig(host=host, port=0)
    with pytest.raises(ConfigError, match=r"no address of this machine|no such address"):
        with Door.opened(config, Keys(given([KEY]))):
            raise AssertionError


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_others_than_this_machine_need_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="needs a key"):
        with Door.opened(GatewayConfig(host=host, port=0), Keys()):
            raise AssertionError


def test_all_addresses_of_a_name_have_one_port() -> None:
    with Door.opened(GatewayConfig(host="localhost", port=0), Keys()) as door:
        assert len({sock.getsockname()[1] for sock in door.sockets}) == 1
        assert door.url.startswith("http://127.0.0.1:") or door.url.startswith("http://[::1]:")


async def test_a_gateway_from_python() -> None:
    async with serve({}, GatewayConfig(port=0)) as gateway, aiohttp.ClientSession() as client:
        async with client.get(f"{gateway.url}/v1/models") as answer:
            assert answer.status == 200 and (await answer.json())["data"] == []
        async with client.get(f"{gateway.url}/openapi.json") as answer:
            assert "/v1/chat/completions" in (await answer.json())["paths"]
        url = gateway.url
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))


async def test_tls(scripted: Any, certificate: tuple[Path, Path]) -> None:
    config = GatewayConfig(port=0, certificate=certificate[0], private_key=certificate[1])
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    async with serve({}, config) as gateway:
        assert gateway.url.startswith("https://")
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{gateway.url}/health", ssl=trusting) as answer:
                assert answer.status == 200


async def test_who_connects_and_never_speaks_tls_is_hung_up_on(
    certificate: tuple[Path, Path],
) -> None:
    config = GatewayConfig(
        port=0, certificate=certificate[0], private_key=certificate[1], patience=0.05
    )
    async with serve({}, config) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(HANGING):
            assert await reader.read() == b""
        writer.close()
