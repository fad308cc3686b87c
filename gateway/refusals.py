"""Why a request is not answered, in no API's words; the APIs put it into theirs."""

from __future__ import annotations

from enum import StrEnum

from swarm.errors import (
    ConfigError,
    MembershipError,
    NoRouteError,
    PeerError,
    RequestError,
    SwarmError,
)


class Reason(StrEnum):
    """What kind of refusal it is."""

    INVALID = "invalid"
    UNSUPPORTED = "unsupported"
    TOO_LONG = "too long"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    UNKNOWN_MODEL = "unknown model"
    NOT_FOUND = "not found"
    METHOD = "method"
    SLOW = "slow"
    TOO_LARGE = "too large"
    MEDIA_TYPE = "media type"
    BUSY = "busy"
    NO_ROUTE = "no route"
    STOPPING = "stopping"
    FAILED = "failed"


STATUSES = {
    Reason.INVALID: 400,
    Reason.UNSUPPORTED: 400,
    Reason.TOO_LONG: 400,
    Reason.UNAUTHORIZED: 401,
    Reason.FORBIDDEN: 403,
    Reason.UNKNOWN_MODEL: 404,
    Reason.NOT_FOUND: 404,
    Reason.METHOD: 405,
    Reason.SLOW: 408,
    Reason.TOO_LARGE: 413,
    Reason.MEDIA_TYPE: 415,
    Reason.BUSY: 429,
    Reason.NO_ROUTE: 503,
    Reason.STOPPING: 503,
    Reason.FAILED: 500,
}
"""The HTTP status of each, where an API has no others."""


class Refusal(SwarmError):
    """A request is not answered.

    `param` names the field of the request that is wrong, if one is. `retry_after`, in seconds, is
    when it may be worth trying again.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.param = param
        self.retry_after = retry_after


def invalid(message: str, param: str) -> Refusal:
    """What is said of a field whose value cannot be taken."""
    return Refusal(Reason.INVALID, message, param=param)


class TooLong(Refusal):
    """Prompt and reply do not fit into the model's context. All three are numbers of tokens."""

    def __init__(self, num_prompt: int, num_reply: int, limit: int, *, param: str) -> None:
        super().__init__(
            Reason.TOO_LONG,
            f"this model's context has room for {limit} tokens: the prompt has {num_prompt}, and"
            f" the reply is to have up to {num_reply}",
            param=param,
        )
        self.num_prompt = num_prompt
        self.num_reply = num_reply
        self.limit = limit


_NO_ROUTE_RETRY = 10.0
"""Seconds after which a gap may have been closed: peers look for gaps about as often."""


def translate(error: SwarmError) -> Refusal:
    """What an error from below means to one who has asked."""
    match error:
        case Refusal():
            return error
        case RequestError():
            return Refusal(Reason.INVALID, str(error))
        case NoRouteError() | PeerError():
            return Refusal(Reason.NO_ROUTE, str(error), retry_after=_NO_ROUTE_RETRY)
        case MembershipError():
            return Refusal(Reason.NO_ROUTE, f"the gateway is no member of the group: {error}")
        case ConfigError():
            return Refusal(Reason.FAILED, str(error))
        case _:
            return Refusal(Reason.FAILED, "the gateway failed")
