"""A request's body, read within limits and checked field by field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from aiohttp import web

from swarm.quoting import quoted, shortened

from .refusals import Reason, Refusal

Body = TypeVar("Body", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_VALUE = re.compile(r"Invalid (?:enum )?value (?P<value>.*)", re.DOTALL)
_NOTHING = re.compile(r"Expected `null`, got .*")
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
        return _unsupported(_within(param, unknown["field"]))
    if _NOTHING.fullmatch(what):
        # A field that bodies have for the sake of those who send null for what they leave out.
        return _unsupported(param)
    if missing := _MISSING.fullmatch(what):
        param = _within(param, missing["field"])
        return Refusal(Reason.INVALID, f"{quoted(param)} is missing", param=param)
    if value := _VALUE.fullmatch(what):
        what = f"{shortened(value['value'])} is not supported"
    where = f"{quoted(param)}: " if param else ""
    return Refusal(Reason.INVALID, where + shortened(what), param=param or None)


def _unsupported(param: str) -> Refusal:
    return Refusal(Reason.UNSUPPORTED, f"{quoted(param)} is not supported", param=param)


def _within(place: str, field: str) -> str:
    return shortened(f"{place}.{field}" if place else field)
