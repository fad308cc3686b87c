"""Several replies to one prompt, side by side, of which the peers compute the prompt once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from swarm.background import background

from .piece import Piece
from .reply import Reply
from .sampling import MAX_SEED, SamplingConfig

_MAX_WAITING = 4
"""Pieces of one reply that may wait for whoever reads them; then the reply waits."""

Pieces = Callable[[Reply, SamplingConfig], AsyncGenerator[Piece, None]]


@dataclass(frozen=True)
class _Ended:
    """A choice is over, by an error where there is one."""

    index: int
    error: Exception | None = None


async def side_by_side(
    pieces: Pieces, replies: Sequence[Reply], sampling: SamplingConfig, *, one_ahead: bool
) -> AsyncGenerator[tuple[int, Piece | None], None]:
    """Yields the pieces of all replies as they come, each with the index of its reply.

    When a reply is over, None comes in place of a piece. Choice `i` is drawn with `seed + i` if
    there is a seed: the first is what it would be alone. With `one_ahead` the others begin when it
    has brought something. An error of any ends all; they can then be resumed together, and what
    had come but was not read yet comes again.
    """
    if len(replies) == 1:
        async with aclosing(pieces(replies[0], sampling)) as alone:
            async for piece in alone:
                yield 0, piece
        yield 0, None
        return
    told: asyncio.Queue[tuple[int, Piece] | _Ended] = asyncio.Queue()
    room = [asyncio.Semaphore(_MAX_WAITING) for _ in replies]
    begun = asyncio.Event()

    async def tell(index: int, reply: Reply) -> None:
        if index and one_ahead:
            await begun.wait()
        ended = _Ended(index)
        try:
            async with aclosing(pieces(reply, _seeded(sampling, index))) as stream:
                async for piece in stream:
                    begun.set()
                    told.put_nowait((index, piece))
                    await room[index].acquire()
        except Exception as error:
            # Raised where the pieces are read: there it cannot hit a reader in another's call.
            ended = _Ended(index, error)
        begun.set()
        told.put_nowait(ended)

    try:
        async with background() as tasks:
            for index, reply in enumerate(replies):
                tasks.create_task(tell(index, reply))
            num_left = len(replies)
            while num_left:
                match await told.get():
                    case _Ended(index, None):
                        num_left -= 1
                        yield index, None
                    case _Ended(_, error):
                        assert error is not None
                        raise error
                    case index, piece:
                        room[index].release()
                        yield index, piece
    finally:
        _take_back(told, replies)


def _take_back(told: asyncio.Queue[tuple[int, Piece] | _Ended], replies: Sequence[Reply]) -> None:
    """What nobody has read was not told."""
    while not told.empty():
        news = told.get_nowait()
        if not isinstance(news, _Ended):
            index, piece = news
            replies[index].take_back(piece)


def _seeded(sampling: SamplingConfig, index: int) -> SamplingConfig:
    if sampling.seed is None:
        return sampling
    seed = sampling.seed + index
    return replace(sampling, seed=seed if seed <= MAX_SEED else seed - MAX_SEED - 1)
