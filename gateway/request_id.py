"""What a request is called, in its answer and wherever it is spoken of."""

from __future__ import annotations

import secrets
from contextvars import ContextVar

_current: ContextVar[str] = ContextVar("request_id")


def begin_request() -> str:
    """Names the request that this task answers from now on. One connection's share a task."""
    name = f"req_{secrets.token_hex(12)}"
    _current.set(name)
    return name


def request_id() -> str:
    """The name of the request that this task, or the one which started it, answers."""
    try:
        return _current.get()
    except LookupError:
        return begin_request()
