"""X13, P20: long prompts in chunks, right and without holding up others."""

from __future__ import annotations

import asyncio

import pytest
import torch

from swarm.client.config import SessionConfig

pytestmark = pytest.mark.simulated_time


@pytest.fixture
async def long_world(make_world, make_tiny):
    """Two peers with one block each, of a model with room for more than 8192 positions."""
    tiny = make_tiny(
        "llama",
        num_hidden_layers=2,
        max_position_embeddings=8448,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    tiny.reference.set_attn_implementation("sdpa")
    world = make_world(tiny)
    await world.chain(0, 1, 2, page_len=64, kv_memory=16 << 20)
    return world


def prompt(count: int) -> list[int]:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(1, 300, (count,), generator=generator).tolist()


async def test_x13_eight_thousand_positions(long_world, asker):
    model = await long_world.client()
    ids = await asker(model).greedy(prompt(8192), 4)
    assert ids == long_world.tiny.greedy(prompt(8192), 4)


async def test_x13_hops_work_on_different_chunks_at_once(long_world, asker):
    """The last hop has begun long before the first one has seen the whole prompt."""
    model = await long_world.client(config=SessionConfig(chunk_len=64))
    watch = long_world.watch()
    await asker(model).greedy(prompt(1024), 1)
    chunks = [
        (frame.sender, frame.message.rows[0].position)
        for frame in watch.frames
        if type(frame.message).__name__ in ("Step", "Output")
    ]
    first_output = next(i for i, (sender, _) in enumerate(chunks) if sender == "peer-1")
    assert chunks.index(("peer-0", 960)) > first_output


async def test_x13_killed_in_a_long_prefill(long_world, asker):
    """What had come out before is refilled in large steps; the rest goes on where it was."""
    await long_world.peer("spare", (1, 2), silent=True, page_len=64, kv_memory=16 << 20)
    model = await long_world.client()
    watch = long_world.watch()
    kills = []

    def look(frame):
        if frame.sender == "peer-1" and type(frame.message).__name__ == "Output" and not kills:
            if frame.message.rows[0].position >= 1024:
                kills.append(asyncio.ensure_future(long_world.kill("peer-1")))
        return False

    watch.drops = look
    ids = await asker(model).greedy(prompt(2000), 4)
    assert ids == long_world.tiny.greedy(prompt(2000), 4)
    await kills[0]
    # The first hop has computed nothing twice.
    assert long_world.peers["peer-0"].hosting._engine.num_positions == 2003


async def test_p20_decode_goes_on_while_a_long_prompt_is_read(long_world, asker):
    model = await long_world.client(config=SessionConfig(chunk_len=4096))
    numbers = []

    async def on_token(number):
        numbers.append(number)
        if number == 2:
            reading.set()

    reading = asyncio.Event()
    decoding = asyncio.create_task(asker(model).greedy(prompt(20), 60, on_token))
    await reading.wait()
    ids = await asker(model).greedy(prompt(4096), 1)
    meanwhile = len(numbers) - 2
    assert ids == long_world.tiny.greedy(prompt(4096), 1)
    assert await decoding == long_world.tiny.greedy(prompt(20), 60)
    # 4096 positions are 8 batches at least: the other session had its turn between them.
    assert meanwhile >= 4
