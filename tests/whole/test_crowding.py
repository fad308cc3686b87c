"""P16, P17-19, X9: full peers make sessions wait; nothing leaks, nobody is punished."""

from __future__ import annotations

import asyncio

import pytest
import torch

from swarm.client import RowInput
from swarm.client.config import SessionConfig
from swarm.errors import Busy, RequestError
from swarm.peer.handler import HandlerConfig
from swarm.transport.memory import Condition
from swarm.wire.messages import Want

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
PAGE = 8 * 4 * 256
"""Bytes of a page of 8 positions in 4 blocks."""


def positions(count: int, start: int = 0) -> list[RowInput]:
    return [RowInput(0, start, torch.randn(count, 64))]


@pytest.fixture
async def small(world):
    """One peer with 8 pages, that is 64 positions."""
    return await world.peer("small", (0, 4), kv_memory=8 * PAGE)


async def test_p16_announced_memory_falls_and_comes_back(world, small):
    model = await world.client()
    directory = world.directories["client"]

    async def free():
        (entry,) = await directory.find()
        assert entry.total_positions == 64
        return entry.free_positions

    assert await free() == 64
    async with model.session() as session:
        await session.step(positions(20))
        await asyncio.sleep(2)
        assert await free() == 40
        await session.step(positions(5, 20))
        await asyncio.sleep(2)
        assert await free() == 32
    await asyncio.sleep(2)
    assert await free() == 64


async def test_p17_the_second_waits_and_gets_its_turn(world, small, asker):
    model = await world.client()
    first = model.session()
    await first.step(positions(40))
    second = asyncio.create_task(asker(model).greedy(PROMPT * 3, 4))
    await world.until(lambda: small.hosting.leases.num_waiting == 1)
    await asyncio.sleep(10)
    assert not second.done()
    first.close()
    assert await second == world.tiny.greedy(PROMPT * 3, 4)
    assert not model._access.router._avoided()


async def test_p17_they_get_their_turns_in_order(world, small):
    model = await world.client(config=SessionConfig(open_patience=100))
    order = []

    async def one(number):
        async with model.session() as session:
            await session.step(positions(40))
            order.append(number)
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(one(number))
            await asyncio.sleep(0.1)
    assert order == list(range(8))


async def test_p18_the_wait_ends_on_time(world, small):
    model = await world.client(config=SessionConfig(open_patience=2.5))
    loop = asyncio.get_running_loop()
    async with model.session() as first, model.session() as second:
        await first.step(positions(40))
        started = loop.time()
        with pytest.raises(Busy, match=r"no room for 5 pages within 2\.5 s"):
            await second.step(positions(40))
        # Sums of times on the way there are rounded.
        assert 2.5 - 1e-6 <= loop.time() - started < 3.0
        assert small.hosting.leases.num_waiting == 0
        # It is healthy, only full: nobody avoids it, and the first goes on.
        assert not model._access.router._avoided()
        await first.step(positions(10, 40))
        # What still fits is served.
        await second.step(positions(8))


