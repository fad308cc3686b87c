"""How OpenAI's API says no (https://platform.openai.com/docs/guides/error-codes)."""

from __future__ import annotations

from typing import Any

import msgspec

from ..refusals import STATUSES, Reason, Refusal

TYPES = {
    Reason.INVALID: "invalid_request_error",
    Reason.UNSUPPORTED: "invalid_request_error",
    Reason.TOO_LONG: "invalid_request_error",
    Reason.UNAUTHORIZED: "invalid_request_error",
    Reason.FORBIDDEN: "invalid_request_error",
    Reason.UNKNOWN_MODEL: "invalid_request_error",
    Reason.NOT_FOUND: "invalid_request_error",
    Reason.METHOD: "invalid_request_error",
    Reason.SLOW: "invalid_request_error",
    Reason.TOO_LARGE: "invalid_request_error",
    Reason.MEDIA_TYPE: "invalid_request_error",
    Reason.BUSY: "rate_limit_error",
    Reason.NO_ROUTE: "service_unavailable_error",
    Reason.STOPPING: "service_unavailable_error",
    Reason.FAILED: "server_error",
}
"""The `type` of each refusal."""

CODES = {
    Reason.UNSUPPORTED: "unsupported_parameter",
    Reason.TOO_LONG: "context_length_exceeded",
    Reason.UNAUTHORIZED: "invalid_api_key",
    Reason.UNKNOWN_MODEL: "model_not_found",
    Reason.BUSY: "rate_limit_exceeded",
    Reason.NO_ROUTE: "no_route",
}
"""The `code` of each that has one."""


class OpenAIError(msgspec.Struct, frozen=True):
    """What an error says."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorBody(msgspec.Struct, frozen=True):
    """The body of an answer that is an error."""

    error: OpenAIError


class OpenAIDialect:
    """Errors as `{"error": {"message", "type", "param", "code"}}`."""

    name = "openai"
    error: type[msgspec.Struct] = OpenAIErrorBody
    id_header = "x-request-id"
    idle = b": idle\n\n"

    def status(self, refusal: Refusal) -> int:
        """See `Dialect.status`."""
        return STATUSES[refusal.reason]

    def refuse(self, refusal: Refusal) -> dict[str, Any]:
        """See `Dialect.refuse`."""
        return {
            "error": {
                "message": str(refusal),
                "type": TYPES[refusal.reason],
                "param": refusal.param,
                "code": CODES.get(refusal.reason),
            }
        }


OPENAI = OpenAIDialect()
