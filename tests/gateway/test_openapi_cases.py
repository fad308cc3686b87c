"""Requests that schemathesis makes up by the gateway's own description are answered as it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from cases import EXAMPLES, narrowed, try_out

from swarm.gateway.answer import Answer, Caller
from swarm.gateway.app import create_app
from swarm.gateway.ask import Ask
from swarm.gateway.config import GatewayConfig
from swarm.gateway.endpoints import all_endpoints
from swarm.gateway.events import Ended, Ending, Said
from swarm.gateway.keys import Keys, given

KEY = "sk-test-0123456789abcdefghij"


class Talkative:
    """Has every choice say the same, with another answerer's help."""

    def __init__(self, scripted: Any) -> None:
        self._scripted = scripted
        self.models = scripted.models
        self.count = scripted.count

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        self._scripted.asks.clear()
        self._scripted.events = [
            event
            for choice in range(ask.num_choices)
            for event in (Said(choice, "Blue"), Ended(choice, Ending.END))
        ]
        async with self._scripted.answering(ask, caller) as answer:
            yield answer


@pytest.mark.parametrize("key", [None, KEY], ids=["free", "keyed"])
async def test_schemathesis_finds_nothing(scripted: Any, key: str | None) -> None:
    keys = Keys(given([key]) if key else ())
    app = create_app(all_endpoints(), Talkative(scripted), GatewayConfig(), keys)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with ClientSession(url, headers=headers) as session:
            async with session.get("/openapi.json") as answer:
                description = narrowed(await answer.json(), "tiny")
        # With a key the same bodies tell nothing new. It is shown in each; what happens to those
        # that show none or another, schemathesis tries on its own account.
        how = {"max-examples": EXAMPLES or (5 if key else 25), "with-security-parameters": False}
        found = await asyncio.to_thread(try_out, description, url, key, **how)
    assert not found.failures, "\n\n".join(found.failures[:20])
    for operation in ("chat/completions", "completions", "messages", "responses"):
        assert found.statuses[f"POST /v1/{operation}", 200] > (2 if key else 8), found.statuses
    assert not any(status >= 500 for _, status in found.statuses)
