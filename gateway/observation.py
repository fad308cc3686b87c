"""Watches requests from arrival to end: a trace, metrics, and a line of the log for each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from .answer import Answer, Answerer, Caller, ModelCard
from .ask import Ask, Prompt
from .metrics import Metrics
from .refusals import Reason, Refusal
from .request_id import begin_request
from .trace import Trace

logger = logging.getLogger(__name__)

ANSWERED_BY = "X-Homeswarm-Answered-By"
TRACE = "X-Homeswarm-Trace"
"""Asks for the request's trace where a request has it with the value 1, and is where it is told."""

METRICS = web.AppKey("metrics", Metrics)

GONE = 499
"""The status in log and metrics of a request whose caller went away before the end."""

_TRACE = web.RequestKey("trace", Trace)


def install(app: web.Application, metrics: Metrics) -> None:
    """Has all requests to this application watched."""
    app[METRICS] = metrics
    app.middlewares.insert(0, _watch)
    app.on_response_prepare.append(_tell)


def watched(request: web.Request, answerer: Answerer) -> Answerer:
    """The same, for one request, whose trace it fills."""
    trace = request.get(_TRACE)
    if trace is None:
        return answerer
    return _Watched(answerer, trace)


def note(request: web.Request, refusal: Refusal) -> Refusal:
    """The same refusal; this request ends with it, perhaps in the middle of its answer."""
    if (trace := request.get(_TRACE)) is not None:
        trace.refusal = refusal
    return refusal


def news(request: web.Request) -> list[str]:
    """What lines in the middle of a stream tell now; nothing where nobody has asked for it."""
    trace = request.get(_TRACE)
    return [f"change {text}" for text in trace.news()] if trace and _wanted(request) else []


def last_words(request: web.Request) -> str | None:
    """What the last line of a stream tells; None where nobody has asked for it."""
    trace = request.get(_TRACE)
    if trace is None or not _wanted(request) or trace.answer is None:
        return None
    trace.ended = _now()
    return f"trace {trace.as_json()}"


@web.middleware
async def _watch(request: web.Request, handler: Handler) -> web.StreamResponse:
    resource = request.match_info.route.resource
    # What nobody serves has no name of its own: there are as many as callers make up.
    trace = Trace(resource.canonical if resource is not None else "", _now())
    trace.request = begin_request()
    request[_TRACE] = trace
    status = GONE
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as error:
        status = error.status
        raise
    except ConnectionError:
        status = GONE if trace.refusal is None else 500
        raise
    except Exception:
        status = 500
        raise
    finally:
        _end(request.app[METRICS], trace, status)


def _end(metrics: Metrics, trace: Trace, status: int) -> None:
    trace.ended = _now()
    metrics.note(trace, status)
    level = logging.INFO if trace.asked or trace.refusal is not None else logging.DEBUG
    if logger.isEnabledFor(level):
        logger.log(level, "request_done %s", trace.as_line(status))


async def _tell(request: web.Request, response: web.StreamResponse) -> None:
    """Headers, before they are sent: of a whole answer at its end, of a stream at its beginning."""
    trace = request.get(_TRACE)
    if trace is None or trace.answer is None:
        return
    response.headers[ANSWERED_BY] = trace.answer.source
    response.headers["Server-Timing"] = trace.server_timing()
    if _wanted(request) and isinstance(response, web.Response):
        trace.ended = _now()
        response.headers[TRACE] = trace.as_json()


def _wanted(request: web.Request) -> bool:
    return request.headers.get(TRACE) == "1"


class _Watched:
    """An answerer that notes on a trace what becomes of one request."""

    def __init__(self, answerer: Answerer, trace: Trace) -> None:
        self._answerer = answerer
        self._trace = trace

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        """See `Answerer.answering`."""
        trace = self._trace
        trace.caller = caller.name
        try:
            async with self._answerer.answering(ask, caller) as answer:
                trace.asked = ask.model
                if not trace.answers:
                    trace.begun = _now()
                trace.answers.append(answer)
                yield answer
        except Refusal as refusal:
            if refusal.reason is not Reason.UNKNOWN_MODEL:
                trace.asked = ask.model
            raise

    async def models(self) -> tuple[ModelCard, ...]:
        """See `Answerer.models`."""
        return await self._answerer.models()

    async def count(self, model: str, prompt: Prompt) -> int:
        """See `Answerer.count`."""
        return await self._answerer.count(model, prompt)


def _now() -> float:
    return asyncio.get_running_loop().time()
