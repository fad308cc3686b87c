"""`/metrics` for Prometheus, at a door of its own or in an application that answers more."""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry

from ..metrics.registry import CONTENT_TYPE, text
from .config import WebConfig
from .connection import Connections, keep_busy
from .door import Door, listening
from .origin import is_named_here, is_our_page

logger = logging.getLogger(__name__)

PATH = "/metrics"

_MOST_CONNECTIONS = 16
_PATIENCE = 10.0


@dataclass(frozen=True)
class MetricsConfig(WebConfig):
    """Where Prometheus asks. With a `key` it has to show that, as a bearer token (RFC 6750).

    Others than this machine need one: the numbers name neighbours and tell how busy everybody is.
    Without one, web pages that this machine's browser shows are told nothing.
    """

    key: str | None = field(default=None, repr=False)
    most_connections: int = _MOST_CONNECTIONS
    patience: float = _PATIENCE

    @property
    def required(self) -> bool:
        """See `Lock`."""
        return self.key is not None

    @property
    def advice(self) -> str:
        """See `Lock`."""
        return "Give one with --metrics-key (or HOMESWARM_METRICS_KEY)"


async def _nothing() -> None:
    return None


def handler(
    registry: CollectorRegistry, before: Callable[[], Awaitable[None]] = _nothing
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Answers with a registry's metrics; who may ask is for the application to say.

    `before` brings up to date what collectors cannot ask for themselves.
    """

    async def answer(request: web.Request) -> web.Response:
        await before()
        return web.Response(body=text(registry), headers={"Content-Type": CONTENT_TYPE})

    return answer


@asynccontextmanager
async def serving(
    door: Door[MetricsConfig],
    registry: CollectorRegistry,
    before: Callable[[], Awaitable[None]] = _nothing,
) -> AsyncIterator[None]:
    """Answers Prometheus at a door for the length of the block, and nobody anything else."""
    key = door.config.key
    shown = handler(registry, before)

    async def answer(request: web.Request) -> web.Response:
        if key is None:
            if not (is_named_here(request, (door.config.host.lower(),)) and is_our_page(request)):
                return web.Response(status=403, text="no web pages, and no other names\n")
        elif not _shows(request, key):
            return web.Response(
                status=401,
                text="show the key: Authorization: Bearer KEY\n",
                headers={"WWW-Authenticate": 'Bearer realm="homeswarm metrics"'},
            )
        return await shown(request)

    app = web.Application(middlewares=[keep_busy])
    app.router.add_get(PATH, answer)
    async with listening(app, door, Connections(door.config.most_connections)):
        logger.info("metrics served url=%s%s", door.url, PATH)
        yield


def _shows(request: web.Request, key: str) -> bool:
    kind, _, shown = request.headers.get("Authorization", "").partition(" ")
    # Bytes that are no UTF-8 come as lone surrogates.
    given = shown.strip().encode("utf-8", "surrogateescape")
    return kind.lower() == "bearer" and hmac.compare_digest(given, key.encode())
