"""What a session has yet to send to the hop after it: in order, and as fast as its link takes it.

A new hop is sent all that it lacks of a history, and where a peer has died it is sent that of many
sessions at once. What would wait on the link for long waits here, where a new epoch takes it back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.wire.messages import Output, Step

_BRIEF = 16
"""Positions of a message that does not wait for others' histories: a token, with guesses."""

Sent = Step | Output


class Outbox:
    """One session's messages over `link` in one epoch; `tasks` owns what waits.

    `send` posts a message; where it finds the link ended, it closes the outbox. A position takes
    `position_len` bytes.
    """

    def __init__(
        self,
        link: Link,
        tasks: asyncio.TaskGroup,
        send: Callable[[Sent, Buffer], None],
        position_len: int,
    ) -> None:
        self._link = link
        self._tasks = tasks
        self._send = send
        self._brief_len = _BRIEF * position_len
        self._waiting: deque[tuple[Sent, Buffer]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def post(self, message: Sent, payload: Buffer) -> None:
        """Sends a message, behind those that wait; once the outbox is closed, it is dropped."""
        if self._closed:
            return
        if not self._waiting and (len(payload) <= self._brief_len or not self._link.crowded):
            self._send(message, payload)
            return
        self._waiting.append((message, payload))
        if self._task is None:
            self._task = self._tasks.create_task(self._run())

    def close(self) -> None:
        """Takes back what waits; may be called again."""
        self._closed = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while self._waiting:
            await self._link.room()
            self._send(*self._waiting.popleft())
        self._task = None
