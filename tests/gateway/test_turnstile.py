"""Waiting for one's turn: who goes away makes room, and nobody waits for nothing."""

from __future__ import annotations

import asyncio

import pytest

from swarm.gateway.config import GatewayConfig
from swarm.gateway.refusals import Reason, Refusal
from swarm.gateway.turnstile import Turnstile


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def narrow(**options: int) -> Turnstile:
    return Turnstile(GatewayConfig(most_running=1, **options))


async def take(turnstile: Turnstile, caller: str, order: list[str]) -> None:
    async with turnstile.turn(caller, 1):
        order.append(caller)


async def test_turns_come_one_after_the_other() -> None:
    turnstile, order = narrow(), list[str]()
    async with asyncio.TaskGroup() as tasks:
        async with turnstile.turn("a", 1):
            for caller in "aab":
                tasks.create_task(take(turnstile, caller, order))
            await settled()
            assert not order and turnstile.num_waiting == 3
    assert order == ["b", "a", "a"]
    assert turnstile.num_places == turnstile.num_waiting == 0


async def test_who_goes_away_while_waiting_leaves_nothing_behind() -> None:
    turnstile, order = narrow(), list[str]()
    async with turnstile.turn("a", 1):
        waiting = asyncio.ensure_future(take(turnstile, "b", order))
        await settled()
        waiting.cancel()
        await settled()
        assert turnstile.num_waiting == 0


async def test_who_goes_away_as_its_turn_comes_gives_it_on() -> None:
    turnstile, order = narrow(), list[str]()
    async with turnstile.turn("a", 1):
        gone = asyncio.ensure_future(take(turnstile, "b", order))
        next_one = asyncio.ensure_future(take(turnstile, "c", order))
        await settled()
    gone.cancel()
    await next_one
    assert order == ["c"] and turnstile.num_places == 0


async def test_who_comes_when_it_is_full_is_told_when_to_come_back() -> None:
    turnstile = narrow(most_waiting=0)
    async with turnstile.turn("a", 1):
        with pytest.raises(Refusal) as refusal:
            async with turnstile.turn("b", 1):
                raise AssertionError("it was full")
    assert refusal.value.reason is Reason.BUSY
    assert refusal.value.retry_after


async def test_more_than_all_places_are_never_waited_for() -> None:
    with pytest.raises(Refusal, match="2 answers at once"):
        async with narrow().turn("a", 2):
            raise AssertionError("there is one place")


async def test_a_closed_one_lets_nobody_through_and_ends_waiting() -> None:
    turnstile, refusal = narrow(), Refusal(Reason.STOPPING, "stopping")
    async with turnstile.turn("a", 1):
        waiting = asyncio.ensure_future(take(turnstile, "b", []))
        await settled()
        turnstile.close(refusal)
        with pytest.raises(Refusal, match="stopping"):
            await waiting
    with pytest.raises(Refusal, match="stopping"):
        await take(turnstile, "c", [])
