"""P4, the product's golden rule: tokens through peers are transformers' own tokens."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
import torch

from swarm.client import RowInput

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
SPLITS = [(0, 4), (0, 2, 4), (0, 1, 3, 4), (0, 1, 2, 3, 4)]
ARCHITECTURES = {
    "llama": {},
    "qwen2": {"head_dim": "absent"},
    "qwen3": {},
    "mistral": {"sliding_window": 8},
    "gemma2": {"sliding_window": 8},
    "gemma3_text": {"sliding_window": 8},
    "phi3": {"head_dim": "absent"},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "gpt_neox": {"num_key_value_heads": "absent", "head_dim": "absent"},
}


@pytest.mark.parametrize("borders", SPLITS, ids=lambda borders: f"{len(borders) - 1}-peers")
async def test_p4_greedy_through_peers_is_transformers_own(world, tiny, asker, borders):
    await world.chain(*borders)
    asked = asker(await world.client())
    assert await asked.greedy(PROMPT, 24) == tiny.greedy(PROMPT, 24)
    assert [(hop.start, hop.end) for hop in asked.reply.route] == list(pairwise(borders))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
async def test_p4_architecture(make_world, make_tiny, asker, architecture):
    tiny = make_tiny(architecture, **ARCHITECTURES[architecture])
    world = make_world(tiny)
    await world.chain(0, 1, 3, 4)
    model = await world.client()
    assert await asker(model).greedy(PROMPT, 24) == tiny.greedy(PROMPT, 24)


async def test_p4_batch_of_two(world, tiny):
    prompts = [PROMPT, PROMPT[3:9]]
    await world.chain(0, 2, 4)
    model = await world.client()
    replies = [list(prompt) for prompt in prompts]
    positions = [0, 0]
    async with model.session(num_rows=2) as session:
        for _ in range(24):
            rows = [
                RowInput(row, position, model.head.embed(torch.tensor(ids[position:])))
                for row, (ids, position) in enumerate(zip(replies, positions, strict=True))
            ]
            positions = [len(ids) for ids in replies]
            for ids, hidden in zip(replies, await session.step(rows), strict=True):
                ids.append(int(model.head.logits(hidden)[0].argmax()))
    for prompt, ids in zip(prompts, replies, strict=True):
        assert ids[len(prompt) :] == tiny.greedy(prompt, 24)


async def test_p4_several_calls_in_one_session(world, tiny):
    """A talk: what is new is added to what the session holds already."""
    await world.chain(0, 2, 4)
    model = await world.client()
    ids: list[int] = []
    async with model.session() as session:
        for question in (PROMPT, [9, 8, 7], [200]):
            ids += question
            expected = tiny.greedy(ids, 8)
            answer: list[int] = []
            while len(answer) < 8:
                position = session.lengths[0]
                hidden = model.head.embed(torch.tensor(ids[position:]))
                (last,) = await session.step([RowInput(0, position, hidden)])
                answer.append(int(model.head.logits(last)[0].argmax()))
                ids.append(answer[-1])
            assert answer == expected


async def test_p4_eight_sessions_at_once(world, tiny, asker):
    draw = random.Random(0)
    prompts = [[draw.randrange(300) for _ in range(draw.randint(3, 40))] for _ in range(8)]
    peers = await world.chain(0, 2, 4)
    model = await world.client()
    replies = await asyncio.gather(*(asker(model).greedy(prompt, 24) for prompt in prompts))
    assert replies == [tiny.greedy(prompt, 24) for prompt in prompts]
    # They did run together.
    engine = peers[0].hosting._engine
    assert engine.num_batches < 0.6 * 8 * 24


async def test_p4_two_hops_on_one_peer(world, tiny, asker):
    """A peer may serve two hops of a route, and be its own neighbour."""
    await world.peer("wide", (0, 4))
    await world.peer("middle", (1, 2))
    model = await world.client()
    route = model._access.router.route

    async def detour(fingerprint, num_blocks, kept, *rest):
        from swarm.client.route import Hop

        await route(fingerprint, num_blocks, kept, *rest)
        return Hop("wide", 0, 1), Hop("middle", 1, 2), Hop("wide", 2, 3), Hop("wide", 3, 4)

    model._access.router.route = detour
    assert await asker(model).greedy(PROMPT, 24) == tiny.greedy(PROMPT, 24)
