"""A request's body, read within limits and checked field by field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from aiohttp import web

from swarm.quoting import quoted

from .refusals import Reason, Refusal

Body = TypeVar("Body", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")


async def read_body(request: web.Request, kind: type[Body]) -> Body:
    """The request's JSON as a `kind`; raises `Refusal` where it is none."""
    if request.content_type != "application/json":
        # A page in a browser can post other types to this machine without asking anybody.
        raise Refusal(Reason.MEDIA_TYPE, "the body must be application/json")
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal(Reason.TOO_LARGE, f"the body is larger than {error.text}") from error
    return parse(raw, kind)


def parse(raw: bytes, kind: type[Body]) -> Body:
    """JSON text as a `kind`; raises `Refusal` that names the field at fault."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(Reason.INVALID, f"the body is no valid JSON: {error}") from error


def _refusal(text: str) -> Refusal:
    place = _PLACE.search(text)
    param = place["place"] if place else ""
    what = _PLACE.sub("", text)
    if unknown := _UNKNOWN.fullmatch(what):
        param = f"{param}.{unknown['field']}" if param else unknown["field"]
        return Refusal(Reason.UNSUPPORTED, f"{quoted(param)} is not supported", param=param)
    where = f"{quoted(param)}: " if param else ""
    return Refusal(Reason.INVALID, where + what, param=param or None)
