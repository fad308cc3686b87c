"""Versions of Anthropic's API (https://platform.claude.com/docs/en/api/versioning).

A request names one in its header `anthropic-version`; one that names none may use what any has.
"""

from __future__ import annotations

from enum import StrEnum

from aiohttp import web

from swarm.quoting import quoted

from ..body import unsupported
from ..refusals import Reason, Refusal
from .body import MessagesBody


class Version(StrEnum):
    """Those that mean by the same words what this gateway does."""

    FIRST = "2023-06-01"
    SECOND = "2026-10-21"


REMOVED = {Version.FIRST: (), Version.SECOND: ("temperature", "top_p", "top_k")}
"""The fields that a version has no more, whatever is in them."""


def version_of(request: web.Request) -> Version:
    """The version that a request is in. Raises `Refusal` for any other."""
    name = request.headers.get("anthropic-version", Version.FIRST)
    try:
        return Version(name)
    except ValueError:
        known = ", ".join(Version)
        message = f"{quoted(name)} is not a version; there are: {known}"
        raise Refusal(Reason.INVALID, message, param="anthropic-version") from None


def check_fields(version: Version, body: MessagesBody) -> None:
    """Raises `Refusal` for a field that this version has no more."""
    for field in REMOVED[version]:
        if getattr(body, field) is not None:
            raise unsupported(field)
