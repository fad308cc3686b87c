"""The open hops of one session: asked, wired, mended and closed here.

Mending keeps every hop that works. It takes two round trips: hold the survivors and open the
replacements (each says what it holds), then wire each hop to the next one and to what that one
lacks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.errors import (
    Busy,
    LocalProtocolError,
    Misbehaved,
    PeerError,
    RequestError,
    SessionLost,
    Unreachable,
)
from swarm.transport.link import Link
from swarm.wire.messages import (
    AnyMessage,
    Close,
    Code,
    DType,
    Failed,
    Held,
    Hold,
    Next,
    Open,
    Opened,
    Wire,
)

from .config import SessionConfig
from .exchange import Exchange, Receiver
from .model_key import ModelKey
from .route import Hop
from .router import Router

logger = logging.getLogger(__name__)

Lengths = tuple[int, ...]


@dataclass(frozen=True)
class Standing:
    """Where a session stands when its chain is (re)built, row by row.

    `lengths` have been sent by the client, `settled` have come out of the last hop. A hop that has
    not seen the newest `generation` may keep `keep`. Room is asked for `positions` per row.
    """

    generation: int
    lengths: Lengths
    settled: Lengths
    keep: Lengths
    positions: int


@dataclass(eq=False)
class OpenHop:
    """A hop, the link to it, and the hop's own name for the session."""

    hop: Hop
    link: Link
    session: str = field(default_factory=lambda: secrets.token_hex(16))
    opened: bool = False
    asked: asyncio.Future[AnyMessage] | None = None


