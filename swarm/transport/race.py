"""A race between several ways to one member."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from swarm.errors import Busy, Misbehaved, PeerError, Unreachable

from . import Stream


async def first(
    peer: str, attempts: Iterable[Callable[[], Awaitable[Stream]]], head_start: float
) -> Stream:
    """The stream of the attempt that succeeds first; each has a head start before the next.

    So a dead address costs `head_start`, not its time limit (RFC 8305, "Happy Eyeballs").
    """
    loop = asyncio.get_running_loop()
    waiting = deque(attempts)
    running: set[asyncio.Task[Stream]] = set()
    errors: list[PeerError] = []
    try:
        while waiting or running:
            if waiting:
                running.add(loop.create_task(_run(waiting.popleft())))
            done, _ = await asyncio.wait(
                running,
                timeout=head_start if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    running.discard(task)
                    return task.result()
                if not isinstance(error, PeerError):
                    raise error
                running.discard(task)
                errors.append(error)
    finally:
        await _abandon(running)
    raise _combined(peer, errors)


async def _run(attempt: Callable[[], Awaitable[Stream]]) -> Stream:
    return await attempt()


async def _abandon(running: set[asyncio.Task[Stream]]) -> None:
    """Ends attempts that have lost, and streams that came too late."""
    for task in running:
        task.cancel()
    for result in await asyncio.gather(*running, return_exceptions=True):
        if not isinstance(result, BaseException):
            await result.aclose()


def _combined(peer: str, errors: Sequence[PeerError]) -> PeerError:
    """One error for all attempts: that somebody lied counts most, then that relays are full."""
    if len(errors) == 1:
        return errors[0]
    why = "; ".join(str(error) for error in errors)
    for kind in (Misbehaved, Busy):
        if any(isinstance(error, kind) for error in errors):
            return kind(peer, why)
    return Unreachable(peer, why)
