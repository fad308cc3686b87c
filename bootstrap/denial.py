"""What the authority says instead of doing what it was asked."""

from __future__ import annotations

from swarm.errors import RequestError
from swarm.wire.enrolment import Decline


class NotGranted(RequestError):
    """The authority does not do it: `why` for programs, the message for people."""

    def __init__(self, why: Decline, message: str) -> None:
        self.why = why
        super().__init__(message)