async def test_p19_cancelled_waiting_leaks_nothing(world, small):
    model = await world.client()
    leases = small.hosting.leases
    first, second = model.session(), model.session()
    await first.step(positions(40))
    waiting = asyncio.create_task(second.step(positions(40)))
    await world.until(lambda: leases.num_waiting == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await world.until(lambda: leases.num_waiting == 0)
    first.close()
    await world.until(lambda: leases.free == leases.num_pages)
    # The session whose step was cancelled can still be used.
    await second.step(positions(40))
    second.close()


async def test_p19_the_client_is_gone_while_it_waits(world, small):
    """A dead client's request, patient as it is, holds up nobody behind it."""
    config = SessionConfig(open_patience=80_000)
    model, doomed = await world.client(), await world.client("doomed", config)
    leases = small.hosting.leases
    async with model.session() as first, model.session() as third:
        await first.step(positions(40))
        waiting = asyncio.create_task(doomed.session().step(positions(64)))
        await world.until(lambda: leases.num_waiting == 1)
        behind = asyncio.create_task(third.step(positions(24)))
        await world.until(lambda: leases.num_waiting == 2)
        await world.kill("doomed")
        await behind
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_peer_that_leaves_tells_those_who_wait(world, small, asker):
    model = await world.client()
    async with model.session() as first:
        await first.step(positions(60))
        waiting = asyncio.create_task(asker(model).greedy(PROMPT, 8))
        await world.until(lambda: small.hosting.leases.num_waiting == 1)
        await world.peer("other", (0, 4))
        started = asyncio.get_running_loop().time()
        await small.leave()
        assert await waiting == world.tiny.greedy(PROMPT, 8)
        assert asyncio.get_running_loop().time() - started < 2


async def test_running_sessions_grow_before_newcomers_are_let_in(world, small, asker):
    """A newcomer that needs much waits; those who run need a page now and then, and get it."""
    # Without a delay the whole reply may take no simulated time: nobody would ever see it run.
    world.network.default = Condition(0.01)
    model = await world.client()
    async with model.session() as first:
        await first.step(positions(24))
        running = asyncio.create_task(asker(model).greedy(PROMPT, 20))
        await world.until(lambda: small.hosting.handler.num_sessions == 2)
        newcomer = asyncio.create_task(asker(model).greedy(PROMPT * 5, 3))
        await world.until(lambda: small.hosting.leases.num_waiting == 1)
        started = asyncio.get_running_loop().time()
        assert await running == world.tiny.greedy(PROMPT, 20)
        assert asyncio.get_running_loop().time() - started < 5
        assert not newcomer.done()
    assert await newcomer == world.tiny.greedy(PROMPT * 5, 3)


async def test_a_running_session_waits_for_more_memory(world, small):
    model = await world.client()
    async with model.session() as session:
        await session.step(positions(16))
        first = model.session()
        await first.step(positions(48))
        growing = asyncio.create_task(session.step(positions(10, 16)))
        await world.until(lambda: small.hosting.leases.num_waiting == 1)
        await asyncio.sleep(1)
        assert not growing.done()
        first.close()
        await growing


async def test_a_running_session_that_never_gets_more_goes_elsewhere(world, asker):
    quick = HandlerConfig(growth_patience=3.0)
    await world.peer("small", (0, 4), kv_memory=8 * PAGE, handler_config=quick)
    model = await world.client()
    async with model.session() as first, model.session() as second:
        await first.step(positions(48))
        await second.step(positions(16))
        await world.peer("other", (0, 4), kv_memory=8 * PAGE)
        await second.step(positions(10, 16))
        assert [hop.peer for hop in second.route] == ["other"]
        assert [hop.peer for hop in first.route] == ["small"]
        assert not model._access.router._avoided()


async def test_the_newest_session_makes_room_for_older_ones(world, small):
    """All run, all need more, none would ever give anything back: the newest waits its turn."""
    model = await world.client()
    sessions = [model.session() for _ in range(4)]
    texts = [torch.randn(40, 64) for _ in sessions]
    for session, text in zip(sessions, texts, strict=True):
        await session.step([RowInput(0, 0, text[:16])])
    assert small.hosting.leases.free == 0
    order = []

    async def go_on(number):
        session, text = sessions[number], texts[number]
        (last,) = await session.step([RowInput(0, 16, text[16:])])
        order.append(number)
        session.close()
        return last

    lasts = await asyncio.gather(*(go_on(number) for number in range(4)))
    assert order[0] == 0
    assert asyncio.get_running_loop().time() < 20
    async with model.session() as alone:
        for text, last in zip(texts, lasts, strict=True):
            (expected,) = await alone.step([RowInput(0, 0, text)])
            torch.testing.assert_close(last, expected, atol=1e-4, rtol=0)


async def test_a_full_peer_is_passed_by_where_another_has_room(world, small):
    model = await world.client(config=SessionConfig(open_patience=1.0))
    async with model.session() as first, model.session() as second:
        await first.step(positions(60))
        await world.peer("wide", (0, 4))
        await second.step(positions(60))
        assert [hop.peer for hop in second.route] == ["wide"]
    assert not model._access.router._avoided()


async def test_more_sessions_than_a_peer_takes(world):
    limits = HandlerConfig(max_sessions=2)
    peer = await world.peer("small", (0, 4), handler_config=limits)
    model = await world.client(config=SessionConfig(open_patience=1.0))
    async with model.session() as one, model.session() as two, model.session() as three:
        await one.step(positions(3))
        await two.step(positions(3))
        with pytest.raises(Busy, match="2 sessions are open"):
            await three.step(positions(3))
        assert peer.hosting.handler.num_sessions == 2


async def test_x9_many_clients_on_a_peer_with_little_room(world, asker):
    """Eight clients, room for about three: all are answered, and rightly."""
    await world.peer("a", (0, 2), kv_memory=16 * PAGE // 2)
    await world.peer("b", (2, 4), kv_memory=16 * PAGE // 2)
    prompts = [[(seed * 31 + 7 * i) % 299 + 1 for i in range(12 + seed)] for seed in range(8)]
    askers = [asker(await world.client(f"client-{i}")) for i in range(8)]
    replies = await asyncio.gather(
        *(one.greedy(prompt, 12) for one, prompt in zip(askers, prompts, strict=True))
    )
    assert replies == [world.tiny.greedy(prompt, 12) for prompt in prompts]


async def test_a_wrong_request_is_answered_and_harms_nobody_else(world, small, asker):
    model = await world.client()
    running = asyncio.create_task(asker(model).greedy(PROMPT, 12))
    async with model.session() as session:
        with pytest.raises(RequestError, match="this peer has 8"):
            await session.step(positions(100), Want.NOTHING)
    assert await running == world.tiny.greedy(PROMPT, 12)


async def test_a_peer_too_small_for_a_prompt_is_passed_over(world, asker):
    """A peer that could never hold a prompt is no reason to refuse it where others can."""
    await world.peer("a-small", (0, 4), kv_memory=32 << 10)
    await world.peer("b-large", (0, 4))
    small = world.peers["a-small"].hosting.total_positions
    prompt = [(7 * i) % 299 + 1 for i in range(small + 1)]
    asked = asker(await world.client())
    assert await asked.greedy(prompt, 4) == world.tiny.greedy(prompt, 4)
    assert [hop.peer for hop in asked.reply.route] == ["b-large"]
