"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import web

from swarm.errors import SwarmError

from .endpoint import Dialect
from .refusals import translate


class EventStream:
    """An answer in events. `async with` begins it; a refusal inside becomes its last event.

    Whoever reads slowly is waited for: nothing piles up here.
    """

    def __init__(
        self, request: web.Request, dialect: Dialect, headers: Mapping[str, str] | None = None
    ) -> None:
        self._request = request
        self._dialect = dialect
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
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, SwarmError):
            await self.send(self._dialect.refuse(translate(error)), event="error")
        if error is None or isinstance(error, SwarmError):
            await self.response.write_eof()
            return True
        return False

    async def send(self, data: Any, event: str | None = None) -> None:
        """Sends one event; `data` is text, or becomes JSON."""
        text = data.encode() if isinstance(data, str) else msgspec.json.encode(data)
        head = b"event: %s\n" % event.encode() if event else b""
        await self.response.write(head + b"data: " + text + b"\n\n")

    async def comment(self, text: str) -> None:
        """Sends a line that clients pass over."""
        await self.response.write(f": {text}\n\n".encode())
