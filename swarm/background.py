"""Tasks that live as long as a block of code, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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
