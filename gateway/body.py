"""A request's body, read within limits and checked field by field."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from swarm.quoting import quoted, shortened

from .refusals import Reason, Refusal

Body = TypeVar("Body", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`", re.DOTALL)
_UNKNOWN_TYPE = re.compile(r"Invalid value '(?P<value>.*)'", re.DOTALL)
_UNKNOWN_VALUE = re.compile(r"Invalid enum value '(?P<value>.*)'", re.DOTALL)
_NOT_NULL = re.compile(r"Expected `null`, got `[^`]*`")
_PLACE = re.compile(r" - at (?:`(?:key|\.\.\.)` in )?`\$\.?(?P<place>[^`]*)`$")

_MOST_PARTS = 1 << 17
"""Objects and arrays in a body: those of eight megabytes would take seconds to make, in which
nothing else goes on. The longest conversations have fewer."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""One without an end goes on to the end of the body: nothing is looked at twice."""

_NONE: Mapping[str, str] = {}


async def read_body(request: web.Request, kind: type[Body], patience: float) -> Body:
    """The request's JSON as a `kind`; raises `Refusal` where it is none.

    It must be here within `patience` seconds, whatever trickles in meanwhile.
    """
    if request.content_type != "application/json":
        # A page in a browser can post other types to this machine without asking anybody.
        raise Refusal(Reason.MEDIA_TYPE, "the body must be application/json")
    limit = request.client_max_size
    too_large = Refusal(Reason.TOO_LARGE, f"the body is larger than {limit} bytes")
    if (request.content_length or 0) > limit:
        raise too_large
    try:
        async with asyncio.timeout(patience):
            raw = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise too_large from error
    except TimeoutError as error:
        text = f"the body did not come within {patience:g} s"
        raise Refusal(Reason.SLOW, text) from error
    except web.RequestPayloadError as error:
        raise Refusal(Reason.INVALID, f"the body cannot be read: {error}") from error
    if raw.count(b"{") + raw.count(b"[") > _MOST_PARTS:
        await asyncio.to_thread(_check_parts, raw)
    return parse(raw, kind)


def _check_parts(raw: bytes) -> None:
    """Raises `Refusal` for too many objects and arrays; those within strings are none."""
    num_parts = at = 0
    for string in _STRING.finditer(raw):
        num_parts += raw.count(b"{", at, string.start()) + raw.count(b"[", at, string.start())
        at = string.end()
    if num_parts + raw.count(b"{", at) + raw.count(b"[", at) > _MOST_PARTS:
        text = f"the body has more than {_MOST_PARTS} objects and arrays"
        raise Refusal(Reason.TOO_LARGE, text)


def parse(raw: bytes, kind: type[Body]) -> Body:
    """JSON text as a `kind`; raises `Refusal` that names the field at fault.

    A field of type None takes null alone: it is known, and not supported. `kind.HINTS`, where there
    is such a mapping, says of names of fields and values that are not supported what to do instead.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), hints=getattr(kind, "HINTS", {})) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(Reason.INVALID, f"the body is no valid JSON: {error}") from error


def convert(value: Any, kind: type[Body], place: str = "", *, strict: bool = True) -> Body:
    """What JSON was decoded to as a `kind`; raises `Refusal` that names the field, in `place`.

    Where it is not `strict`, text may stand for numbers, as in a query. For `HINTS` see `parse`.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), place, getattr(kind, "HINTS", _NONE)) from error


def unsupported(param: str, value: Any = None, hint: str | None = None) -> Refusal:
    """The refusal of a field, or of one value of it, that an API has and this gateway has not."""
    what = quoted(param) if value is None else f"{quoted(param)}: {quoted(value)}"
    instead = f": {hint}" if hint else ""
    return Refusal(Reason.UNSUPPORTED, f"{what} is not supported{instead}", param=param)


def _refusal(text: str, within: str = "", hints: Mapping[str, str] = _NONE) -> Refusal:
    found = _PLACE.search(text)
    param = shortened(_joined(within, found["place"] if found else ""))
    what = shortened(_PLACE.sub("", text))
    if unknown := _UNKNOWN.fullmatch(what):
        name = unknown["field"]
        return unsupported(shortened(_joined(param, name)), hint=hints.get(name))
    if unknown := _UNKNOWN_TYPE.fullmatch(what):
        return unsupported(param, unknown["value"], hints.get(unknown["value"]))
    if unknown := _UNKNOWN_VALUE.fullmatch(what):
        refusal = unsupported(param, unknown["value"], hints.get(unknown["value"]))
        # One that nothing is known of is a mistake sooner than a wish.
        refusal.reason = refusal.reason if unknown["value"] in hints else Reason.INVALID
        return refusal
    if _NOT_NULL.fullmatch(what):  # the field is known, and nothing that it could be asked for is
        return unsupported(param, hint=hints.get(param.rpartition(".")[2]))
    if missing := _MISSING.fullmatch(what):
        param = shortened(_joined(param, missing["field"]))
        return Refusal(Reason.INVALID, f"{quoted(param)} is missing", param=param)
    where = f"{quoted(param)}: " if param else ""
    return Refusal(Reason.INVALID, where + what, param=param or None)


def _joined(outer: str, inner: str) -> str:
    return f"{outer}.{inner}" if outer and inner and inner[0] != "[" else outer + inner
