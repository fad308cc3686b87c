"""Somebody else's endpoint, which says what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from swarm.gateway.fallback import Fallback, FallbackConfig


@dataclass
class StandIn:
    """Answers every POST with `status`, `headers` and `parts`; `requests` are what it was asked.

    Between two parts it waits where `pauses` is set. `gone` is set when its caller hangs up.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    pauses: bool = False
    url: str = ""
    requests: list[tuple[str, dict[str, Any], Any]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def says(self, *chunks: Any, done: bool = True) -> None:
        """It answers with these, as chunks."""
        self.parts = [b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks]
        if done:
            self.parts.append(b"data: [DONE]\n\n")

    @property
    def asked(self) -> dict[str, Any]:
        """The body of the only request."""
        ((_, _, body),) = self.requests
        return body

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, dict(request.headers), await request.json()))
        response = web.StreamResponse(status=self.status, headers=self.headers)
        response.headers.setdefault("Content-Type", "text/event-stream")
        await response.prepare(request)
        try:
            for part in self.parts:
                await response.write(part)
                if self.pauses:
                    await asyncio.Event().wait()
        except (asyncio.CancelledError, OSError):
            self.gone.set()
            raise
        return response


@pytest.fixture
async def upstream() -> AsyncIterator[StandIn]:
    stand_in = StandIn()
    app = web.Application()
    app.router.add_post("/{path:.*}", stand_in.handle)
    async with TestServer(app, handler_cancellation=True) as server:
        stand_in.url = str(server.make_url("/v1"))
        yield stand_in


@pytest.fixture
async def fallback(upstream: StandIn) -> AsyncIterator[Fallback]:
    """One that asks the stand-in."""
    async with Fallback.opened(FallbackConfig(upstream.url, "sesame")) as fallback:
        yield fallback
