"""The gateway as an aiohttp application: every endpoint, with one way of refusing."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from swarm.errors import SwarmError

from .answer import Answerer, Caller
from .body import read_body
from .config import GatewayConfig
from .endpoint import Call, Dialect, Endpoint
from .metrics import Metrics
from .observation import install, note, watched
from .refusals import Refusal, translate
from .request_id import begin_request

logger = logging.getLogger(__name__)


def create_app(
    endpoints: Iterable[Endpoint],
    answerer: Answerer,
    config: GatewayConfig,
    metrics: Metrics | None = None,
) -> web.Application:
    """An application that answers at these endpoints; `metrics` are told of each request."""
    app = web.Application(client_max_size=config.most_body)
    install(app, metrics or Metrics())
    for endpoint in endpoints:
        app.router.add_route(endpoint.method, endpoint.path, _handler(endpoint, answerer))
    return app


def _handler(endpoint: Endpoint, answerer: Answerer) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        name = begin_request()
        try:
            body = await read_body(request, endpoint.body) if endpoint.body else None
            mine = watched(request, answerer)
            response = await endpoint.handler(Call(request, body, Caller("local"), mine))
        except SwarmError as error:
            response = refused(note(request, translate(error)), endpoint.dialect)
        if not response.prepared:
            response.headers[endpoint.dialect.id_header] = name
        return response

    return handle


def refused(refusal: Refusal, dialect: Dialect) -> web.Response:
    """A refusal in an API's words."""
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
    return web.json_response(
        dialect.refuse(refusal), status=dialect.status(refusal), headers=headers
    )
