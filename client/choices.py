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


class Choices:
    """Replies that are written side by side.

    Choice `i` is drawn with `seed + i` if there is a seed: the first is what it would be alone.
    With `one_ahead` the others begin when the first has brought something.
    """

    def __init__(
        self, pieces: Pieces, replies: Sequence[Reply], sampling: SamplingConfig, *, one_ahead: bool
    ) -> None:
        self._pieces = pieces
        self._replies = replies
        self._sampling = sampling
        self._told: asyncio.Queue[tuple[int, Piece] | _Ended] = asyncio.Queue()
        self._room = [asyncio.Semaphore(_MAX_WAITING) for _ in replies]
        self._begun = asyncio.Event()
        if not one_ahead:
            self._begun.set()

    def told(self) -> AsyncGenerator[tuple[int, Piece | None], None]:
        """Yields the pieces of all replies as they come, each with the index of its reply.

        When a reply is over, None comes in place of a piece. An error of any ends all; they can
        then be resumed together, and what had come but was not read yet comes again.
        """
        return self._together() if len(self._replies) > 1 else self._alone()

    async def _alone(self) -> AsyncGenerator[tuple[int, Piece | None], None]:
        async with aclosing(self._pieces(self._replies[0], self._sampling)) as pieces:
            async for piece in pieces:
                yield 0, piece
        yield 0, None

    async def _together(self) -> AsyncGenerator[tuple[int, Piece | None], None]:
        try:
            async with background() as tasks:
                for index in range(len(self._replies)):
                    tasks.create_task(self._tell(index))
                num_left = len(self._replies)
                while num_left:
                    match await self._told.get():
                        case _Ended(index, None):
                            num_left -= 1
                            yield index, None
                        case _Ended(_, error):
                            assert error is not None
                            raise error
                        case index, piece:
                            self._room[index].release()
                            yield index, piece
        finally:
            self._take_back()

    async def _tell(self, index: int) -> None:
        if index:
            await self._begun.wait()
        ended = _Ended(index)
        try:
            stream = self._pieces(self._replies[index], _seeded(self._sampling, index))
            async with aclosing(stream) as pieces:
                async for piece in pieces:
                    self._begun.set()
                    self._told.put_nowait((index, piece))
                    await self._room[index].acquire()
        except Exception as error:
            # Raised where the pieces are read: there it cannot hit a reader in another's call.
            ended = _Ended(index, error)
        self._begun.set()
        self._told.put_nowait(ended)

    def _take_back(self) -> None:
        """What nobody has read was not told."""
        while not self._told.empty():
            news = self._told.get_nowait()
            if not isinstance(news, _Ended):
                index, piece = news
                self._replies[index].take_back(piece)


def _seeded(sampling: SamplingConfig, index: int) -> SamplingConfig:
    if sampling.seed is None:
        return sampling
    seed = sampling.seed + index
    return replace(sampling, seed=seed if seed <= MAX_SEED else seed - MAX_SEED - 1)
