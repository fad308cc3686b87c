"""Where Prometheus asks."""

from __future__ import annotations

from aiohttp import web

from .endpoint import Call, Endpoint
from .observation import METRICS
from .openai.dialect import OPENAI


async def _metrics(call: Call) -> web.StreamResponse:
    return await call.request.app[METRICS].answer(call.request)


ENDPOINTS = (
    Endpoint(
        "GET",
        "/metrics",
        "What this gateway has done, in Prometheus' text format",
        OPENAI,
        _metrics,
        answer=str,
    ),
)
