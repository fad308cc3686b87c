"""Reading takes threads: few, shared among callers, and given back when they have ended."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from swarm.gateway.config import GatewayConfig
from swarm.gateway.desk import Desk
from swarm.gateway.refusals import Reason, Refusal
from swarm.gateway.traffic import stopping


class Slow:
    """Work that goes on until it is told to end; counts how often it runs at a time."""

    def __init__(self) -> None:
        self.ends = threading.Event()
        self.num_running = 0
        self.most = 0
        self.began = asyncio.Semaphore(0)
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.num_running += 1
            self.most = max(self.most, self.num_running)
        self._loop.call_soon_threadsafe(self.began.release)
        self.ends.wait(10)
        with self._lock:
            self.num_running -= 1


async def until_running(slow: Slow, number: int) -> None:
    async with asyncio.timeout(60):
        for _ in range(number):
            await slow.began.acquire()


async def test_one_who_sends_much_does_not_keep_others_waiting() -> None:
    desk, slow, order = Desk(GatewayConfig()), Slow(), list[str]()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(desk.read("greedy", slow))
        await until_running(slow, 4)
        for caller in ("greedy", "modest"):
            tasks.create_task(desk.read(caller, partial(order.append, caller)))
        await asyncio.sleep(0)
        slow.ends.set()
    assert order == ["modest", "greedy"] and slow.most == 4


async def test_who_goes_away_keeps_the_place_until_the_thread_has_ended() -> None:
    desk, slow = Desk(GatewayConfig()), Slow()
    gone = [asyncio.create_task(desk.read("me", slow)) for _ in range(4)]
    await until_running(slow, 4)
    for task in gone:
        task.cancel()
    after = asyncio.create_task(desk.read("me", lambda: slow.num_running))
    await asyncio.sleep(0)
    assert not after.done()
    slow.ends.set()
    assert await after < 4
    for task in gone:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_nobody_waits_at_a_closed_desk() -> None:
    desk = Desk(GatewayConfig())
    desk.close(stopping())
    with pytest.raises(Refusal) as refused:
        await desk.read("me", lambda: None)
    assert refused.value.reason is Reason.STOPPING
