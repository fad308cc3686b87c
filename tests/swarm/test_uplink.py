"""What a machine sends stays below its owner's limit, and nobody is taken for dead by that."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from swarm.background import background
from swarm.errors import Unreachable
from swarm.transport.libp2p_stream import Libp2pStream
from swarm.transport.uplink import Lane, Uplink
from swarm.wire.frames import FrameLimits

RATE = 100_000.0


@pytest.mark.simulated_time
@pytest.mark.parametrize("seed", range(25))
async def test_never_more_than_the_rate_and_a_burst(seed):
    """Whatever is sent by whom; urgent frames alone go into debt."""
    draw = random.Random(seed)
    uplink, clock = Uplink(RATE), asyncio.get_running_loop().time
    begin, urgent = clock(), 0.0

    async def send(of, size, delay):
        nonlocal urgent
        await asyncio.sleep(delay)
        if of is Lane.URGENT:
            assert uplink.admits(min(size, 512))
            urgent += 700
            return
        for start in range(0, size, uplink.piece_len):
            await uplink.take(min(uplink.piece_len, size - start), of)
            # One piece may be begun with nothing left.
            most = (clock() - begin) * RATE + RATE * 0.05 + 1.06 * uplink.piece_len + urgent
            assert uplink.sent_bytes <= most + 1e-3

    async with asyncio.TaskGroup() as tasks:
        for _ in range(draw.randint(1, 25)):
            frame = draw.choice(list(Lane)), draw.randint(1, 60_000), draw.uniform(0, 2)
            tasks.create_task(send(*frame))


@pytest.mark.simulated_time
async def test_heartbeats_and_steps_pass_what_is_long():
    uplink, clock = Uplink(RATE), asyncio.get_running_loop().time
    done = {}

    async def send(name, of, size):
        for start in range(0, size, uplink.piece_len):
            await uplink.take(min(uplink.piece_len, size - start), of)
        done[name] = clock()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send("one", Lane.BULK, 200_000))
        tasks.create_task(send("other", Lane.BULK, 200_000))
        await asyncio.sleep(1.0)
        assert uplink.admits(80), "a heartbeat never waits"
        asked = clock()
        await send("token", Lane.BRIEF, 8_000)
        assert clock() - asked < 0.25
    # Both were served in turn: neither waited for the other's end.
    assert abs(done["one"] - done["other"]) < 0.1
    assert done["one"] == pytest.approx(400_000 * 1.06 / RATE, rel=0.1)


@pytest.mark.simulated_time
async def test_a_flood_of_small_frames_waits_its_turn():
    """As when a member has us answer its pings."""
    uplink, clock = Uplink(RATE), asyncio.get_running_loop().time
    assert 10 < sum(uplink.admits(20) for _ in range(10_000)) < 1_000

    async def flood():
        while True:
            if not uplink.admits(20):
                await uplink.take(20, Lane.BRIEF)

    async with background() as tasks:
        tasks.create_task(flood())
        begin = clock()
        for _ in range(10):
            await uplink.take(uplink.piece_len, Lane.BRIEF)
        assert clock() - begin < 2.0
        await asyncio.sleep(60.0)
        begin = clock()
        await uplink.take(uplink.piece_len, Lane.BRIEF)
        assert clock() - begin < 1.0, "what was sent before is paid for soon"


@pytest.mark.simulated_time
async def test_what_is_long_is_not_starved_by_steps():
    uplink = Uplink(RATE)

    async def steps():
        while True:
            await uplink.take(uplink.piece_len, Lane.BRIEF)

    async with background() as tasks:
        for _ in range(4):
            tasks.create_task(steps())
        async with asyncio.timeout(10.0):
            for _ in range(40):
                await uplink.take(uplink.piece_len, Lane.BULK)


@pytest.mark.simulated_time
async def test_whoever_gives_up_waiting_is_in_nobodys_way():
    uplink = Uplink(RATE)
    for _ in range(8):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                while True:
                    await uplink.take(uplink.piece_len, Lane.BULK)
    async with asyncio.timeout(1.0):
        await uplink.take(100, Lane.BRIEF)


async def pipe(uplink):
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    stream = Libp2pStream("peer", reader, writer, FrameLimits(), lambda: None, uplink)
    return stream, await asyncio.open_connection(sock=far)


async def test_a_stream_sends_what_it_may_and_loses_nothing():
    """Bytes are counted where they come out of a socket."""
    rate = 400_000.0
    uplink, clock = Uplink(rate), asyncio.get_running_loop().time
    streams = [await pipe(uplink) for _ in range(3)]
    payload, arrived, begin = bytes(range(256)) * 300, 0, clock()

    async def count(reader):
        nonlocal arrived
        got = b""
        while data := await reader.read(1 << 16):
            got += data
            arrived += len(data)
            assert arrived <= (clock() - begin) * rate + rate * 0.05 + 3 * uplink.piece_len
        return got

    async with asyncio.TaskGroup() as tasks:
        counting = [tasks.create_task(count(reader)) for _, (reader, _) in streams]
        async with asyncio.TaskGroup() as senders:
            for stream, _ in streams:
                senders.create_task(stream.send(b"head", payload))
                senders.create_task(stream.send(b"tail", b"x" * 2000))
        for stream, _ in streams:
            assert stream.offer(b"beat", b"")
            await stream.aclose()
    taken = clock() - begin
    assert taken >= 0.8 * 3 * len(payload) / rate
    for task in counting:
        assert b"head" + payload in task.result() and b"tail" + b"x" * 2000 in task.result()
    for _, (_, writer) in streams:
        writer.close()


async def test_a_frame_cut_short_ends_its_stream():
    stream, (_, writer) = await pipe(Uplink(50_000.0))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await stream.send(b"head", bytes(200_000))
    with pytest.raises(Unreachable):
        await stream.send(b"head", b"")
    await stream.aclose()
    writer.close()
