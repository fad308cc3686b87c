"""What both transports promise: the tests run over libp2p and over its twin."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from swarm.errors import Misbehaved, Unreachable
from swarm.transport import Stream, Transport
from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
from swarm.transport.memory import Network

HANGING = 60.0
"""Seconds: what takes longer hangs, however busy the machine is."""

Pair = tuple[Transport, Transport]


@pytest.fixture(params=["memory", "libp2p"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            network = Network()
            pair: Pair = (network.transport("a"), network.transport("b"))
        else:
            config = Libp2pConfig(host="127.0.0.1")
            pair = (await Libp2pTransport.create(config), await Libp2pTransport.create(config))
        for transport in pair:
            stack.push_async_callback(transport.aclose)
        async with asyncio.timeout(HANGING):
            yield pair


async def echo(stream: Stream) -> None:
    stream.admit()
    while True:
        await stream.send(*await stream.receive())


async def opened(pair: Pair) -> Stream:
    near, far = pair
    stream = await near.open(far.peer_id, "/homeswarm/test", far.addresses)
    stream.admit()
    return stream


async def test_ids_and_addresses_differ(pair: Pair) -> None:
    near, far = pair
    assert near.peer_id != far.peer_id
    assert all(address.endswith(near.peer_id) for address in near.addresses)
    assert not set(near.addresses) & set(far.addresses)


async def test_a_member_can_open_a_stream_to_itself(pair: Pair) -> None:
    """Two hops of one route may stand on one peer."""
    near, _ = pair
    await near.serve("/homeswarm/test", echo)
    stream = await near.open(near.peer_id, "/homeswarm/test", near.addresses)
    stream.admit()
    assert stream.peer == near.peer_id
    for size in (0, 1200, 8_000_000):
        await asyncio.wait_for(send_and_check(stream, b"header", bytes(size)), HANGING)
    await stream.aclose()
    with pytest.raises(Unreachable):
        await near.open(near.peer_id, "/homeswarm/other", near.addresses)


async def test_open_streams_are_counted_on_both_sides(pair: Pair) -> None:
    near, far = pair
    await far.serve("/homeswarm/test", echo)
    streams = [await opened(pair), await opened(pair)]
    for stream in streams:
        await send_and_check(stream, b"header", b"x")
    assert near.num_streams == far.num_streams == 2
    await streams[0].aclose()
    assert near.num_streams == 1
    while far.num_streams != 1:  # It learns of it by reading.
        await send_and_check(streams[1], b"header", b"x")


@pytest.mark.parametrize("size", [0, 1, 1200, 65_536, 65_537, 8_000_000])
async def test_frames_of_any_size_go_both_ways(pair: Pair, size: int) -> None:
    await pair[1].serve("/homeswarm/test", echo)
    stream = await opened(pair)
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    for kind in (bytes, bytearray, memoryview):
        await asyncio.wait_for(send_and_check(stream, b"header", kind(payload)), HANGING)


async def send_and_check(stream: Stream, header: bytes, payload: bytes | bytearray) -> None:
    sent = bytes(payload)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stream.send(header, payload))
        received = tasks.create_task(stream.receive())
    assert (bytes(received.result()[0]), bytes(received.result()[1])) == (header, sent)


async def test_each_side_knows_the_other(pair: Pair) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def handler(stream: Stream) -> None:
        seen.put_nowait(stream.peer)

    near, far = pair
    await far.serve("/homeswarm/test", handler)
    stream = await opened(pair)
    assert stream.peer == far.peer_id
    assert await seen.get() == near.peer_id


async def test_concurrent_senders_do_not_interleave(pair: Pair) -> None:
    got: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()

    async def handler(stream: Stream) -> None:
        stream.admit()
        while True:
            header, payload = await stream.receive()
            got.put_nowait((bytes(header), bytes(payload)))

    await pair[1].serve("/homeswarm/test", handler)
    stream = await opened(pair)
    sizes = [10, 300_000, 70_000, 0, 5]

    async def sender(number: int) -> None:
        for step in range(10):
            await stream.send(b"%d/%d" % (number, step), bytes([number]) * sizes[step % 5])

    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(sender(number))
    frames = [await got.get() for _ in range(50)]
    for number in range(5):
        own = [frame for frame in frames if frame[0].startswith(b"%d/" % number)]
        assert [header for header, _ in own] == [b"%d/%d" % (number, step) for step in range(10)]
        assert all(p == bytes([number]) * sizes[step % 5] for step, (_, p) in enumerate(own))


async def test_a_stranger_may_not_send_payloads(pair: Pair) -> None:
    refused = asyncio.Event()

    async def handler(stream: Stream) -> None:
        assert bytes((await stream.receive())[0]) == b"hello"
        try:
            await stream.receive()
        except Misbehaved:
            refused.set()
            raise

    await pair[1].serve("/homeswarm/test", handler)
    stream = await opened(pair)
    await stream.send(b"hello", b"")
    await stream.send(b"hello", b"x")
    await refused.wait()
    with pytest.raises(Unreachable):
        await stream.receive()


async def test_many_streams_at_once(pair: Pair) -> None:
    await pair[1].serve("/homeswarm/test", echo)
    streams = [await opened(pair) for _ in range(8)]
    for number, stream in enumerate(streams):
        await stream.send(b"%d" % number, b"")
    assert [bytes((await stream.receive())[0]) for stream in streams] == [
        b"%d" % number for number in range(8)
    ]


async def test_offer_sends_what_needs_no_waiting(pair: Pair) -> None:
    await pair[1].serve("/homeswarm/test", echo)
    stream = await opened(pair)
    assert stream.offer(b"h", b"small")
    assert tuple(map(bytes, await stream.receive())) == (b"h", b"small")
    await stream.aclose()
    with pytest.raises(Unreachable):
        stream.offer(b"h", b"small")


async def test_what_was_sent_before_closing_arrives(pair: Pair) -> None:
    async def handler(stream: Stream) -> None:
        await stream.send(b"last words", bytes(100_000))

    await pair[1].serve("/homeswarm/test", handler)
    stream = await opened(pair)
    header, payload = await stream.receive()
    assert (bytes(header), len(payload)) == (b"last words", 100_000)
    with pytest.raises(Unreachable):
        await stream.receive()


async def test_an_unknown_protocol_is_refused(pair: Pair) -> None:
    with pytest.raises(Unreachable) as caught:
        await opened(pair)
    assert caught.value.peer == pair[1].peer_id


async def test_a_closed_stream_raises_on_both_sides(pair: Pair) -> None:
    ended = asyncio.Event()

    async def handler(stream: Stream) -> None:
        try:
            await stream.receive()
        except Unreachable:
            ended.set()
            raise

    await pair[1].serve("/homeswarm/test", handler)
    stream = await opened(pair)
    await stream.aclose()
    await stream.aclose()
    await ended.wait()
    with pytest.raises(Unreachable):
        await stream.send(b"", b"")
    with pytest.raises(Unreachable):
        await stream.receive()


async def test_a_failing_handler_is_logged_and_closes_its_stream(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(stream: Stream) -> None:
        raise ZeroDivisionError

    await pair[1].serve("/homeswarm/test", handler)
    with caplog.at_level(logging.ERROR):
        with pytest.raises(Unreachable):
            await (await opened(pair)).receive()
    assert "stream handler failed" in caplog.text
    caplog.clear()
    with pytest.raises(Unreachable):
        await (await opened(pair)).receive()
    caplog.clear()


async def test_leaving_ends_streams_and_handlers(pair: Pair) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(stream: Stream) -> None:
        started.set()
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    near, far = pair
    await far.serve("/homeswarm/test", handler)
    stream = await opened(pair)
    await started.wait()
    await far.aclose()
    await far.aclose()
    assert cancelled.is_set()
    with pytest.raises(Unreachable):
        await stream.receive()
    with pytest.raises(Unreachable):
        await opened(pair)
    with pytest.raises(Unreachable):
        await far.open(near.peer_id, "/homeswarm/test", near.addresses)
