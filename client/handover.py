"""Hops that are to take over from others which leave: filled while these still serve.

The hop before the one that leaves sends its history to the heir as well as its outputs to the one
that leaves. When the heir has come as far as the session, the chain is mended as after a death,
except that nearly nothing is lacking: the session is held up for two round trips.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace

from swarm.background import together
from swarm.errors import PeerError, SessionLost
from swarm.session.feed import Feed
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.wire.messages import AnyMessage, Copy, Failed, Leaving, Next, Output, Wire

from .chain import Chain
from .config import SessionConfig
from .exchange import Exchange
from .hop import OpenHop
from .model_key import ModelKey
from .progress import Lengths, Progress, Standing
from .router import Router

logger = logging.getLogger(__name__)


class Handover:
    """Heirs for the hops of a chain that are leaving. Used once; `give_up` ends it early.

    The last of each run of heirs reports to the client when it has computed everything: so it is
    known when they are ready.
    """

    def __init__(
        self, chain: Chain, key: ModelKey, router: Router, exchange: Exchange, config: SessionConfig
    ) -> None:
        self._chain = chain
        self._key = key
        self._router = router
        self._exchange = exchange
        self._config = config
        self._epoch = chain.epoch
        self._hops: list[OpenHop] = []
        self._heirs: list[OpenHop] = []
        # Names under which runs of heirs report, and the rows that they still lack.
        self._reports: dict[str, set[int]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def prepare(self, progress: Progress, feed: Feed) -> None:
        """Opens the heirs and fills them; returns when they have come as far as the session has.

        Raises `NoRouteError` if nobody could take over, or what keeps a heir from it.
        """
        chain, lengths = self._chain, feed.history.lengths
        # The hop that fills a heir may lag behind our generation: the heir is of its generation.
        standing = replace(progress.standing(lengths), generation=0)
        staying = [hop for hop in chain.hops if not hop.leaving]
        leaving = frozenset(hop.hop.peer for hop in chain.hops if hop.leaving)
        positions = standing.positions * len(standing.lengths)
        kept = [hop.hop for hop in staying]
        route = await self._router.route(self._key, kept, positions, leaving)
        known = {hop.hop: hop for hop in staying}
        self._heirs = await chain.link([hop for hop in route if hop not in known])
        fresh = iter(self._heirs)
        self._hops = [known.get(hop) or next(fresh) for hop in route]
        for heir in self._heirs:
            self._exchange.register(heir.session, self)
            heir.mark = progress.mark(lengths)
        await together(chain.open(heir, standing) for heir in self._heirs)
        if chain.epoch != self._epoch:
            return  # Mended meanwhile: nobody would fill them.
        await self._fill(standing, feed)
        chunks = 2 + max(standing.lengths) / self._config.chunk_len
        seconds = self._config.chunk_len * sum(heir.hop.prefill_seconds for heir in self._heirs)
        try:
            async with asyncio.timeout(self._config.step_patience + 4 * chunks * seconds):
                await self._ready
        except TimeoutError:
            # A history that has been dropped is not copied. What is lacking comes when the chain
            # is mended, from further back.
            logger.info("heirs not filled in time number=%d", len(self._heirs))

    def adopt(self) -> bool:
        """Puts the heirs into the chain, which is to be built anew; False if they came too late."""
        chain = self._chain
        if chain.epoch != self._epoch or not chain.wired or any(h.link.closed for h in self._heirs):
            return False
        for hop in [hop for hop in chain.hops if hop not in self._hops]:
            chain.lose(hop)
        chain.hops, chain.wired = self._hops, False
        self._hops, self._heirs = [], []
        return True

    def give_up(self) -> None:
        """Closes heirs that were not adopted; may be called again."""
        for name in self._reports:
            self._exchange.unregister(name)
        for heir in self._heirs:
            self._chain.drop(heir)
            # Its answer would find nobody: whoever waits would blame the peer for it.
            heir.fail(SessionLost(heir.hop.peer, "the session there was given up"))
        self._heirs = []
        if not self._ready.cancel() and not self._ready.cancelled():
            self._ready.exception()  # Nobody may have come to wait for it.

    # What comes in from the heirs

    def on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        """One message from a heir."""
        if isinstance(message, Output):
            self._reports.get(message.session, set()).difference_update(
                span.row for span in message.rows
            )
            if not any(self._reports.values()) and not self._ready.done():
                self._ready.set_result(None)
            return
        heir = next((h for h in self._heirs if h.session == getattr(message, "session", "")), None)
        if heir is None or heir.link is not link or heir.answer(message):
            return
        if isinstance(message, Leaving):
            heir.leaving = True  # It serves for now; once adopted, it is handed over in its turn.
        if isinstance(message, Failed):
            self._fail(SessionLost(heir.hop.peer, message.message))

    def on_lost(self, link: Link, error: PeerError) -> None:
        """A link has ended; a heir on it cannot take over."""
        for heir in self._heirs:
            if heir.link is link:
                heir.fail(error)
                self._fail(error)

    def _fail(self, error: PeerError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    # Filling

    async def _fill(self, standing: Standing, feed: Feed) -> None:
        """Has every heir fed by the hop before it, or by the client where there is none."""
        nothing: Lengths = (0,) * len(standing.lengths)
        before: OpenHop | None = None
        ours: Next | None = None
        for index, hop in enumerate(self._hops):
            if hop in self._heirs:
                next_ = Next(
                    hop.hop.peer, hop.session, hop.hop.addresses, nothing, standing.settled
                )
                if before is None:
                    ours = next_
                else:
                    self._have_fed(before, next_)
                if index + 1 == len(self._hops) or self._hops[index + 1] not in self._heirs:
                    self._expect(hop, standing.lengths)
            before = hop
        if ours is not None:
            link = self._hops[0].link
            for message, payload in feed.copy(self._epoch, ours):
                await link.room()
                if self._chain.epoch != self._epoch:
                    return  # Mended meanwhile: they are not filled any further.
                link.post(message, payload)

    def _have_fed(self, before: OpenHop, next_: Next) -> None:
        kind = Wire if before in self._heirs else Copy
        before.link.post(kind(before.session, self._epoch, next_))

    def _expect(self, heir: OpenHop, lengths: Lengths) -> None:
        """The last of a run of heirs reports the last position of each row."""
        name = secrets.token_hex(16)
        self._exchange.register(name, self)
        self._reports[name] = {row for row, length in enumerate(lengths) if length}
        has = tuple(max(0, length - 1) for length in lengths)
        heir.link.post(Wire(heir.session, self._epoch, Next(None, name, has=has)))
