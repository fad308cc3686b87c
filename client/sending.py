"""What a session has yet to send: in order, and no faster than its first hop takes it.

A prompt is megabytes, and many sessions may begin at once over one link. What would wait there for
long waits here, where it can be taken back: each session posts one message in its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from swarm.errors import PeerError
from swarm.transport import Buffer
from swarm.wire.messages import Output, Step

from .chain import Chain

_BRIEF = 16
"""Positions of a message that does not wait for others' prompts: a token, with guesses."""


class Sending:
    """Posts one session's steps to the first hop of its chain; `tasks` owns what waits.

    `on_fault` is called when that hop's link is found to have ended.
    """

    def __init__(
        self, chain: Chain, tasks: asyncio.TaskGroup, on_fault: Callable[[], None]
    ) -> None:
        self._chain = chain
        self._tasks = tasks
        self._on_fault = on_fault
        self._waiting: deque[tuple[Step | Output, memoryview]] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether something waits for room on the link."""
        return bool(self._waiting)

    def post(self, message: Step | Output, payload: memoryview) -> None:
        """Sends a message, behind those that wait; while the chain is not wired, it is dropped."""
        if not self._chain.wired:
            return
        brief = sum(span.count for span in message.rows) <= _BRIEF
        if not self._waiting and (brief or not self._chain.hops[0].link.crowded):
            self._send(message, payload)
            return
        self._waiting.append((message, payload))
        if self._task is None:
            self._task = self._tasks.create_task(self._run())

    def clear(self) -> None:
        """Takes back what waits, as the chain is another one now; may be called again."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        chain = self._chain
        while chain.wired and self._waiting:
            await chain.hops[0].link.room()
            if chain.wired:
                self._send(*self._waiting.popleft())
        self._waiting.clear()
        self._task = None

    def _send(self, message: Step | Output, payload: Buffer) -> None:
        try:
            self._chain.hops[0].link.post(message, payload)
        except PeerError:
            self._on_fault()
