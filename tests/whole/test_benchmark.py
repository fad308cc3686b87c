"""A benchmark over a whole swarm, and what it says when the swarm is not left alone."""

from __future__ import annotations

import asyncio

import pytest
import torch

from swarm.client.benchmark.measurement import Measurement
from swarm.client.benchmark.plan import Plan
from swarm.client.benchmark.reference import PlainModel
from swarm.client.benchmark.streams import Stream
from swarm.wire.messages import Step

pytestmark = pytest.mark.simulated_time

PLAN = Plan(prompt_len=20, num_tokens=5, num_rounds=2, sessions=(1, 3))
PROMPT = [1, 17, 250, 33, 4, 99, 180, 7]


def counting(world):
    async def count() -> tuple[int, ...]:
        return world.swarms["client"].traffic

    return count


async def test_everything_of_a_plan_is_measured(world, tiny):
    await world.chain(0, 1, 4)
    model, shares = await world.client(), []
    plain = PlainModel.load(world.checkpoint, torch.float32)
    run = Measurement(model, PLAN, counting(world), lambda what, share: shares.append(share), plain)
    found = await run.run()
    samples = found.samples
    assert len(samples.first_token) == len(samples.prefill) == len(samples.plain_prefill) == 2
    assert len(samples.steps) == len(samples.plain_decode) == 10
    assert {number: len(rates) for number, rates in samples.rates.items()} == {1: 2, 3: 2}
    assert all(step.whole > sum(step.compute) > 0 for step in samples.steps)
    assert [(hop.start, hop.end) for hop in found.route] == [(0, 1), (1, 4)]
    # A step carries 64 floats each way, and a header; heartbeats come on top.
    assert all(256 < each < 600 for each in found.bytes_per_token)
    assert found.recoveries == 0
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] < 1


async def test_a_stream_decodes_what_transformers_does(world, tiny):
    """However often it was rewound: a session in a wrong place would be quick for nothing."""
    await world.chain(0, 2, 4)
    model = await world.client()
    expected = tiny.greedy(PROMPT, 8)
    async with model.session() as session:
        stream = Stream(model, session)
        await stream.prefill(torch.tensor([5, 6, 7]))
        await stream.prefill(torch.tensor(PROMPT))
        for _ in range(2):
            await stream.prefill(torch.tensor(PROMPT))
            assert stream.token.tolist() == expected[:1]
            await stream.rewind()
            assert stream.token.tolist() == expected[1:2]
            await stream.decode(6)
            assert stream.token.tolist() == expected[7:]


async def test_plain_decoding_sends_one_position_a_step(world):
    await world.chain(0, 4)
    model = await world.client()
    watch = world.watch()
    async with model.session() as session:
        stream = Stream(model, session)
        await stream.prefill(torch.tensor(PROMPT))
        await stream.rewind()
        watch.frames.clear()
        await stream.decode(4)
    steps = [frame.message for frame in watch.frames if isinstance(frame.message, Step)]
    assert [span.count for step in steps for span in step.rows] == [1] * 4


async def test_a_peer_that_dies_meanwhile_is_told(world):
    await world.chain(0, 2, 4)
    await world.spare((2, 4))
    model = await world.client()
    killing = []

    def say(what: str, share: float | None) -> None:
        if what == "Round 1 of 2: 3 sessions":
            killing.append(asyncio.create_task(world.kill("peer-1")))

    found = await Measurement(model, PLAN, counting(world), say).run()
    await killing[0]
    assert found.recoveries >= 3
    assert found.route[-1].peer == "spare-2:4"
    assert len(found.samples.steps) == 10
