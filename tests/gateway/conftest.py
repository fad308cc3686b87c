"""A gateway whose answers are written beforehand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from swarm.gateway.answer import Answer, Caller, ModelCard, Source
from swarm.gateway.app import create_app
from swarm.gateway.ask import Ask, Prompt
from swarm.gateway.config import GatewayConfig
from swarm.gateway.endpoint import Endpoint
from swarm.gateway.events import Event, Usage
from swarm.gateway.refusals import Reason, Refusal

MODEL = "tiny"


@dataclass
class Scripted:
    """Makes the answers that `events` and `usage` say; `asks` are what it was asked.

    A `Refusal` among the events comes in its place: as the first, instead of an answer.
    """

    events: Sequence[Event | Refusal] = ()
    usage: Usage = field(default_factory=lambda: Usage(7, 2, 3))
    asks: list[Ask] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    source: Source = Source.SWARM
    queued: float = 0.0
    replies: Sequence[Any] = ()
    num_ended: int = 0

    @property
    def ask(self) -> Ask:
        """The only one."""
        (ask,) = self.asks
        return ask

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        self.asks.append(ask)
        self.callers.append(caller)
        if ask.model != MODEL:
            raise Refusal(Reason.UNKNOWN_MODEL, "no such model", param="model")
        if self.events and isinstance(self.events[0], Refusal):
            raise self.events[0]
        try:
            work = _Work(self.events, self.usage)
            yield Answer(ask.model, self.source, work, self.queued, self.replies)
        finally:
            self.num_ended += 1

    async def models(self) -> tuple[ModelCard, ...]:
        return (ModelCard(MODEL, 1_700_000_000, 2048, has_route=True),)

    async def count(self, model: str, prompt: Prompt) -> int:
        if model != MODEL:
            raise Refusal(Reason.UNKNOWN_MODEL, "no such model", param="model")
        return self.usage.num_prompt


@dataclass
class _Work:
    script: Sequence[Event | Refusal]
    usage: Usage

    async def events(self) -> AsyncIterator[Event]:
        for event in self.script:
            if isinstance(event, Refusal):
                raise event
            yield event


@pytest.fixture
def scripted() -> Scripted:
    """What the gateway of this test says."""
    return Scripted()


Served = Callable[..., AsyncIterator[TestClient]]


@pytest.fixture
def serve(scripted: Scripted) -> Served:
    """`async with serve(endpoints) as client`: an HTTP client of a gateway with these."""

    @asynccontextmanager
    async def serving(
        endpoints: Iterable[Endpoint], config: GatewayConfig | None = None
    ) -> AsyncIterator[TestClient]:
        app = create_app(endpoints, scripted, config or GatewayConfig())
        async with TestClient(TestServer(app)) as client:
            yield client

    return serving
