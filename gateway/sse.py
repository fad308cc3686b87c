"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import web

from swarm.background import background
from swarm.errors import SwarmError

from .endpoint import Dialect
from .observation import last_words, news, note
from .refusals import translate

QUIET = 15.0
"""Seconds: proxies and clients give up on a connection that says nothing for 30 and more."""


class EventStream:
    """An answer in events. `async with` begins it; a refusal inside becomes its last event.

    Whoever reads slowly is waited for: nothing piles up here. When nothing was sent for `quiet`
    seconds, the API's `idle` is.
    """

    def __init__(
        self,
        request: web.Request,
        dialect: Dialect,
        headers: Mapping[str, str] | None = None,
        *,
        quiet: float = QUIET,
    ) -> None:
        self._request = request
        self._dialect = dialect
        self._quiet = quiet
        self._spoke = 0.0
        self._tasks = AsyncExitStack()
        self.response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                **(headers or {}),
            }
        )

    async def __aenter__(self) -> EventStream:
        await self.response.prepare(self._request)
        self._spoke = asyncio.get_running_loop().time()
        tasks = await self._tasks.enter_async_context(background())
        tasks.create_task(self._stay_awake())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, SwarmError):
            await self._tasks.__aexit__(kind, error, traceback)
            if error is None:
                await self._end()
            return False
        await self._tasks.aclose()
        refusal = note(self._request, translate(error))
        await self.send(self._dialect.refuse(refusal), event="error")
        await self._end()
        return True

    async def send(self, data: Any, event: str | None = None) -> None:
        """Sends one event, after what happened before it; `data` is text, or becomes JSON."""
        for line in news(self._request):
            await self.comment(line)
        text = data.encode() if isinstance(data, str) else msgspec.json.encode(data)
        head = b"event: %s\n" % event.encode() if event else b""
        await self._write(head + b"data: " + text + b"\n\n")

    async def comment(self, text: str) -> None:
        """Sends a line that clients pass over."""
        await self._write(f": {text}\n\n".encode())

    async def _end(self) -> None:
        if (words := last_words(self._request)) is not None:
            await self.comment(words)
        await self.response.write_eof()

    async def _write(self, data: bytes) -> None:
        await self.response.write(data)
        self._spoke = asyncio.get_running_loop().time()

    async def _stay_awake(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            left = self._spoke + self._quiet - loop.time()
            if left > 0:
                await asyncio.sleep(left)
            else:
                await self._write(self._dialect.idle)
