"""P1, X12: a gap opens, and a peer whose place is free moves to close it."""

from __future__ import annotations

import asyncio

import pytest
import torch

from swarm.client.config import SessionConfig
from swarm.peer.blocks import block_bytes

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]


@pytest.fixture
def two_blocks(world):
    """Memory for two blocks and a half, in bytes."""
    return int(2.5 * block_bytes(world.checkpoint.config, torch.float32))


async def test_p1_a_peer_moves_to_close_a_gap(world, asker, two_blocks):
    await world.peer("fixed-a", (0, 2))
    await world.peer("fixed-b", (2, 3))
    await world.peer("fixed-c", (3, 4))
    free = await world.peer("free", None, memory=two_blocks)
    assert free.span == (0, 2)
    model = await world.client(config=SessionConfig(route_patience=60))
    assert await asker(model).greedy(PROMPT, 8) == world.tiny.greedy(PROMPT, 8)
    await world.kill("fixed-c")
    started = asyncio.get_running_loop().time()
    # The dead one's announcement has to expire before anybody knows of the gap.
    assert await asker(model).greedy(PROMPT, 8) == world.tiny.greedy(PROMPT, 8)
    assert asyncio.get_running_loop().time() - started < 45
    assert free.span == (2, 4)
    found = await world.directories["client"].find()
    assert {(entry.peer, entry.start, entry.end, str(entry.state)) for entry in found} == {
        ("fixed-a", 0, 2, "serving"),
        ("fixed-b", 2, 3, "serving"),
        ("free", 2, 4, "serving"),
    }


async def test_p1_only_one_moves_and_the_reply_goes_on(world, asker, two_blocks):
    """Two peers could close the gap; one does. A session that runs through it is not lost."""
    await world.peer("fixed-a", (0, 2))
    await world.peer("fixed-b", (2, 4))
    free = [await world.peer(f"free-{i}", None, memory=two_blocks) for i in range(3)]
    assert sorted(peer.span for peer in free) == [(0, 2), (0, 2), (2, 4)]
    model = await world.client(config=SessionConfig(route_patience=60))

    async def on_token(number):
        if number == 4:
            await world.kill("fixed-b")
            await world.kill("free-1")
        await asyncio.sleep(1)

    assert free[1].span == (2, 4)
    ids = await asker(model).greedy(PROMPT, 60, on_token)
    assert ids == world.tiny.greedy(PROMPT, 60)
    assert sorted(peer.span for name, peer in world.peers.items()) == [(0, 2), (0, 2), (2, 4)]


async def test_newcomers_take_what_is_served_worst(world, two_blocks):
    spans = [(await world.peer(f"free-{i}", None, memory=two_blocks)).span for i in range(4)]
    assert spans == [(0, 2), (2, 4), (0, 2), (2, 4)]
    await asyncio.sleep(60)
    assert [peer.span for peer in world.peers.values()] == spans


async def test_a_session_survives_that_its_peer_moves(world, asker, two_blocks):
    first, second = [await world.peer(f"free-{i}", None, memory=two_blocks) for i in range(2)]
    await world.peer("other", (0, 2))
    model = await world.client()

    async def on_token(number):
        if number == 5:
            await first.move((2, 4))
            await second.move((0, 2))

    ids = await asker(model).greedy(PROMPT, 12, on_token)
    assert ids == world.tiny.greedy(PROMPT, 12)
