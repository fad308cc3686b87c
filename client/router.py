"""What the client knows of the swarm: who serves, how far away, and whom to leave alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType

from swarm.directory import Announcement, Directory
from swarm.errors import NoRouteError, PeerError
from swarm.transport.link import Link
from swarm.transport.neighbours import Neighbours
from swarm.wire.messages import HopTime, Prefix

from .auditing.config import AuditConfig
from .auditing.digests import Digests
from .auditing.repute import Repute
from .avoidance import Avoidance
from .crowd import Crowd
from .experience import Experience
from .model_key import ModelKey
from .recollection import Recollection
from .route import (
    UNKNOWN_ROUND_TRIP,
    Candidate,
    Hop,
    Ranges,
    Route,
    candidates,
    fill,
    missing,
    plan,
)

logger = logging.getLogger(__name__)

FRESH = 1.0
"""Seconds for which what the directory said is used again."""

MAX_MET = 16
"""Peers of one model to which links are kept open, as standbys and to know their round trips."""

_MEETING = 2.0


class Router:
    """Plans routes from the directory's announcements, the links' round trips and experience.

    `client` is our name in the group, by which clients differ in which of equal peers they choose.
    `repute` is what is known of peers' honesty.
    """

    def __init__(
        self,
        directory: Directory,
        neighbours: Neighbours,
        client: str = "",
        repute: Repute | None = None,
    ) -> None:
        self._directory = directory
        self._neighbours = neighbours
        self.recollection = Recollection()
        self._avoidance = Avoidance()
        self._apart = Avoidance()
        self._missed = Avoidance()
        self._experience = Experience()
        self.crowd = Crowd(client)
        self._repute = repute or Repute(AuditConfig())
        self.digests = Digests()
        self._missed_at: dict[str, float] = {}
        self._members: dict[str, str] = {}
        self._found: tuple[Announcement, ...] = ()
        self._found_at = float("-inf")

    async def find(self, model: str, *, fresh: bool = False) -> list[Announcement]:
        """The announcements of one model."""
        now = asyncio.get_running_loop().time()
        if fresh or now - self._found_at > FRESH:
            self._found = await self._directory.find()
            await self.digests.compare(self._found)
            self._found_at = asyncio.get_running_loop().time()
        return self._known(model)

    async def route(
        self,
        model: ModelKey,
        kept: Sequence[Hop],
        positions: int,
        excluded: Collection[str] = (),
        prefixes: Sequence[Prefix] = (),
    ) -> Route:
        """A route that keeps the hops `kept` and uses none of the peers `excluded` for new ones.

        Peers to which an earlier session has left some of `prefixes` are preferred to equal ones.
        Peers whose whole KV memory is below `positions` are left out where others serve their
        blocks. Raises `NoRouteError` naming the blocks that nobody serves.
        """
        held = self.recollection.held(prefixes)
        if kept or excluded:
            # A session stands still: take who is known to be there before looking further. Links
            # tell who that is; the directory may itself be waiting for the peer that is lost.
            serving = _roomy(self._known(model.fingerprint), model, kept, positions)
            with contextlib.suppress(NoRouteError):
                met = self._met(serving)
                choices = self._choices(serving, met, excluded, held)
                return self._fill(kept, model.num_blocks, choices)
        else:
            with contextlib.suppress(NoRouteError):
                found = await self.find(model.fingerprint)
                route = await self._seek(model, found, kept, positions, excluded, held)
                self.crowd.send((hop.peer for hop in route), asyncio.get_running_loop().time())
                return route
        found = await self.find(model.fingerprint, fresh=True)
        return await self._seek(model, found, kept, positions, excluded, held)

    async def _seek(
        self,
        model: ModelKey,
        found: Sequence[Announcement],
        kept: Sequence[Hop],
        positions: int,
        excluded: Iterable[str],
        held: Mapping[str, int],
    ) -> Route:
        """A route over peers that are met now, and if that is not enough, over others."""
        serving = _roomy(found, model, kept, positions)
        welcome = self._welcome(serving, excluded)

        def fill_with(others: Mapping[str, float]) -> Route:
            met = {**others, **self._met(serving)}
            choices = self._choices(serving, met, excluded, held)
            return self._fill(kept, model.num_blocks, choices)

        async with aclosing(self._greetings(welcome)) as greetings:
            async for _ in greetings:
                # A session that stands still does not wait for whoever answers last, if at all.
                if kept or excluded:
                    with contextlib.suppress(NoRouteError):
                        return fill_with({})
        with contextlib.suppress(NoRouteError):
            return fill_with({})
        # Not everybody was met: a long route may need some who were not.
        return fill_with({entry.peer: UNKNOWN_ROUND_TRIP for entry in welcome[MAX_MET:]})

    async def missing(self, model: ModelKey) -> Ranges:
        """The blocks for which no peer is known that a new session could ask now."""
        serving = [entry for entry in await self.find(model.fingerprint) if entry.serving]
        usable = {entry.peer for entry in self._welcome(serving)} | set(self._met(serving))
        usable -= self._avoided()
        return missing([e for e in serving if e.peer in usable], 0, model.num_blocks)

    async def meet(self, model: ModelKey) -> None:
        """Opens links to peers of a model that have joined since, as standbys."""
        serving = [entry for entry in await self.find(model.fingerprint) if entry.serving]
        known = sum(self._neighbours.get(entry.peer) is not None for entry in serving)
        strangers = [e for e in self._welcome(serving) if self._neighbours.get(e.peer) is None]
        await self._meet_all(strangers[: max(0, MAX_MET - known)])

    def outlook(self, model: ModelKey) -> list[tuple[Announcement, float]]:
        """The peers of the route that looks best now, and the round trips to them in seconds.

        By what is known already, nobody is asked; empty where that makes no route.
        """
        serving = [entry for entry in self._known(model.fingerprint) if entry.serving]
        met = {entry.peer: UNKNOWN_ROUND_TRIP for entry in serving} | self._met(serving)
        try:
            route = self._fill((), model.num_blocks, self._choices(serving, met, ()))
        except NoRouteError:
            return []
        entries = {entry.peer: entry for entry in serving}
        return [(entries[hop.peer], met[hop.peer]) for hop in route]

    async def others(
        self, model: ModelKey, blocks: tuple[int, int], excluded: frozenset[str]
    ) -> Route:
        """Peers for a second opinion on `blocks`, chosen by lot; several only if none has them all.

        None of them belongs to a member to whom one of `excluded` does. Raises `NoRouteError` if
        nobody else has the blocks.
        """
        start, end = blocks
        shunned = self._avoided() | excluded
        found = [entry for entry in await self.find(model.fingerprint) if entry.serving]
        able = [entry for entry in found if entry.peer not in shunned]
        members = {self.member(peer) for peer in excluded}
        whole = [entry for entry in able if entry.start <= start and end <= entry.end]
        for entry in secrets.SystemRandom().sample(whole, len(whole)):
            hop = Hop(entry.peer, start, end, entry.addresses)
            with contextlib.suppress(PeerError):
                await self.link(hop)
                if self.member(entry.peer) not in members:
                    return (hop,)
        parts = [entry for entry in able if entry not in whole]
        await self._meet_all(parts)
        strangers = [entry for entry in parts if self.member(entry.peer) not in members]
        return plan(candidates(strangers, self._met(strangers)), start, end)

    def member(self, peer: str) -> str:
        """Whose a peer is, by the certificate that it has shown last; itself if we never met."""
        if (link := self.open_link(peer)) is not None:
            self._members[peer] = link.standing.member
        return self._members.get(peer, peer)

    def form(self, model: str, peer: str) -> str:
        """The form of a peer's weights, as it says; empty if it says nothing any more."""
        entries = (entry for entry in self._known(model) if entry.peer == peer)
        return next((entry.quantize for entry in entries), "")

    @property
    def upload_rate(self) -> float:
        """Bytes per second that we have sent with lately; 0 if that is not known."""
        return self._neighbours.upload_rate

    def announced(self, model: ModelKey) -> Sequence[Announcement]:
        """What peers of a model said of themselves when they were looked for last."""
        return self._known(model.fingerprint)

    def without(self, model: ModelKey, route: Route, lost: str) -> Route:
        """The route that would take the place of `route` if the peer `lost` were gone now.

        Only peers that are linked count. Raises `NoRouteError` naming the blocks that only `lost`
        serves.
        """
        kept = [hop for hop in route if hop.peer != lost]
        serving = [entry for entry in self._known(model.fingerprint) if entry.serving]
        choices = self._choices(serving, self._met(serving), (lost,))
        return self._fill(kept, model.num_blocks, choices)

    def learn(self, route: Route, times: Sequence[HopTime], seconds: float) -> None:
        """A short step took `seconds` through `route`, of which the hops admit `times`."""
        peers = {hop.peer for hop in route}
        announced = {entry.peer: entry for entry in self._found if entry.peer in peers}
        now = asyncio.get_running_loop().time()
        met = self._met(list(announced.values()))
        self._experience.note(route, times, seconds, announced, met, now)

    def open_link(self, peer: str) -> Link | None:
        """The link to a peer, if there is one now."""
        return self._neighbours.get(peer)

    async def link(self, hop: Hop) -> Link:
        """The link to a hop's peer; raises `PeerError` if it cannot be reached."""
        link = await self._neighbours.link(hop.peer, hop.addresses)
        # One that hangs up does not become a stranger to its owner's other peers.
        self._members[hop.peer] = link.standing.member
        return link

    def miss(self, entry: Announcement) -> None:
        """A peer was not there: it is not dialled again at once, unless it announces itself anew.

        That is no fault. It may be starting again, or its line may be slow today.
        """
        now = asyncio.get_running_loop().time()
        self._missed.blame(entry.peer, now)
        self._missed_at[entry.peer] = entry.time

    def blame(self, peer: str, why: str) -> None:
        """Leaves a peer alone for a while, for all sessions."""
        logger.info("peer avoided peer=%s why=%s", peer, why)
        self._avoidance.blame(peer, asyncio.get_running_loop().time())

    def separate(self, before: str, after: str) -> None:
        """One peer cannot reach another, though both may live: for a while no route joins them."""
        logger.info("pair avoided before=%s after=%s", before, after)
        self._apart.blame(f"{before} {after}", asyncio.get_running_loop().time())

    def hang_up(self, peer: str, why: str) -> None:
        """Ends the link to a peer that does not answer although its connection stands."""
        self._neighbours.close(peer, why)

    def _known(self, model: str) -> list[Announcement]:
        return [entry for entry in self._found if entry.model == model]

    def _choices(
        self,
        announcements: Sequence[Announcement],
        met: Mapping[str, float],
        excluded: Iterable[str],
        held: Mapping[str, int] = MappingProxyType({}),
    ) -> list[Candidate]:
        strangers = {entry.peer for entry in announcements} - set(met)
        choices = candidates(announcements, met, strangers | self._avoided() | set(excluded), held)
        now = asyncio.get_running_loop().time()
        return [self._judged(choice, now) for choice in choices]

    def _judged(self, choice: Candidate, now: float) -> Candidate:
        """A candidate as this client sees it, who may know it better than its announcement."""
        return replace(
            choice,
            seconds_per_block=choice.seconds_per_block + self._experience.slower(choice.peer, now),
            weight=self.crowd.weight(choice.peer, now),
        )

    def _fill(self, kept: Sequence[Hop], num_blocks: int, choices: list[Candidate]) -> Route:
        """As `route.fill`, and where it can be done without joining peers that are apart."""
        best = route = fill(kept, num_blocks, choices)
        apart = self._apart.avoided(asyncio.get_running_loop().time())
        while pairs := [p for p in pairwise(route) if f"{p[0].peer} {p[1].peer}" in apart]:
            before, after = pairs[0]
            victim = before if after in kept else after
            if victim in kept:
                break
            choices = [choice for choice in choices if choice.peer != victim.peer]
            try:
                route = fill(kept, num_blocks, choices)
            except NoRouteError:
                return best
        return route

    def _welcome(
        self, serving: Sequence[Announcement], excluded: Iterable[str] = ()
    ) -> list[Announcement]:
        missed = self._missed.avoided(asyncio.get_running_loop().time())
        shunned = self._avoided() | set(excluded)
        return [
            entry
            for entry in serving
            if entry.peer not in shunned
            and (entry.peer not in missed or entry.time > self._missed_at[entry.peer])
        ]

    def _avoided(self) -> frozenset[str]:
        now = asyncio.get_running_loop().time()
        return self._avoidance.avoided(now) | self._repute.avoided(now) | self.digests.wrong

    def _met(self, announcements: Sequence[Announcement]) -> dict[str, float]:
        """Round trips in seconds of the peers to which a link is open."""
        links = {entry.peer: self._neighbours.get(entry.peer) for entry in announcements}
        return {
            peer: link.round_trip
            for peer, link in links.items()
            if link is not None and link.round_trip is not None
        }

    async def _meet_all(self, announcements: Sequence[Announcement]) -> None:
        """Opens links to peers and keeps them."""
        async with aclosing(self._greetings(announcements)) as greetings:
            async for _ in greetings:
                pass

    async def _greetings(self, announcements: Sequence[Announcement]) -> AsyncGenerator[None, None]:
        """Opens links to peers, and yields whenever some have been met or missed.

        Whoever stops listening leaves the others to be linked when they answer.
        """
        running = {asyncio.ensure_future(self._greet(each)) for each in announcements[:MAX_MET]}
        try:
            while running:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                yield
        finally:
            for greeting in running:
                greeting.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _greet(self, entry: Announcement) -> None:
        try:
            async with asyncio.timeout(_MEETING):
                link = await self._neighbours.link(entry.peer, entry.addresses)
                await link.measured.wait()
        except (PeerError, TimeoutError) as error:
            logger.info("peer not met peer=%s why=%s", entry.peer, error or "too slow to answer")
            self.miss(entry)


def _roomy(
    found: Sequence[Announcement], model: ModelKey, kept: Sequence[Hop], positions: int
) -> list[Announcement]:
    """The serving peers that could ever hold `positions`, if these cover what `kept` does not."""
    serving = [entry for entry in found if entry.serving]
    roomy = [entry for entry in serving if entry.total_positions >= positions]
    return serving if missing([*roomy, *kept], 0, model.num_blocks) else roomy
