"""Many long prompts at once over one slow line."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from swarm.client.config import SessionConfig
from swarm.transport import Buffer
from swarm.transport.link import Link, LinkConfig
from swarm.wire.messages import Step

pytestmark = pytest.mark.simulated_time

NUM = 12
LEN = 300
RATE = 100e3
BACKLOG = 400 * 1024


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Slow:
    """A stream whose line carries `rate` bytes per second; remembers which steps it carried."""

    stream: Any
    rate: float = RATE
    free_at: float = field(default_factory=now)

    def offer(self, header: bytes, payload: Buffer) -> bool:
        return False

    async def send(self, header: bytes, payload: Buffer) -> None:
        self.free_at = max(self.free_at, now()) + (len(header) + len(payload)) / self.rate
        await asyncio.sleep(self.free_at - now())
        await self.stream.send(header, payload)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@pytest.fixture
def prompts() -> list[list[int]]:
    """They differ from the first token on, so that nobody has kept anything of them."""
    return [[10 + i, *((7 * i + 11 * j) % 290 + 5 for j in range(LEN - 1))] for i in range(NUM)]


async def slow_link(model: Any) -> Link:
    """The client's link to the only peer, over a slow line from now on."""
    (link,) = [await model._access.router.link(hop) for hop in await hops(model)]
    link._stream = Slow(link._stream)
    return link


async def hops(model: Any) -> Any:
    return await model._access.router.route(model.key, [], 1, frozenset())


async def test_long_prompts_of_many_sessions_wait_for_the_line_in_turn(world, asker, prompts):
    world.link_config = LinkConfig(1.0, 30.0, 1.0, 30.0, handshake=2.0, backlog=BACKLOG)
    await world.peer("peer", (0, 4), kv_memory=8 << 20)
    model = await world.client(config=SessionConfig(chunk_len=50))
    link, watch = await slow_link(model), world.watch()
    askers = [asker(model) for _ in prompts]
    most, started = 0, now()

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, link._outbox_bytes)
            await asyncio.sleep(0.01)

    looking = asyncio.ensure_future(look())
    replies = await asyncio.gather(
        *(each.greedy(prompt, 3) for each, prompt in zip(askers, prompts, strict=True))
    )
    looking.cancel()
    assert replies == [world.tiny.greedy(prompt, 3) for prompt in prompts]
    assert NUM * LEN * 256 > 2 * BACKLOG and now() - started > 8, "more than a step's patience"
    assert not link.closed and most < 0.6 * BACKLOG
    assert [each.reply.num_recoveries for each in askers] == [0] * NUM

    # Once the line is full, nobody's prompt waits for all of another's: most end together.
    steps = [frame.message for frame in watch.frames if isinstance(frame.message, Step)]
    prefill = [step.session for step in steps if sum(span.count for span in step.rows) > 1]
    assert len(set(prefill)) == NUM
    ends = {session: index for index, session in enumerate(prefill)}
    assert sorted(ends.values())[NUM // 3] > 0.8 * len(prefill)


async def test_what_waits_is_taken_back_when_the_hop_dies(world, asker, prompts):
    world.link_config = LinkConfig(1.0, 30.0, 1.0, 30.0, handshake=2.0, backlog=BACKLOG)
    await world.peer("peer", (0, 4), kv_memory=8 << 20)
    await world.peer("spare", (0, 4), kv_memory=8 << 20, silent=True)
    model = await world.client(config=SessionConfig(chunk_len=50))
    link = await slow_link(model)
    askers = [asker(model) for _ in prompts]
    running = asyncio.gather(
        *(each.greedy(prompt, 3) for each, prompt in zip(askers, prompts, strict=True))
    )
    await world.until(lambda: link.crowded)
    await asyncio.sleep(0.5)
    assert link.crowded
    await world.kill("peer")
    assert await running == [world.tiny.greedy(prompt, 3) for prompt in prompts]
    assert {hop.peer for each in askers for hop in each.reply.route} == {"spare"}


async def test_who_gives_up_while_a_prompt_waits_leaves_nothing(world, asker, prompts):
    world.link_config = LinkConfig(1.0, 30.0, 1.0, 30.0, handshake=2.0, backlog=BACKLOG)
    await world.peer("peer", (0, 4), kv_memory=8 << 20)
    model = await world.client(config=SessionConfig(chunk_len=50))
    link = await slow_link(model)
    running = [asyncio.create_task(asker(model).greedy(prompt, 3)) for prompt in prompts]
    await world.until(lambda: link.crowded)
    kept = running.pop()
    for task in running:
        task.cancel()
    assert await kept == world.tiny.greedy(prompts[-1], 3)
    await asyncio.wait(running)
    assert all(task.cancelled() for task in running) and not link.crowded
    await world.settle()


async def test_histories_of_many_sessions_wait_for_a_peers_line_in_turn(world, asker, prompts):
    """The hop after it has died, and another one is to be sent all that it knew."""
    world.link_config = LinkConfig(1.0, 30.0, 1.0, 30.0, handshake=2.0, backlog=BACKLOG)
    first = await world.peer("first", (0, 2), kv_memory=8 << 20)
    await world.peer("second", (2, 4), kv_memory=8 << 20)
    await world.peer("spare", (2, 4), kv_memory=8 << 20, silent=True)
    model = await world.client(config=SessionConfig(chunk_len=50))
    askers, count = [asker(model) for _ in prompts], 12
    running = asyncio.gather(
        *(each.greedy(prompt, count) for each, prompt in zip(askers, prompts, strict=True))
    )
    link = await first._neighbours.link("spare", ())
    # All of it takes less than the patience that a client has for a step.
    link._stream = Slow(link._stream, 3 * RATE)
    await world.until(lambda: all(len(each.reply.ids) >= 2 for each in askers))
    await world.kill("second")
    most = 0

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, link._outbox_bytes)
            await asyncio.sleep(0.01)

    looking = asyncio.ensure_future(look())
    assert await running == [world.tiny.greedy(prompt, count) for prompt in prompts]
    looking.cancel()
    assert not link.closed and 0.1 * BACKLOG < most < 0.6 * BACKLOG
    assert [each.reply.num_recoveries for each in askers] == [1] * NUM
    await world.settle()
