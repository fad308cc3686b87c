from __future__ import annotations

import asyncio

import pytest

from swarm.errors import Unreachable
from swarm.transport import Stream
from swarm.transport.memory import Condition, Network

FRAMES = [(b"h%d" % number, b"payload %d" % number) for number in range(50)]


async def connected(network: Network) -> tuple[Stream, Stream]:
    """A stream's end at "a" and its end at "b"."""
    a, b = network.transport("a"), network.transport("b")
    accepted: asyncio.Queue[Stream] = asyncio.Queue()
    ended = asyncio.Event()

    async def handler(stream: Stream) -> None:
        accepted.put_nowait(stream)
        await ended.wait()

    await b.serve("/test", handler)
    near = await a.open("b", "/test")
    far = await accepted.get()
    near.admit()
    far.admit()
    return near, far


async def closed(network: Network) -> None:
    for peer in ("a", "b"):
        await network.kill(peer)


async def test_jitter_delays_and_keeps_the_order() -> None:
    network = Network(seed=1)
    network.default = Condition(delay=0.001, jitter=0.005)
    near, far = await connected(network)
    clock = asyncio.get_running_loop().time
    started = clock()
    for frame in FRAMES:
        await near.send(*frame)
    assert [await far.receive() for _ in FRAMES] == FRAMES
    assert clock() - started >= 0.001
    await closed(network)


async def test_loss_drops_some_and_the_seed_decides_which() -> None:
    got = []
    for _ in range(2):
        network = Network(seed=3)
        network.between("a", "b", Condition(loss=0.5))
        near, far = await connected(network)
        for frame in FRAMES:
            await near.send(*frame)
        await near.aclose()
        arrived = []
        with pytest.raises(Unreachable):
            while True:
                arrived.append(await far.receive())
        got.append(arrived)
        await closed(network)
    assert got[0] == got[1]
    assert 0 < len(got[0]) < len(FRAMES)
    assert got[0] == [frame for frame in FRAMES if frame in got[0]]


async def test_duplicates_follow_their_original() -> None:
    network = Network()
    network.default = Condition(duplicate=1.0)
    near, far = await connected(network)
    for frame in FRAMES[:3]:
        await near.send(*frame)
    assert [await far.receive() for _ in range(6)] == [f for f in FRAMES[:3] for _ in range(2)]
    await closed(network)


async def test_rate_makes_large_frames_slow() -> None:
    network = Network()
    near, far = await connected(network)
    network.between("a", "b", Condition(rate=1_000_000))
    clock = asyncio.get_running_loop().time
    started = clock()
    await near.send(b"", bytes(20_000))
    await far.receive()
    assert clock() - started >= 0.02
    await closed(network)


async def test_a_chosen_frame_is_dropped() -> None:
    network = Network()
    near, far = await connected(network)
    network.drop = lambda sender, receiver, header, payload: header == b"h1"
    for frame in FRAMES[:3]:
        await near.send(*frame)
    assert [await far.receive() for _ in range(2)] == [FRAMES[0], FRAMES[2]]
    await closed(network)


async def test_a_frozen_member_hears_nothing_until_it_thaws() -> None:
    network = Network()
    near, far = await connected(network)
    network.freeze("b")
    await near.send(*FRAMES[0])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await far.receive()
    network.thaw("b")
    assert await far.receive() == FRAMES[0]
    await closed(network)


async def test_a_killed_member_breaks_its_streams_and_frees_its_id() -> None:
    network = Network()
    near, _ = await connected(network)
    await network.kill("b")
    with pytest.raises(Unreachable):
        await near.receive()
    with pytest.raises(Unreachable):
        await near.send(b"", b"")
    assert network.transport("b").peer_id == "b"
    await closed(network)


async def test_disconnect_leaves_both_members_alive() -> None:
    network = Network()
    near, far = await connected(network)
    network.disconnect("a", "b")
    for stream in (near, far):
        with pytest.raises(Unreachable):
            await stream.receive()
    a = network.member("a")
    assert a is not None
    await (await a.open("b", "/test")).aclose()
    await closed(network)


async def test_an_id_belongs_to_one() -> None:
    network = Network()
    network.transport("a")
    with pytest.raises(ValueError, match="taken"):
        network.transport("a")