class Chain:
    """The hops of one session, in order. `name` is the client's own name for the session."""

    def __init__(
        self,
        key: ModelKey,
        dtype: DType,
        router: Router,
        exchange: Exchange,
        config: SessionConfig,
    ) -> None:
        self.name = secrets.token_hex(16)
        self.epoch = 0
        self.hops: list[OpenHop] = []
        self.wired = False
        self._key = key
        self._dtype = dtype
        self._router = router
        self._exchange = exchange
        self._config = config

    def find(self, session: str) -> OpenHop | None:
        """The hop with this name for the session."""
        return next((hop for hop in self.hops if hop.session == session), None)

    def on(self, peer: str) -> list[OpenHop]:
        """The hops on one peer."""
        return [hop for hop in self.hops if hop.hop.peer == peer]

    def lose(self, hop: OpenHop) -> None:
        """Takes a hop out; the next `build` replaces it."""
        if hop in self.hops:
            self.hops.remove(hop)
            self._close(hop)
        if hop.asked is not None and not hop.asked.done():
            # Its answer would find nobody: whoever waits would blame the peer for it.
            hop.asked.set_exception(SessionLost(hop.hop.peer, "the session there was given up"))
        self.wired = False

    async def build(self, standing: Standing, receiver: Receiver, excluded: frozenset[str]) -> Next:
        """Makes the chain whole again; returns where the client's own feed goes on.

        Raises `NoRouteError` if nobody serves some blocks, or the `PeerError` of a hop that failed
        meanwhile (it is then out of the chain).
        """
        self.wired = False
        kept = [hop.hop for hop in self.hops]
        positions = standing.positions * len(standing.lengths)
        route = await self._router.route(self._key, kept, positions, excluded)
        known = {hop.hop: hop for hop in self.hops}
        links = await asyncio.gather(*(self._link(hop) for hop in route if hop not in known))
        fresh = iter(links)
        self.hops = [known.get(hop) or OpenHop(hop, next(fresh)) for hop in route]
        for hop in self.hops:
            self._exchange.register(hop.session, receiver)
        self.epoch += 1
        try:
            answers = await self._ask_all(standing)
        except asyncio.CancelledError:
            self._lose_unopened()
            raise
        has = _lengths_to_wire(answers, standing.settled)
        for index, hop in enumerate(self.hops):
            self._wire(hop, index, has, standing)
        first = self.hops[0]
        self.wired = True
        return Next(first.hop.peer, first.session, has=has[0], settled=standing.settled)

    def take_answer(self, hop: OpenHop, message: AnyMessage) -> bool:
        """Hands a message to whoever waits for the hop's answer; False if nobody does."""
        if hop.asked is None or hop.asked.done() or getattr(message, "epoch", None) != self.epoch:
            return False  # What an earlier epoch complained of may still be on its way.
        hop.asked.set_result(message)
        return True

    def lose_link(self, link: Link, error: PeerError) -> bool:
        """Takes out the hops on a link that has ended; whether there were any."""
        lost = [hop for hop in self.hops if hop.link is link]
        for hop in lost:
            if hop.asked is not None and not hop.asked.done():
                hop.asked.set_exception(error)
            self.lose(hop)
        return bool(lost)

    def close(self) -> None:
        """Tells every hop to free the session."""
        for hop in list(self.hops):
            self.lose(hop)

    async def _link(self, hop: Hop) -> Link:
        try:
            return await self._router.link(hop)
        except PeerError as error:
            self._router.blame(hop.peer, str(error))
            raise

    async def _ask_all(self, standing: Standing) -> list[Held]:
        """Opens the new hops and holds the others; every failed hop leaves the chain."""
        asked = list(self.hops)
        results = await asyncio.gather(
            *(self._ask(hop, standing) for hop in asked), return_exceptions=True
        )
        answers: list[Held] = []
        failed: list[BaseException] = []
        for hop, result in zip(asked, results, strict=True):
            if isinstance(result, BaseException):
                self.lose(hop)
                failed.append(result)
            else:
                answers.append(result)
        if failed:
            raise next((e for e in failed if not isinstance(e, PeerError)), failed[0])
        if gone := [hop for hop in asked if hop not in self.hops]:
            raise Unreachable(gone[0].hop.peer, "went away after it had answered")
        return answers

    async def _ask(self, hop: OpenHop, standing: Standing) -> Held:
        num_rows, config = len(standing.lengths), self._config
        request: Hold | Open
        if hop.opened:
            # It answers after the batch that it is computing, for whomever that may be.
            patience = config.hold_patience + 4 * config.chunk_len * hop.hop.prefill_seconds
            request = Hold(hop.session, self.epoch, standing.generation, standing.keep)
        else:
            patience = config.open_patience + config.hold_patience
            request = Open(
                session=hop.session,
                epoch=self.epoch,
                model=self._key.fingerprint,
                start=hop.hop.start,
                end=hop.hop.end,
                rows=num_rows,
                positions=standing.positions,
                patience=config.open_patience,
                dtype=self._dtype,
                generation=standing.generation,
            )
        match await self._answer(hop, request, patience):
            case Held(epoch=epoch) as held if epoch == self.epoch and len(held.has) == num_rows:
                return held
            case Opened(epoch=epoch) if epoch == self.epoch:
                hop.opened = True
                return Held(hop.session, self.epoch, (0,) * num_rows, replayable=True)
            case Failed() as failed:
                raise self.error(hop, failed)
            case other:
                raise Misbehaved(hop.hop.peer, f"answered with {type(other).__name__}")

    def _lose_unopened(self) -> None:
        """A hop of which nobody knows whether it has opened cannot be asked a second time."""
        for hop in [hop for hop in self.hops if not hop.opened]:
            self.lose(hop)

    async def _answer(self, hop: OpenHop, request: Hold | Open, patience: float) -> AnyMessage:
        hop.asked = asyncio.get_running_loop().create_future()
        try:
            hop.link.post(request)
            async with asyncio.timeout(patience):
                return await hop.asked
        except TimeoutError as error:
            why = f"no answer within {patience:g} s"
            self._router.blame(hop.hop.peer, why)
            self._router.hang_up(hop.hop.peer, why)
            raise Unreachable(hop.hop.peer, why) from error
        finally:
            hop.asked = None

    def error(self, hop: OpenHop, failed: Failed) -> PeerError | RequestError:
        """What a hop's refusal means here; a peer at fault is blamed."""
        peer = failed.peer or hop.hop.peer
        match failed.code:
            case Code.BUSY:
                return Busy(peer, failed.message)
            case Code.BAD_REQUEST:
                return RequestError(failed.message)
            case Code.UNKNOWN_SESSION | Code.LEAVING | Code.WRONG_MODEL | Code.STEP_MISSING:
                return SessionLost(peer, failed.message)
            case Code.NEXT_UNREACHABLE:
                self._router.blame(peer, failed.message)
                return Unreachable(peer, failed.message)
            case Code.INTERNAL:
                self._router.blame(peer, failed.message)
                return Misbehaved(peer, failed.message)
        raise LocalProtocolError(f"code {failed.code} is not mapped")

    def _wire(self, hop: OpenHop, index: int, has: Sequence[Lengths], standing: Standing) -> None:
        if index + 1 < len(self.hops):
            after = self.hops[index + 1]
            addresses = after.hop.addresses
            next_ = Next(after.hop.peer, after.session, addresses, has[index + 1], standing.settled)
        else:
            next_ = Next(None, self.name, (), standing.settled, standing.settled)
        hop.link.post(Wire(hop.session, self.epoch, next_))

    def _close(self, hop: OpenHop) -> None:
        self._exchange.unregister(hop.session)
        try:
            hop.link.post(Close(hop.session))
        except PeerError as error:
            logger.debug("close not sent peer=%s why=%s", hop.hop.peer, error)


def _lengths_to_wire(answers: Sequence[Held], settled: Lengths) -> list[Lengths]:
    """What each hop counts as holding.

    A hop that cannot replay what the hop after it lacks must be filled anew itself.
    """
    has = [answer.has for answer in answers]
    needed = settled
    for index in reversed(range(len(answers))):
        lacks = any(have > need for have, need in zip(has[index], needed, strict=True))
        if lacks and not answers[index].replayable:
            has[index] = (0,) * len(settled)
        needed = has[index]
    return has
