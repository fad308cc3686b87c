"""One open hop of a session: the link to it, its name for the session, and what it was asked."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from swarm.errors import PeerError, Unreachable
from swarm.transport.link import Link
from swarm.wire.fields import Message
from swarm.wire.messages import KEY_LEN, AnyMessage, Close, Hold, Open, Queued

from .progress import Mark
from .route import Hop

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class OpenHop:
    """A hop and the link to it; `session` is the hop's own name for the session.

    A hop that is `leaving` still serves, but is to be replaced. One with a `mark` was filled
    outside the chain, and may keep only what that says. Under `key` it commits itself to what it
    does.
    """

    hop: Hop
    link: Link
    session: str = field(default_factory=lambda: secrets.token_hex(16))
    key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_LEN), repr=False)
    opened: bool = False
    leaving: bool = False
    mark: Mark | None = None
    on_close: list[Callable[[], None]] = field(default_factory=list)
    _asked: asyncio.Future[AnyMessage] | None = None
    _epoch: int = 0
    _deadline: asyncio.Timeout | None = None
    _patience_in_queue: float = 0.0

    async def ask(self, request: Open | Hold, patience: float) -> AnyMessage:
        """The answer to a request.

        Raises `Unreachable` after `patience` seconds without one. A hop that has said that the
        session is queued may take as long as the request allows it.
        """
        self._asked = asyncio.get_running_loop().create_future()
        self._epoch = request.epoch
        self._patience_in_queue = request.patience + patience if isinstance(request, Open) else 0.0
        try:
            self.link.attend(patience)
            self.link.post(request)
            async with asyncio.timeout(patience) as self._deadline:
                return await self._asked
        except TimeoutError as error:
            raise Unreachable(self.hop.peer, f"no answer within {patience:g} s") from error
        finally:
            self._asked = self._deadline = None

    def answer(self, message: AnyMessage) -> bool:
        """Hands a message to whoever waits for the answer; False if nobody does.

        What an earlier epoch complained of may still be on its way, and is no answer.
        """
        if self._asked is None or self._asked.done():
            return False
        if getattr(message, "epoch", None) != self._epoch:
            return False
        if isinstance(message, Queued):
            if self._deadline is not None and self._patience_in_queue:
                now = asyncio.get_running_loop().time()
                self._deadline.reschedule(now + self._patience_in_queue)
                self._patience_in_queue = 0.0
            return True
        self._asked.set_result(message)
        return True

    def fail(self, error: PeerError) -> None:
        """Whoever waits for an answer gets this error instead."""
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error)

    def tell(self, message: Message) -> None:
        """Sends what needs no answer; if the link has ended, that is noticed elsewhere."""
        try:
            self.link.post(message)
        except PeerError as error:
            logger.debug("not told peer=%s why=%s", self.hop.peer, error)

    def close(self) -> None:
        """Tells the hop to free the session, and whoever waits for something of it."""
        for told in list(self.on_close):
            told()
        self.tell(Close(self.session))
