"""The product's golden rule: tokens through peers are transformers' own tokens."""

from __future__ import annotations

import asyncio

import pytest

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
SPLITS = {1: [(0, 4)], 2: [(0, 2), (2, 4)], 3: [(0, 1), (1, 3), (3, 4)]}


@pytest.mark.parametrize("num_peers", SPLITS)
async def test_greedy_through_peers_is_transformers_own(world, tiny, greedy, num_peers):
    for index, blocks in enumerate(SPLITS[num_peers]):
        await world.peer(f"peer-{index}", blocks)
    model = await world.client()
    assert await greedy(model, PROMPT, 24) == tiny.greedy(PROMPT, 24)


async def test_x1_middle(world, tiny, greedy):
    for index, blocks in enumerate(SPLITS[3]):
        await world.peer(f"peer-{index}", blocks)
    await world.peer("spare", (0, 4))
    model = await world.client()
    task = asyncio.create_task(greedy(model, PROMPT, 24))
    await asyncio.sleep(0.05)
    await world.kill("peer-1")
    assert await task == tiny.greedy(PROMPT, 24)
