"""How Anthropic's API says no (https://docs.anthropic.com/en/api/errors)."""

from __future__ import annotations

from typing import Any

from ..refusals import Reason, Refusal

TYPES = {
    Reason.INVALID: "invalid_request_error",
    Reason.UNSUPPORTED: "invalid_request_error",
    Reason.TOO_LONG: "invalid_request_error",
    Reason.UNAUTHORIZED: "authentication_error",
    Reason.FORBIDDEN: "permission_error",
    Reason.UNKNOWN_MODEL: "not_found_error",
    Reason.NOT_FOUND: "not_found_error",
    Reason.METHOD: "invalid_request_error",
    Reason.TOO_LARGE: "request_too_large",
    Reason.MEDIA_TYPE: "invalid_request_error",
    Reason.BUSY: "rate_limit_error",
    Reason.NO_ROUTE: "overloaded_error",
    Reason.FAILED: "api_error",
}
"""The `type` of each refusal."""


class AnthropicDialect:
    """Errors as `{"type": "error", "error": {"type", "message"}}`."""

    name = "anthropic"

    def refuse(self, refusal: Refusal) -> dict[str, Any]:
        """See `Dialect.refuse`."""
        return {
            "type": "error",
            "error": {"type": TYPES[refusal.reason], "message": str(refusal)},
        }


ANTHROPIC = AnthropicDialect()
