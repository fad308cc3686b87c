"""The gateway as an aiohttp application: every endpoint, with one way in and one of refusing."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from swarm.errors import SwarmError
from swarm.quoting import quoted
from swarm.web.connection import keep_busy

from .admission import Admission
from .answer import Answerer, Caller
from .anthropic.dialect import ANTHROPIC
from .body import read_body
from .config import GatewayConfig
from .cors import add_cors
from .endpoint import Call, Dialect, Endpoint
from .intake import Intake
from .keys import Keys
from .metrics import Metrics
from .observation import install, note, watched
from .openai.dialect import OPENAI
from .refusals import Reason, Refusal, translate
from .request_id import begin_request, request_id
from .traffic import Traffic

logger = logging.getLogger(__name__)

CALLER = web.RequestKey("caller", Caller)
STARTED = web.RequestKey("started", web.StreamResponse)
"""What a request remembers: its id, who asks, and the response that has been begun."""

OPEN = web.AppKey("open", set[web.AbstractResource | None])
"""What may be asked for without a key."""


def create_app(
    endpoints: Iterable[Endpoint],
    answerer: Answerer,
    config: GatewayConfig,
    keys: Keys | None = None,
    traffic: Traffic | None = None,
    metrics: Metrics | None = None,
) -> web.Application:
    """An application that answers at these endpoints those who may ask.

    `metrics` are told of each request.
    """
    endpoints = tuple(endpoints)
    admission = Admission(config, keys or Keys())
    front = _Front(endpoints, admission, config, traffic or Traffic())
    app = web.Application(client_max_size=config.most_body, middlewares=[keep_busy, front.answer])
    app.on_response_prepare.append(front.head)
    app[OPEN] = front.open
    install(app, metrics or Metrics())
    intake = Intake(config.most_body)
    for endpoint in endpoints:
        handler = _handler(endpoint, answerer, intake, config.patience)
        route = app.router.add_route(endpoint.method, endpoint.path, handler)
        if endpoint.method == "GET":
            app.router.add_route("HEAD", endpoint.path, handler)
        if endpoint.open:
            front.open.add(route.resource)
    return app


def _handler(endpoint: Endpoint, answerer: Answerer, intake: Intake, patience: float) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = None
        if endpoint.body is not None:
            packed = "Content-Encoding" in request.headers
            with intake.room(request[CALLER], None if packed else request.content_length):
                body = await read_body(request, endpoint.body, patience)
        mine = watched(request, answerer)
        return await endpoint.handler(Call(request, body, request[CALLER], mine))

    return handle


class _Front:
    """What every request passes: admission, one form of errors, an id."""

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        admission: Admission,
        config: GatewayConfig,
        traffic: Traffic,
    ) -> None:
        self._endpoints = endpoints
        self.open: set[web.AbstractResource | None] = set()
        self._admission = admission
        self._origins = config.origins
        self._traffic = traffic

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The answer to a request, whatever happens on the way."""
        try:
            with self._traffic.request():
                return await self._admitted(request, handler)
        except web.HTTPMethodNotAllowed as error:
            return self._other_method(request, error)
        except web.HTTPNotFound:
            refusal = Refusal(Reason.NOT_FOUND, f"there is nothing at {quoted(request.path)}")
        except web.HTTPException as error:
            refusal = Refusal(Reason.INVALID, error.reason)
        except SwarmError as error:
            refusal = translate(error)
        except ConnectionError:
            raise  # Who asked has gone.
        except Exception:
            logger.exception("request failed id=%s", request_id())
            refusal = Refusal(Reason.FAILED, "the gateway failed; its log says more")
        note(request, refusal)
        if STARTED in request:
            # What has begun as an answer cannot become another one, and must not seem whole.
            raise ConnectionResetError(f"broken off: {refusal}")
        return refused(refusal, self._dialect(request))

    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # Browsers ask what they may, without a key, before they ask.
        if request.method != "OPTIONS":
            is_open = request.match_info.route.resource in self.open
            request[CALLER] = self._admission.caller(request, open=is_open)
        return await handler(request)

    def _other_method(
        self, request: web.Request, error: web.HTTPMethodNotAllowed
    ) -> web.StreamResponse:
        allow = ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Allow": allow})
        refusal = Refusal(Reason.METHOD, f"{quoted(request.method)} is not one of {allow}")
        response = refused(refusal, self._dialect(request))
        response.headers["Allow"] = allow
        return response

    def _dialect(self, request: web.Request) -> Dialect:
        """The API that is spoken here, or that who asks seems to mean."""
        if "anthropic-version" in request.headers:
            return ANTHROPIC
        path = request.path
        near = (e for e in self._endpoints if path == e.path or path.startswith(f"{e.path}/"))
        return next((endpoint.dialect for endpoint in near), OPENAI)

    async def head(self, request: web.Request, response: web.StreamResponse) -> None:
        """Adds what every answer's head says, when it begins."""
        request[STARTED] = response
        response.headers[self._dialect(request).id_header] = request_id()
        response.headers["Server"] = "homeswarm"  # Not which versions of what.
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        add_cors(request, response, self._origins)


def refused(refusal: Refusal, dialect: Dialect) -> web.Response:
    """A refusal in an API's words."""
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after)))
    if refusal.reason is Reason.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return web.json_response(
        dialect.refuse(refusal), status=dialect.status(refusal), headers=headers
    )


def no_request(status: int, text: str) -> web.Response:
    """What is said to one who does not speak HTTP, whom no application answers."""
    reason = Reason.INVALID if status < 500 else Reason.FAILED
    response = refused(Refusal(reason, text), OPENAI)
    response.headers[OPENAI.id_header] = begin_request()
    return response
