"""A request's body, read within limits and checked field by field."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from swarm.quoting import quoted, shortened

from .refusals import Reason, Refusal

Body = TypeVar("Body", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`", re.DOTALL)
_UNKNOWN_TYPE = re.compile(r"Invalid value (?P<value>'.*')", re.DOTALL)
_NOT_NULL = re.compile(r"Expected `null`, got `[^`]*`")
_PLACE = re.compile(r" - at (?:`(?:key|\.\.\.)` in )?`\$\.?(?P<place>[^`]*)`$")


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


def convert(value: Any, kind: type[Body], place: str = "", *, strict: bool = True) -> Body:
    """What JSON was decoded to as a `kind`; raises `Refusal` that names the field, in `place`.

    Where it is not `strict`, text may stand for numbers, as in a query.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), place) from error


def unsupported(param: str, value: Any = None) -> Refusal:
    """The refusal of a field, or of one value of it, that an API has and this gateway has not."""
    what = quoted(param) if value is None else f"{quoted(param)}: {quoted(value)}"
    return Refusal(Reason.UNSUPPORTED, f"{what} is not supported", param=param)


def _refusal(text: str, within: str = "") -> Refusal:
    found = _PLACE.search(text)
    param = shortened(_joined(within, found["place"] if found else ""))
    what = shortened(_PLACE.sub("", text))
    if unknown := _UNKNOWN.fullmatch(what):
        return unsupported(shortened(_joined(param, unknown["field"])))
    if unknown := _UNKNOWN_TYPE.fullmatch(what):
        return unsupported(param, unknown["value"][1:-1])
    if _NOT_NULL.fullmatch(what):  # the field is known, and nothing that it could be asked for is
        return unsupported(param)
    if missing := _MISSING.fullmatch(what):
        param = shortened(_joined(param, missing["field"]))
        return Refusal(Reason.INVALID, f"{quoted(param)} is missing", param=param)
    where = f"{quoted(param)}: " if param else ""
    return Refusal(Reason.INVALID, where + what, param=param or None)


def _joined(outer: str, inner: str) -> str:
    return f"{outer}.{inner}" if outer and inner and inner[0] != "[" else outer + inner
