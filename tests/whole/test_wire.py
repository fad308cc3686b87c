"""What crosses the network for a token, how long that takes, and what int8 does to the numbers."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
import torch

from swarm.client import RemoteModel, RowInput
from swarm.client.config import SessionConfig
from swarm.transport.memory import Condition
from swarm.wire.linking import Ping, Pong
from swarm.wire.messages import DType, Open, Output, Step

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
LONG = [(7 * i) % 299 + 1 for i in range(40)]
NUM_TOKENS = 16
DELAY = 0.025
SPLITS = [(0, 4), (0, 2, 4), (0, 1, 3, 4), (0, 1, 2, 3, 4)]


def in_int8(model: RemoteModel) -> RemoteModel:
    """The same model over int8."""
    return RemoteModel(model.checkpoint, model.head, model._access, wire="int8")


async def a_token(model, session) -> float:
    """Seconds that a decode step takes."""
    clock = asyncio.get_running_loop().time
    started = clock()
    hidden = model.head.embed(torch.tensor([7]))
    await session.step([RowInput(0, session.lengths[0], hidden)])
    return clock() - started


@pytest.mark.parametrize("borders", SPLITS, ids=lambda borders: f"{len(borders) - 1}-hops")
async def test_a_token_takes_one_trip_more_than_there_are_hops(world, borders):
    """Computing takes no time here: what remains is the network's."""
    world.network.default = Condition(delay=DELAY)
    await world.chain(*borders, brief=60.0)
    model = await world.client()
    num_hops = len(borders) - 1
    async with model.session() as session:
        hidden = model.head.embed(torch.tensor(PROMPT))
        await session.step([RowInput(0, 0, hidden)])
        await a_token(model, session)  # From now on it is known how brief a step is.
        for _ in range(8):
            seconds = await a_token(model, session)
            assert seconds == pytest.approx((num_hops + 1) * DELAY)
        if num_hops == 2:
            assert seconds <= 1.5 * (2 * DELAY) + 1e-9


async def test_nothing_else_crosses_the_network_for_a_token(world):
    await world.chain(0, 1, 3, 4, brief=60.0)
    model = await world.client()
    async with model.session() as session:
        hidden = model.head.embed(torch.tensor(PROMPT))
        await session.step([RowInput(0, 0, hidden)])
        watch = world.watch()
        for _ in range(NUM_TOKENS):
            await a_token(model, session)
        # Heartbeats go by the clock, and nobody waits for them.
        sent = [f for f in watch.frames if not isinstance(f.message, Ping | Pong)]
    places = ["client", "peer-0", "peer-1", "peer-2", "client"]
    edges = dict.fromkeys(pairwise(places), NUM_TOKENS)
    assert Counter((frame.sender, frame.receiver) for frame in sent) == edges
    kinds = Counter(type(frame.message) for frame in sent)
    assert kinds == {Step: 3 * NUM_TOKENS, Output: NUM_TOKENS}


@pytest.mark.parametrize("borders", SPLITS, ids=lambda borders: f"{len(borders) - 1}-hops")
async def test_logits_over_int8_are_close(world, tiny, asker, borders):
    await world.chain(*borders)
    model = in_int8(await world.client())
    watch = world.watch()
    async with model.session() as session:
        got = (await asker(model).logits(session, LONG, 0)).log_softmax(-1)
    assert {f.message.dtype for f in watch.frames if isinstance(f.message, Open)} == {DType.INT8}
    expected = tiny.logits(LONG).log_softmax(-1)
    apart = (expected.exp() * (expected - got)).sum(-1)
    # Weights at random are no worse than a trained model's, of which docs/wire.md has numbers.
    assert 0 < apart.mean() < 2e-3 and apart.max() < 1e-2


@pytest.mark.parametrize("victim", ["peer-0", "peer-1", "peer-2"])
@pytest.mark.parametrize("count", [1, 9])
async def test_x1_over_int8_the_tokens_are_those_of_an_undisturbed_run(world, asker, victim, count):
    """What is sent again are the bytes that were sent before, whatever rounding made them."""
    await world.chain(0, 1, 3, 4)
    model = in_int8(await world.client(config=SessionConfig(chunk_len=5)))
    undisturbed = await asker(model).greedy(LONG, NUM_TOKENS)
    start, end = world.peers[victim].span
    await world.spare((start, end))

    async def on_token(number):
        if number == count:
            await world.kill(victim)

    asked = asker(model)
    assert await asked.greedy(LONG, NUM_TOKENS, on_token) == undisturbed
    assert asked.reply.num_recoveries >= 1


async def test_sessions_in_int8_and_in_floating_point_run_side_by_side(world, tiny, asker):
    await world.chain(0, 2, 4)
    model = await world.client()
    alone = await asker(in_int8(model)).greedy(PROMPT, NUM_TOKENS)
    exact, rounded = await asyncio.gather(
        asker(model).greedy(PROMPT, NUM_TOKENS), asker(in_int8(model)).greedy(PROMPT, NUM_TOKENS)
    )
    assert exact == tiny.greedy(PROMPT, NUM_TOKENS)
    assert rounded == alone


async def test_int8_is_chosen_once_lines_are_known_to_be_slow(make_world, make_tiny):
    """A first long prompt shows how fast the lines are, and the next session makes use of it."""
    # In large pieces: of what takes less than 64 KB nobody can tell how fast it went, and a peer
    # passes a prompt on in batches of a quarter of a second.
    world = make_world(make_tiny("llama", hidden_size=128))
    model = await world.client(config=SessionConfig(chunk_len=1024), dtype=torch.bfloat16)
    world.network.default = Condition(delay=0.001, rate=100_000)
    await world.chain(0, 2, 4, announce_interval=0.5, announce_lifetime=2.0)
    watch = world.watch()
    chosen = []
    for _ in range(2):
        hidden = model.head.embed(torch.arange(1, 300))
        async with model.session(num_rows=2) as session:
            await session.step([RowInput(row, 0, hidden[:1]) for row in range(2)])
            await session.step([RowInput(row, 1, hidden) for row in range(2)])
        opened = [f.message for f in watch.frames if isinstance(f.message, Open)]
        chosen.append(opened[-1].dtype)
        await asyncio.sleep(1.5)
        entries = await model._access.router.find(model.key.fingerprint, fresh=True)
    assert chosen == [DType.BFLOAT16, DType.INT8]
    assert [entry.upload_rate for entry in entries] == [pytest.approx(1e5, rel=0.05), 0.0]
    assert model._access.router.upload_rate == pytest.approx(1e5, rel=0.05)
