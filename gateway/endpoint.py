"""One path of the gateway: what it takes, who answers it, and in whose words it refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from aiohttp import web

from .answer import Answerer, Caller
from .refusals import Refusal


class Dialect(Protocol):
    """How an API says no, and what all of its answers have in common.

    `id_header` is where an answer says what its request is called. A stream sends `idle` while
    nothing else comes, so that nobody on the way takes it for dead. `error` describes what says no.
    """

    name: str
    id_header: str
    idle: bytes
    error: type[msgspec.Struct]

    def status(self, refusal: Refusal) -> int:
        """The HTTP status of an answer that says so."""

    def refuse(self, refusal: Refusal) -> dict[str, Any]:
        """The body of an answer, or of an event in a stream, that says so."""


@dataclass(frozen=True)
class Call:
    """One request at an endpoint. `body` is an instance of the endpoint's `body`, or None."""

    request: web.Request
    body: Any
    caller: Caller
    answerer: Answerer


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Endpoint:
    """A method and a path, such as `/v1/models/{model}`.

    `body` is the type of what is sent, `answer` of what comes back, both described by their fields;
    `events` are the types of a stream's events, where it may be one. `open` ones need no key.
    """

    method: str
    path: str
    summary: str
    dialect: Dialect
    handler: Handler
    body: type[msgspec.Struct] | None = None
    answer: Any = None
    events: Any = None
    open: bool = False


def whole(answer: msgspec.Struct) -> web.Response:
    """An answer that comes at once, as JSON."""
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
