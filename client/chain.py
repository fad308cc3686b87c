"""The open hops of one session: asked, wired and mended here.

Mending keeps every hop that works. It takes two round trips: hold the survivors and open the
replacements (each says what it holds), then wire each hop to the next one and to what that one
lacks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace

from swarm.background import together
from swarm.errors import Misbehaved, PeerError, SessionLost, Unreachable
from swarm.transport.link import Link
from swarm.wire.messages import (
    AnyMessage,
    DType,
    Failed,
    Held,
    Hold,
    Keep,
    Next,
    Open,
    Opened,
    Prefix,
    Wire,
)

from .config import SessionConfig
from .exchange import Exchange, Receiver
from .faults import Fault, fault
from .hop import OpenHop
from .model_key import ModelKey
from .progress import Lengths, Standing
from .route import Hop, Route
from .router import Router

logger = logging.getLogger(__name__)


class Refused(Exception):
    """A hop has answered with `Failed`; `fault` says what that means."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault.error))
        self.fault = fault


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
        self.has: Lengths = ()
        """Positions of each row that no hop had to compute when the chain was last wired."""
        self.traced = False
        """Whether new hops are asked to commit themselves to what they do."""
        # Hops, and the ones before them (None: the client) from which they have all that they hold.
        self._fed_by: dict[OpenHop, OpenHop | None] = {}
        # Each hop's own peer and those before and after it, as they were wired.
        self._beside: dict[str, set[str]] = {}
        self._key = key
        self._dtype = dtype
        self._router = router
        self._exchange = exchange
        self._config = config

    @property
    def route(self) -> Route:
        """The hops as the router knows them."""
        return tuple(hop.hop for hop in self.hops)

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
            self.drop(hop)
        # Its answer would find nobody: whoever waits would blame the peer for it.
        hop.fail(SessionLost(hop.hop.peer, "the session there was given up"))
        self.wired = False

    def drop(self, hop: OpenHop) -> None:
        """Closes a hop, whether it is in the chain or was to be."""
        self._exchange.unregister(hop.session)
        hop.close()

    def lose_link(self, link: Link, error: PeerError) -> bool:
        """Takes out the hops on a link that has ended; whether there were any."""
        lost = [hop for hop in self.hops if hop.link is link]
        for hop in lost:
            hop.fail(error)
            self.lose(hop)
        return bool(lost)

    def firm(self, hop: OpenHop) -> bool:
        """Whether all that a hop holds came from the one that is before it now.

        Else what both have of it may differ, as one that takes over rounds in its own way.
        """
        if hop not in self.hops or hop not in self._fed_by:
            return False
        index = self.hops.index(hop)
        return self._fed_by[hop] is (self.hops[index - 1] if index else None)

    def attend(self, seconds: float) -> None:
        """The next so many seconds, the silence of any hop is to be noticed quickly."""
        for hop in self.hops:
            hop.link.attend(seconds)

    def keep(self, generation: int, prefixes: tuple[Prefix, ...]) -> None:
        """Tells every hop what it may keep of the session for others."""
        for hop in self.hops:
            # One that was filled outside the chain may have missed what has changed since.
            if hop.mark is None:
                hop.tell(Keep(hop.session, generation, prefixes))

    def close(self) -> None:
        """Tells every hop to free the session."""
        for hop in list(self.hops):
            self.lose(hop)

    async def build(self, standing: Standing, receiver: Receiver, excluded: frozenset[str]) -> Next:
        """Makes the chain whole again; returns where the client's own feed goes on.

        Raises `NoRouteError` if nobody serves some blocks, `Refused` for what a hop said, or the
        `PeerError` of a hop that failed meanwhile (it is then out of the chain).
        """
        self.wired = False
        positions = standing.positions * len(standing.lengths)
        route = await self._router.route(
            self._key, self.route, positions, excluded, standing.prefixes
        )
        known = {hop.hop: hop for hop in self.hops}
        fresh = iter(await self.link([hop for hop in route if hop not in known]))
        self.hops = [known.get(hop) or next(fresh) for hop in route]
        for hop in self.hops:
            self._exchange.register(hop.session, receiver)
        peers = [hop.hop.peer for hop in self.hops]
        self._beside = {
            hop.session: set(peers[max(0, index - 1) : index + 2])
            for index, hop in enumerate(self.hops)
        }
        self.epoch += 1
        try:
            answers = await self._ask_all(standing)
        except asyncio.CancelledError:
            self._lose_unopened()
            raise
        self._fed_by = self._feeders(answers)
        recalled = map(min, answers[-1].has, standing.spared)
        settled = tuple(map(max, standing.settled, recalled))
        standing = replace(standing, settled=settled)
        has = _lengths_to_wire(answers, settled)
        self.has = tuple(min(lengths) for lengths in zip(*has, strict=True))
        for index, hop in enumerate(self.hops):
            self._wire(hop, index, has, standing)
        first = self.hops[0]
        self.wired = True
        return Next(first.hop.peer, first.session, has=has[0], settled=settled)

    def _feeders(self, answers: Sequence[Held]) -> dict[OpenHop, OpenHop | None]:
        """From whom hops have all that they hold, for those of which that is known."""
        known: dict[OpenHop, OpenHop | None] = {}
        for index, (hop, answer) in enumerate(zip(self.hops, answers, strict=True)):
            before = self.hops[index - 1] if index else None
            # What one no longer has, it computes anew.
            whole = index == 0 or answers[index - 1].replayable
            if not any(answer.has) or (whole and self._fed_by.get(hop, hop) is before):
                known[hop] = before
        return known

    async def link(self, hops: Sequence[Hop]) -> list[OpenHop]:
        """The hops with links to their peers, not yet opened."""
        links = await together(self._router.link(hop) for hop in hops)
        return [OpenHop(hop, link) for hop, link in zip(hops, links, strict=True)]

    async def open(self, hop: OpenHop, standing: Standing) -> Held:
        """Opens a session on a hop; returns what it begins with. Errors as in `build`."""
        config = self._config
        request = Open(
            session=hop.session,
            epoch=self.epoch,
            model=self._key.fingerprint,
            start=hop.hop.start,
            end=hop.hop.end,
            rows=len(standing.lengths),
            positions=standing.positions,
            patience=config.open_patience,
            dtype=self._dtype,
            generation=standing.generation,
            prefixes=standing.prefixes,
            key=hop.key if self.traced else b"",
        )
        match await self._answer(hop, request, config.hold_patience):
            case Opened(has=has, replayable=replayable):
                hop.opened = True
                if has and has not in {prefix.length for prefix in standing.prefixes}:
                    raise Misbehaved(hop.hop.peer, f"has {has} positions that nobody asked for")
                lengths = (has,) * len(standing.lengths)
                return Held(hop.session, self.epoch, lengths, replayable)
            case other:
                raise self._unexpected(hop, other)

    async def _hold(self, hop: OpenHop, standing: Standing) -> Held:
        # It answers after the batch that it is computing, for whomever that may be.
        config = self._config
        patience = config.hold_patience + 4 * config.chunk_len * hop.hop.prefill_seconds
        keep = standing.keep if hop.mark is None else hop.mark.lengths
        request = Hold(hop.session, self.epoch, standing.generation, keep)
        match await self._answer(hop, request, patience):
            case Held() as held if len(held.has) == len(standing.lengths):
                hop.mark = None
                return held
            case other:
                raise self._unexpected(hop, other)

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
            raise next((e for e in failed if not isinstance(e, PeerError | Refused)), failed[0])
        if gone := [hop for hop in asked if hop not in self.hops]:
            raise Unreachable(gone[0].hop.peer, "went away after it had answered")
        return answers

    async def _ask(self, hop: OpenHop, standing: Standing) -> Held:
        if hop.opened:
            return await self._hold(hop, standing)
        return await self.open(hop, standing)

    def _lose_unopened(self) -> None:
        """A hop of which nobody knows whether it has opened cannot be asked a second time."""
        for hop in [hop for hop in self.hops if not hop.opened]:
            self.lose(hop)

    async def _answer(self, hop: OpenHop, request: Hold | Open, patience: float) -> AnyMessage:
        try:
            return await hop.ask(request, patience)
        except Unreachable as error:
            if not hop.link.closed:
                # Its connection stands, so that nobody else will notice.
                self._router.blame(hop.hop.peer, str(error))
                self._router.hang_up(hop.hop.peer, str(error))
            raise

    def _unexpected(self, hop: OpenHop, message: AnyMessage) -> Exception:
        if isinstance(message, Failed):
            return Refused(self.fault(hop, message))
        return Misbehaved(hop.hop.peer, f"answered with {type(message).__name__}")

    def fault(self, hop: OpenHop, failed: Failed) -> Fault:
        """What a hop's refusal means; a peer at fault is blamed.

        A hop can only know of its neighbours: one that accuses others accuses itself.
        """
        meaning = fault(failed, hop.hop.peer)
        error = meaning.error
        beside = self._beside.get(hop.session)
        if isinstance(error, PeerError) and beside is not None and error.peer not in beside:
            error = Misbehaved(hop.hop.peer, f"accuses {error.peer[-8:]}, which it does not know")
            meaning = replace(meaning, error=error, blames=True)
        if meaning.blames and isinstance(error, PeerError):
            self._router.blame(error.peer, failed.message)
        return meaning

    def _wire(self, hop: OpenHop, index: int, has: Sequence[Lengths], standing: Standing) -> None:
        if index + 1 < len(self.hops):
            after = self.hops[index + 1]
            addresses = after.hop.addresses
            next_ = Next(after.hop.peer, after.session, addresses, has[index + 1], standing.settled)
        else:
            next_ = Next(None, self.name, (), standing.settled, standing.settled)
        hop.link.post(Wire(hop.session, self.epoch, next_))


def _lengths_to_wire(answers: Sequence[Held], settled: Lengths) -> list[Lengths]:
    """What each hop counts as holding.

    A hop that cannot replay what the hop after it lacks must compute that again itself.
    """
    has = [answer.has for answer in answers]
    needed = settled
    for index in reversed(range(len(answers))):
        if not answers[index].replayable:
            has[index] = tuple(map(min, has[index], needed))
        needed = has[index]
    return has
