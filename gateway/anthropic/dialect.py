"""How Anthropic's API says no (https://docs.anthropic.com/en/api/errors)."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from swarm.quoting import quoted

from ..refusals import STATUSES, Reason, Refusal, TooLong
from ..request_id import request_id

TYPES = {
    Reason.INVALID: "invalid_request_error",
    Reason.UNSUPPORTED: "invalid_request_error",
    Reason.TOO_LONG: "invalid_request_error",
    Reason.UNAUTHORIZED: "authentication_error",
    Reason.FORBIDDEN: "permission_error",
    Reason.UNKNOWN_MODEL: "not_found_error",
    Reason.NOT_FOUND: "not_found_error",
    Reason.METHOD: "invalid_request_error",
    Reason.SLOW: "invalid_request_error",
    Reason.TOO_LARGE: "request_too_large",
    Reason.MEDIA_TYPE: "invalid_request_error",
    Reason.BUSY: "rate_limit_error",
    Reason.NO_ROUTE: "overloaded_error",
    Reason.STOPPING: "overloaded_error",
    Reason.FAILED: "api_error",
}
"""The `type` of each refusal."""

DETAILS = {"thread": {"error_code": "thread_unsupported_request"}}
"""What clients read where a field is refused, to go on without it: tool runners try for a thread
first, and then send all of the conversation each time."""

_INDEX = re.compile(r"\[(\d+)\]")
"""Anthropic writes `messages.0.role` for `messages[0].role`."""

_OVERLOADED = 529
"""A status of Anthropic's own: its clients wait and try again, as a gap in the swarm asks for."""


class AnthropicError(msgspec.Struct, frozen=True):
    """What an error says, and for some, in `details`, what to do without."""

    type: str
    message: str
    details: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class AnthropicErrorBody(msgspec.Struct, frozen=True):
    """The body of an answer that is an error."""

    type: Literal["error"]
    error: AnthropicError
    request_id: str


class AnthropicDialect:
    """Errors as `{"type": "error", "error": {"type", "message"}, "request_id"}`."""

    name = "anthropic"
    error: type[msgspec.Struct] = AnthropicErrorBody
    id_header = "request-id"
    idle = b'event: ping\ndata: {"type":"ping"}\n\n'

    def status(self, refusal: Refusal) -> int:
        """See `Dialect.status`."""
        status = STATUSES[refusal.reason]
        return _OVERLOADED if status == 503 else status

    def refuse(self, refusal: Refusal) -> dict[str, Any]:
        """See `Dialect.refuse`."""
        error: dict[str, Any] = {"type": TYPES[refusal.reason], "message": _message(refusal)}
        if refusal.reason is Reason.UNSUPPORTED and refusal.param in DETAILS:
            error["details"] = DETAILS[refusal.param]
        return {"type": "error", "error": error, "request_id": request_id()}


def _message(refusal: Refusal) -> str:
    """As Anthropic words it: the field comes first.

    Clients read the numbers of what is too long out of the text: after the one message they ask for
    fewer tokens, after the other they shorten the conversation.
    """
    if isinstance(refusal, TooLong):
        if refusal.num_prompt >= refusal.limit:
            return f"prompt is too long: {refusal.num_prompt} tokens > {refusal.limit} maximum"
        return (
            "input length and `max_tokens` exceed context limit:"
            f" {refusal.num_prompt} + {refusal.num_reply} > {refusal.limit},"
            " decrease input length or `max_tokens` and try again"
        )
    if refusal.param is None:
        return str(refusal)
    said = str(refusal).removeprefix(quoted(refusal.param)).lstrip(": ")
    if said == "is not supported":
        said = "Extra inputs are not permitted"
    place = _INDEX.sub(r".\1", refusal.param)
    return f"{place}: {said}"


ANTHROPIC = AnthropicDialect()
