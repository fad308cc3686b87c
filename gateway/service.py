"""A gateway that serves: from sockets to models, and its end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from swarm.client import RemoteModel, SpeculationConfig, Swarm
from swarm.web.connection import Connections
from swarm.web.door import Door, listening

from .answer import Answerer
from .app import create_app, no_request
from .config import GatewayConfig
from .core import Core
from .endpoints import all_endpoints
from .fallback import Fallback, FallbackConfig
from .hybrid import Hybrid
from .keys import Keys
from .metrics import Metrics
from .page import add_page
from .traffic import Traffic, stopping

logger = logging.getLogger(__name__)

_LAST_WORDS = 2.0
"""Seconds for an answer that is broken off to say so."""


class Gateway:
    """A gateway that answers. Made by `serve`."""

    def __init__(self, door: Door[GatewayConfig], core: Core, traffic: Traffic) -> None:
        self._door = door
        self._traffic = traffic
        self.core = core
        self.connections = Connections(door.config.most_connections, no_request)

    @property
    def url(self) -> str:
        """Such as `http://127.0.0.1:8000`; APIs are below its `/v1`."""
        return self._door.url

    @property
    def num_running(self) -> int:
        """Requests that are being answered, or wait for it."""
        return self._traffic.num_running


@asynccontextmanager
async def serve(
    models: Mapping[str, RemoteModel],
    config: GatewayConfig | None = None,
    keys: Keys | None = None,
    *,
    speculation: SpeculationConfig | None = None,
    door: Door[GatewayConfig] | None = None,
    metrics: Metrics | None = None,
    fallback: FallbackConfig | None = None,
    swarm: Swarm | None = None,
) -> AsyncIterator[Gateway]:
    """Answers for these models, by the names by which they are asked, for the length of the block.

    With a `fallback` that is asked for them while they have no route. When the block is left nobody
    new is let in, what runs goes on for `config.drain` seconds, and is then broken off with an
    error. `door` has its own config; `metrics` are told what happens; the page shows who serves
    what in `swarm`. Raises `ConfigError` as `Door.opened`.
    """
    keys, metrics = keys or Keys(), metrics or Metrics()
    async with AsyncExitStack() as stack:
        if door is None:
            door = stack.enter_context(Door.opened(config or GatewayConfig(), keys))
        core, traffic = Core(models, door.config, speculation), Traffic()
        turnstile = core.turnstile
        metrics.watch_load(lambda: (turnstile.num_places, turnstile.num_waiting))
        answerer: Answerer = core
        stops = [core.stop]
        if fallback is not None:
            outside = await stack.enter_async_context(Fallback.opened(fallback))
            answerer, stops = Hybrid(core, outside), [core.stop, outside.stop]
        app = create_app(all_endpoints(), answerer, door.config, keys, traffic, metrics)
        feed = None
        if door.config.page:
            feed = add_page(app, keys, "" if swarm is None else swarm.member.group.name, swarm)
        gateway = Gateway(door, core, traffic)
        async with listening(app, door, gateway.connections):
            logger.info("gateway serving url=%s models=%d", gateway.url, len(models))
            try:
                yield gateway
            finally:
                traffic.close()
                if feed is not None:
                    feed.close()
                logger.info("gateway stopping num_running=%d", traffic.num_running)
                await traffic.idle(door.config.drain)
                for stop in stops:
                    stop(stopping())
                await traffic.idle(_LAST_WORDS)
