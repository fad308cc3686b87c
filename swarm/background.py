"""Tasks that live as long as a block of code, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class _Left(Exception):
    """Ends the task group: raised in it, it cancels every task that still runs."""


@asynccontextmanager
async def background() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group for services: leaving the block cancels what still runs.

    A task that fails ends the block with its error, as in any task group; a lone error comes out
    as itself rather than as a group of one.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
            raise _Left
    except BaseExceptionGroup as group:
        _, failures = group.split(_Left)
        if failures is None:
            return
        if len(failures.exceptions) == 1:
            raise failures.exceptions[0] from failures.exceptions[0].__cause__
        raise failures from None


async def together(jobs: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Runs jobs side by side and returns their results in order.

    The first failure cancels the others, which have ended when it comes out, as itself.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(job) for job in jobs]
    except BaseExceptionGroup as group:
        raise first(group) from None
    return [task.result() for task in running]


def first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, and of the groups in it."""
    error = group.exceptions[0]
    return first(error) if isinstance(error, BaseExceptionGroup) else error
