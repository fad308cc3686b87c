"""Which session each incoming message is for."""

from __future__ import annotations

import logging
from typing import Protocol

from swarm.errors import PeerError
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.wire.messages import AnyMessage, Failed, Held, Leaving, Opened, Output, Queued, Step

logger = logging.getLogger(__name__)


class Receiver(Protocol):
    """A session, as messages reach it."""

    def on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        """One message for this session."""

    def on_lost(self, link: Link, error: PeerError) -> None:
        """A link, perhaps of this session, has ended."""


class Exchange:
    """Receivers by the names under which they are addressed."""

    def __init__(self) -> None:
        self._receivers: dict[str, Receiver] = {}

    def register(self, name: str, receiver: Receiver) -> None:
        """Messages with this session name go to `receiver` from now on."""
        self._receivers[name] = receiver

    def unregister(self, name: str) -> None:
        """Messages with this name are dropped from now on."""
        self._receivers.pop(name, None)

    async def on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        """Hands a message on; what is for nobody came too late and is dropped."""
        match message:
            case Output() | Queued() | Opened() | Held() | Leaving() | Failed() | Step():
                receiver = self._receivers.get(message.session)
                if receiver is not None:
                    receiver.on_message(link, message, payload)
                else:
                    link.charge()
            case _:
                logger.debug("message dropped kind=%s peer=%s", type(message).__name__, link.peer)

    def on_lost(self, link: Link, error: PeerError) -> None:
        """Tells every session that a link has ended."""
        for receiver in set(self._receivers.values()):
            receiver.on_lost(link, error)
