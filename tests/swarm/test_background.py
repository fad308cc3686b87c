from __future__ import annotations

import asyncio

import pytest

from swarm.background import background, together
from swarm.errors import ConfigError, NoRouteError


async def forever(ended: list[str] | None = None) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        if ended is not None:
            ended.append("ended")


async def fail(error: Exception) -> None:
    raise error


async def test_leaving_the_block_ends_its_tasks() -> None:
    ended: list[str] = []
    async with background() as tasks:
        for _ in range(3):
            tasks.create_task(forever(ended))
        await asyncio.sleep(0)
    assert ended == ["ended"] * 3


async def test_a_task_that_fails_ends_the_block_with_its_own_error() -> None:
    cause = OSError("disk")
    error = ConfigError("no")
    error.__cause__ = cause
    with pytest.raises(ConfigError) as caught:
        async with background() as tasks:
            tasks.create_task(fail(error))
            await forever()
    assert caught.value is error and error.__cause__ is cause


async def test_several_failures_come_as_a_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with background() as tasks:
            tasks.create_task(fail(ConfigError("a")))
            tasks.create_task(fail(NoRouteError(())))
            await forever()
    assert {type(error) for error in caught.value.exceptions} == {ConfigError, NoRouteError}


async def test_the_blocks_own_error_comes_out_and_ends_the_tasks() -> None:
    ended: list[str] = []
    with pytest.raises(KeyError):
        async with background() as tasks:
            tasks.create_task(forever(ended))
            await asyncio.sleep(0)
            raise KeyError("own")
    assert ended == ["ended"]


async def test_a_cancelled_block_is_cancelled() -> None:
    ended: list[str] = []

    async def block() -> None:
        async with background() as tasks:
            tasks.create_task(forever(ended))
            await forever()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"]


async def test_jobs_side_by_side() -> None:
    async def job(number: int) -> int:
        await asyncio.sleep(0.001 * (3 - number))
        return number

    assert await together(job(number) for number in range(3)) == [0, 1, 2]


async def test_the_first_failure_ends_the_others_and_comes_out() -> None:
    ended = []

    async def waits() -> None:
        try:
            await asyncio.Future()
        finally:
            ended.append(True)

    async def fails() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await together([waits(), fails()])
    assert ended == [True]
