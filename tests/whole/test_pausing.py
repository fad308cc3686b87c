"""Peers that pause: answers go on elsewhere, nothing stays behind, and they come back."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from swarm.checkpoint.progress import check_halt
from swarm.directory import State
from swarm.peer import taking
from swarm.peer.pausing import Pause, Pauses
from swarm.peer.standby import Standby

pytestmark = pytest.mark.simulated_time

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
NUM_TOKENS = 24
AWAY = Pause("others use this machine", 12.0)


@pytest.fixture
async def three(world):
    """Peers for blocks 0:1, 1:3 and 3:4."""
    await world.chain(0, 1, 3, 4)
    return world


async def seen(world, name):
    directory = world.directories["peer-0"]
    return {entry.name: entry for entry in await directory.find()}[name]


@pytest.mark.parametrize("index", [0, 1, 2])
async def test_an_answer_goes_on_elsewhere_when_a_pause_begins(three, asker, index):
    await three.spare((0, 4))
    asked = asker(await three.client())
    pausing = []

    async def on_token(number):
        if number == 5:
            await three.show()
            peer = three.peers[f"peer-{index}"]
            pausing.append(asyncio.ensure_future(peer.begin_pause(AWAY)))
        await asyncio.sleep(0.05)

    assert await asked.greedy(PROMPT, NUM_TOKENS, on_token) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    await asyncio.gather(*pausing)
    assert asked.reply.num_recoveries == 0
    assert f"peer-{index}" not in {hop.peer for hop in asked.reply.route}
    assert three.peers[f"peer-{index}"].hosting is None


async def test_a_paused_peer_says_so_holds_nothing_and_comes_back(three, asker):
    peer = three.peers["peer-1"]
    runner, hosting = weakref.ref(peer.hosting.runner), weakref.ref(peer.hosting)
    await peer.begin_pause(AWAY)
    assert runner() is None and hosting() is None, "its weights would stay in memory"
    entry = await seen(three, "peer-1")
    assert entry.state is State.PAUSED and entry.resumes == 12.0 and not entry.serving
    assert (entry.start, entry.end, entry.total_positions, entry.capacity) == (0, 0, 0, 0)
    assert peer.hosting is None and peer.taken is None and peer.paused
    # A client waits for whoever comes back.
    asked = asker(await three.client())
    asking = asyncio.ensure_future(asked.greedy(PROMPT, NUM_TOKENS))
    await asyncio.sleep(2.0)
    assert not asking.done()
    await peer.end_pause()
    assert await asking == three.tiny.greedy(PROMPT, NUM_TOKENS)
    entry = await seen(three, "peer-1")
    assert (entry.start, entry.end, entry.state) == (1, 3, State.SERVING) and not entry.resumes


async def test_a_peer_dies_while_another_pauses(three, asker):
    await three.spare((1, 3), (3, 4))
    asked = asker(await three.client())
    pausing = []

    async def on_token(number):
        if number == 5:
            await three.show()
            pausing.append(asyncio.ensure_future(three.peers["peer-1"].begin_pause(AWAY)))
            await three.kill("peer-2")
        await asyncio.sleep(0.05)

    assert await asked.greedy(PROMPT, NUM_TOKENS, on_token) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    await asyncio.gather(*pausing)


async def test_a_peer_that_leaves_in_the_middle_of_a_pause_leaves(three, asker):
    await three.spare((1, 3))
    asked = asker(await three.client())
    jobs = []

    async def on_token(number):
        if number == 5:
            await three.show()
            jobs.append(asyncio.ensure_future(three.peers["peer-1"].begin_pause(AWAY)))
            await asyncio.sleep(0)
            jobs.append(asyncio.ensure_future(three.leave("peer-1")))
        await asyncio.sleep(0.05)

    assert await asked.greedy(PROMPT, NUM_TOKENS, on_token) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    await asyncio.gather(*jobs)
    names = {entry.name for entry in await three.directories["peer-0"].find()}
    assert "peer-1" not in names


async def test_no_one_moves_for_who_pauses_and_who_pauses_does_not_move(three):
    """A paused peer's blocks are a gap, which a peer that may move closes."""
    await three.peer("mover", None, memory=10**6, move_interval=0.5)
    await three.peers["peer-1"].begin_pause(AWAY)
    await three.peers["peer-1"].move((0, 1))
    assert three.peers["peer-1"].span == (0, 0)


