"""X7, X11: the route is the fastest under injected latency and load, whatever peers claim."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from swarm.client.crowd import Crowd
from swarm.peer.load import Load, Speed
from swarm.peer.service import Peer
from swarm.transport.memory import Condition

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99]


def slow(peer: Peer, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Each batch takes so much longer from now on."""
    assert peer.hosting is not None
    run = peer.hosting.runner.run

    def run_slowly(*args: Any) -> Any:
        time.sleep(seconds)  # In the compute thread.
        return run(*args)

    monkeypatch.setattr(peer.hosting.runner, "run", run_slowly)


def leans_to(peer: str, other: str) -> str:
    """A client that would rather use the first of two equal peers."""
    names = (f"client-{number}" for number in range(100))
    return next(n for n in names if Crowd(n).weight(peer, 0) + 0.02 < Crowd(n).weight(other, 0))


async def test_x7_the_route_is_the_fastest_under_latency(world, asker):
    """One far peer for all blocks, against three near ones, and one of them far in its turn."""
    spans = {"whole": (0, 4), "first": (0, 2), "last": (2, 4), "rest": (2, 4)}
    for name, blocks in spans.items():
        await world.peer(name, blocks)
    clock, taken = asyncio.get_running_loop().time, {}
    for far, expected in ((("whole", "rest"), ["first", "last"]), (("last", "first"), ["whole"])):
        for name in spans:
            delay = 0.08 if name in far else 0.004
            for other in ("client-a", "client-b", *spans):
                world.network.between(name, other, Condition(delay=delay))
        asked = asker(await world.client("client-a" if "whole" in far else "client-b"))
        started = clock()
        assert await asked.greedy(PROMPT, 8) == world.tiny.greedy(PROMPT, 8)
        assert [hop.peer for hop in asked.reply.route] == expected
        taken[far] = clock() - started
    assert max(taken.values()) < 8 * 0.16, "as fast as no way through a far one could be"


async def test_x7_a_newcomer_passes_by_a_loaded_peer(world, asker, monkeypatch):
    busy = await world.peer("busy", (0, 4), announce_interval=0.2)
    slow(busy, monkeypatch, 0.04)
    others = [asker(await world.client(f"other-{n}")) for n in range(3)]
    running = [asyncio.create_task(one.greedy(PROMPT, 36)) for one in others]
    await world.peer("idle", (0, 4), announce_interval=0.2)
    await world.until(lambda: len(others[0].reply.ids) > 12)
    await asyncio.sleep(0.3)
    newcomer = asker(await world.client(leans_to("busy", "idle")))
    assert await newcomer.greedy(PROMPT, 4) == world.tiny.greedy(PROMPT, 4)
    assert [hop.peer for hop in newcomer.reply.route] == ["idle"]
    for one, task in zip(others, running, strict=True):
        assert await task == world.tiny.greedy(PROMPT, 36)
        assert [hop.peer for hop in one.reply.route] == ["busy"], "who runs stays"
    # Load passes, and is forgotten.
    await asyncio.sleep(30)
    (entry,) = [e for e in await world.directories["busy"].find() if e.peer == "busy"]
    assert entry.decode_seconds == pytest.approx(0.016, rel=0.1) and entry.queue_seconds < 0.001


async def test_x11_a_peer_that_inflates_its_speed_is_found_out(world, asker, monkeypatch):
    liar = await world.peer("liar", (0, 4))
    slow(liar, monkeypatch, 0.05)
    assert liar.hosting is not None
    liar.hosting._load = Load(Speed(1e-6, 1e-6))
    await liar._announce()
    await world.peer("honest", (0, 4))
    asked = asker(await world.client())
    for expected in ("liar", "honest"):
        assert await asked.greedy(PROMPT, 8) == world.tiny.greedy(PROMPT, 8)
        assert [hop.peer for hop in asked.reply.route] == [expected]
        await asyncio.sleep(15)
    assert not asked.model._access.router._avoided(), "being slow is no fault"


async def test_many_clients_at_once_use_all_of_equal_peers(world, asker):
    """None of them can know of the others yet."""
    for name in "abc":
        await world.peer(name, (0, 4))
    askers = [asker(await world.client(f"client-{number}")) for number in range(12)]
    await asyncio.gather(*(one.greedy(PROMPT, 2) for one in askers))
    assert {one.reply.route[0].peer for one in askers} == {"a", "b", "c"}


async def test_x9_a_long_prompt_keeps_nobody_waiting_long(world, asker, monkeypatch):
    """10 ms per position: in chunks of 128 a token would come every 1.3 seconds."""
    peer = await world.peer("one", (0, 4), kv_memory=16 << 20)
    hosting = peer.hosting
    seen: list[tuple[int, int]] = []
    next_batch = hosting._scheduler.next_batch

    def watched(*args: Any, **options: Any) -> Any:
        batch = next_batch(*args, **options)
        decode = sum(piece.count == 1 for piece in batch)
        seen.append((decode, sum(piece.count for piece in batch) - decode))
        return batch

    monkeypatch.setattr(hosting._scheduler, "next_batch", watched)
    prompt = [(7 * i) % 299 + 1 for i in range(400)]
    short, long = asker(await world.client("short")), asker(await world.client("long"))
    running = asyncio.create_task(short.greedy(PROMPT, 60))
    await world.until(lambda: len(short.reply.ids) > 5)
    assert await long.greedy(prompt, 2) == world.tiny.greedy(prompt, 2)
    assert await running == world.tiny.greedy(PROMPT, 60)
    # 0.0016 s per position: a chunk is what 32 ms compute, twice a decode step.
    beside = [prefill for decode, prefill in seen if decode and prefill > 1]
    assert beside and max(beside) <= 20
