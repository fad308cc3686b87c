"""The way in through a router, on this machine, which has none: what is met is passed on."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from swarm.transport.doorway import Doorway

LOCALHOST = ipaddress.ip_address("127.0.0.1")


def bound() -> socket.socket:
    """A port that others may share, as p2pd's."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", 0))
    return made


def place(made: socket.socket) -> str:
    return f"/ip4/127.0.0.1/tcp/{made.getsockname()[1]}"


@dataclass
class Inside:
    """What listens at our port: says everything twice, until it is told to end."""

    doorway: Doorway
    port: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    listening = bound()
    port = listening.getsockname()[1]
    doorway = Doorway(LOCALHOST, lambda: port)
    ours = Inside(doorway, port)

    async def say_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(65536)) and data != b"end":
            writer.write(2 * data)
        writer.close()
        ours.ended.set()

    async with asyncio.timeout(60), await asyncio.start_server(say_twice, sock=listening):
        yield ours
        await doorway.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def meet(listening: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    listening.listen()
    listening.setblocking(False)
    met, address = await asyncio.get_running_loop().sock_accept(listening)
    listening.close()
    assert address[0] == "127.0.0.1"
    return await asyncio.open_connection(sock=met)


async def test_what_comes_in_is_passed_on_both_ways(inside: Inside) -> None:
    outside = bound()
    outside.listen()
    inside.doorway.open([place(outside)])
    reader, writer = await meet(outside)
    # It comes from the port at which we listen: a router knows it by that.
    assert writer.get_extra_info("peername") == ("127.0.0.1", inside.port)
    writer.write(bytes(1_000_000))
    assert len(await reader.readexactly(2_000_000)) == 2_000_000
    writer.close()
    await inside.ended.wait()


async def test_the_end_inside_is_the_end_outside(inside: Inside) -> None:
    outside = bound()
    outside.listen()
    inside.doorway.open([place(outside)])
    reader, writer = await meet(outside)
    writer.write(b"end")
    assert await reader.read() == b""
    writer.close()


async def test_a_router_that_says_no_is_asked_again(inside: Inside) -> None:
    """Nobody listens there at first, which is answered as a router would."""
    outside = bound()
    inside.doorway.open([place(outside)])
    await asyncio.sleep(0.05)
    reader, writer = await meet(outside)
    writer.write(b"x")
    assert await reader.readexactly(2) == b"xx"
    writer.close()
    await inside.ended.wait()


async def test_nobody_comes(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.transport.doorway._OPEN", 0.2)
    with bound() as outside:
        inside.doorway.open([place(outside)])
        while inside.doorway._tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_only_places_of_tcp_and_our_kind_are_met(inside: Inside) -> None:
    inside.doorway.open(["/ip6/::1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/x/tcp/1", ""])
    assert not inside.doorway._tasks


async def test_closing_ends_what_came_in(inside: Inside) -> None:
    outside = bound()
    outside.listen()
    inside.doorway.open([place(outside)])
    reader, writer = await meet(outside)
    writer.write(b"x")
    await reader.readexactly(2)
    await inside.doorway.aclose()
    assert await reader.read() == b""
    writer.close()
    await inside.ended.wait()