class Owner:
    """The clock on an owner's wall."""

    def __init__(self, hour):
        self.now = 1_772_409_600.0 + 3600 * hour  # Monday, 0:00

    def later(self, hours):
        self.now += 3600 * hours


async def test_hours_begin_and_end(three, asker, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    owner = Owner(21)
    pauses = Pauses(("22-08",), clock=lambda: owner.now)
    night = await three.peer("night", (1, 3), pauses=pauses, kv_memory=4 << 20)
    assert night.paused and night.hosting is None
    entry = await seen(three, "night")
    assert entry.state is State.PAUSED and entry.resumes == owner.now + 3600
    changes = []
    night.watch(lambda: changes.append(night.span))
    owner.later(1)
    await three.until(lambda: night.hosting is not None)
    owner.later(10)
    await three.until(lambda: night.paused and night.hosting is None)
    assert changes == [(1, 3), (0, 0)]
    assert night.announcement().resumes == owner.now + 14 * 3600


class Slow:
    """Loading that goes on until somebody looks whether it is still wanted."""

    def __init__(self, monkeypatch):
        self.begun, self.load, self.after = threading.Event(), taking.load, None
        monkeypatch.setattr(taking, "load", self)

    def __call__(self, *arguments, **options):
        self.begun.set()
        while self.after is None:
            check_halt()
            time.sleep(0.01)
        return self.load(*arguments, **options)


async def test_a_pause_does_not_wait_for_blocks_that_are_being_loaded(three, monkeypatch):
    """Loading may take minutes; it ends at the next block, or at the next piece of a download."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    owner, slow = Owner(23), Slow(monkeypatch)
    pauses = Pauses(("22-08",), clock=lambda: owner.now)
    joining = asyncio.ensure_future(three.peer("night", (1, 3), pauses=pauses))
    await asyncio.to_thread(slow.begun.wait)
    owner.later(10)
    night = await asyncio.wait_for(joining, 10)
    assert night.paused and night.hosting is None and night.span == (0, 0)
    slow.after = True
    owner.later(14)
    await three.until(lambda: night.hosting is not None)
    assert night.span == (1, 3) and night.pause is None


async def test_who_leaves_does_not_wait_for_blocks_either(three, monkeypatch):
    peer, slow = three.peers["peer-1"], Slow(monkeypatch)
    await peer.begin_pause(AWAY)
    coming_back = asyncio.ensure_future(peer.end_pause())
    await asyncio.to_thread(slow.begun.wait)
    await three.leave("peer-1")
    await asyncio.wait_for(coming_back, 10)
    assert peer.hosting is None


async def test_blocks_outlive_a_peer_whose_network_breaks_down(three, asker, monkeypatch):
    """The next one in the process serves them at once, and nothing of the sessions before."""
    standby = Standby()
    first = await three.peer("first", (1, 3), standby=standby)
    runner = first.hosting.runner
    asked = asker(await three.client())
    assert await asked.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    await three.leave("first")
    monkeypatch.setattr(taking, "load", None)
    again = await three.peer("again", (1, 3), standby=standby)
    assert again.hosting.runner is runner and again.span == (1, 3)
    assert runner.pages.free_pages == runner.pages.num_pages
    await three.leave("peer-1")
    assert await asked.greedy(PROMPT, NUM_TOKENS) == three.tiny.greedy(PROMPT, NUM_TOKENS)
    kept, runner = weakref.ref(runner), None
    del again
    await three.leave("again")
    standby.close()
    standby.close()
    gc.collect()
    assert kept() is None
