"""What both ends of a link say of the link itself: who they are, and that they are still there."""

from __future__ import annotations

from typing import Annotated

import msgspec

from swarm.errors import Lapse

from ..membership.certificate import MAX_CREDENTIAL
from .fields import Counter, Message, Text


class Hello(Message, frozen=True, tag="hello"):
    """First on every link: the credential of who has opened it, then of who has accepted it."""

    credential: Annotated[bytes, msgspec.Meta(max_length=MAX_CREDENTIAL)]
    version: Text = ""


class Denied(Message, frozen=True, tag="denied"):
    """Ends a link: what was shown is the group's, but does not hold any more."""

    lapse: Lapse


class Renewed(Message, frozen=True, tag="renewed"):
    """The sender's new credential, in place of the one before."""

    credential: Annotated[bytes, msgspec.Meta(max_length=MAX_CREDENTIAL)]


class Revoked(Message, frozen=True, tag="revoked"):
    """The payload is a list of revocations, signed by an authority."""


class Ping(Message, frozen=True, tag="ping"):
    """Asks for a sign of life."""

    number: Counter


class Pong(Message, frozen=True, tag="pong"):
    """Answers a `Ping`."""

    number: Counter


LinkMessage = Hello | Denied | Renewed | Revoked | Ping | Pong
