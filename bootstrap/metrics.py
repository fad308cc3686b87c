"""What a bootstrap tells Prometheus of itself and of its group; see docs/observing.md."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from swarm.directory import State
from swarm.errors import SwarmError
from swarm.membership.certificate import Role
from swarm.metrics.families import counter, counters, gauge, gauges
from swarm.metrics.labels import Bounded
from swarm.metrics.links import RelayMetrics
from swarm.metrics.registry import new_registry
from swarm.overview import Overview
from swarm.transport.relayed import RelayedTransport
from swarm.web.metrics import handler
from swarm.wire.enrolment import Entry, OpenInvite

from .authority import Authority
from .correspondence import Correspondence
from .desk import Desk

if TYPE_CHECKING:
    from swarm.directory.dht import DhtDirectory
    from swarm.transport.libp2p import Libp2pTransport

logger = logging.getLogger(__name__)

_FRESH = 1.0
"""Seconds for which the group is not looked at again, however often somebody asks."""

_RANK = (Role.AUTHORITY, Role.ADMIN, Role.PEER, Role.CLIENT)


@dataclass(frozen=True)
class Behind:
    """The parts of a running bootstrap that are asked."""

    authority: Authority
    directory: DhtDirectory
    desk: Desk
    correspondence: Correspondence
    carrier: Libp2pTransport
    transport: RelayedTransport


@dataclass(frozen=True)
class Group:
    """The group as it was looked at last, at `time` (seconds of `time.monotonic`)."""

    members: tuple[Entry, ...] = ()
    invites: tuple[OpenInvite, ...] = ()
    num_correspondents: int = 0
    overview: Overview | None = None
    time: float = float("-inf")


class BootstrapMetrics:
    """All that a bootstrap tells; `answer` does so over HTTP."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self._group = Group()
        self._turn = asyncio.Lock()
        relay = behind.transport.relay
        self.registry = new_registry(
            _Office(behind),
            GroupMetrics(lambda: self._group),
            RelayMetrics(lambda: relay),
        )
        self._handler = handler(self.registry, self.refresh)

    async def answer(self, request: web.Request) -> web.Response:
        """To whoever may ask."""
        return await self._handler(request)

    async def refresh(self) -> None:
        """Looks at the group, which takes the ledger and the directory a moment."""
        async with self._turn:
            if time.monotonic() - self._group.time < _FRESH:
                return
            authority = self._behind.authority
            members = await asyncio.to_thread(authority.members)
            invites = await asyncio.to_thread(authority.invites)
            stations = await asyncio.to_thread(authority.stations)
            overview = None
            try:
                overview = Overview.of(await self._behind.directory.find())
            except SwarmError as error:
                logger.info("group not seen why=%s", error)
            others, now = max(0, len(stations) - 1), time.monotonic()
            self._group = Group(members, invites, others, overview, now)


class GroupMetrics(Collector):
    """Who belongs to the group and what it serves; what is not known now is left out."""

    def __init__(self, group: Callable[[], Group]) -> None:
        self._group = group
        self._models = Bounded()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        group = self._group()
        living = [entry for entry in group.members if not entry.revoked]
        roles: Counter[Role] = Counter(_highest(entry) for entry in living)
        yield gauges(
            "members",
            "Members, by the most that each may do.",
            ("role",),
            {str(role): roles[role] for role in Role},
        )
        yield gauge(
            "members_revoked", "Members that were removed.", len(group.members) - len(living)
        )
        invites: Counter[Role] = Counter(invite.role for invite in group.invites)
        uses: Counter[Role] = Counter()
        for invite in group.invites:
            uses[invite.role] += invite.uses
        yield gauges(
            "invites",
            "Invites that can still be used.",
            ("role",),
            {str(role): invites[role] for role in Role},
        )
        yield gauges(
            "invite_uses",
            "Machines that they let in yet.",
            ("role",),
            {str(role): uses[role] for role in Role},
        )
        others = group.num_correspondents
        yield gauge("bootstrap_correspondents", "Other bootstraps that are known.", others)
        if group.overview is not None:
            yield from self._models_of(group.overview)

    def _models_of(self, overview: Overview) -> Iterator[Metric]:
        states: Counter[State] = Counter()
        blocks: Counter[str] = Counter()
        missing: Counter[str] = Counter()
        gaps: Counter[str] = Counter()
        for model in overview.models:
            name = self._models.label(model.name)
            states.update(entry.state for entry in model.entries)
            blocks[name] += model.num_blocks
            missing[name] += sum(end - start for start, end in model.missing)
            gaps[name] += len(model.missing)
        yield gauge("models", "Models that anybody announces.", len(overview.models))
        yield gauges(
            "peers",
            "Peers that announce themselves, by what they do.",
            ("state",),
            {str(state): states[state] for state in State},
        )
        yield gauges("model_blocks", "Blocks that a model has.", ("model",), blocks)
        yield gauges(
            "model_missing_blocks", "Blocks of a model that nobody serves.", ("model",), missing
        )
        yield gauges("model_gaps", "How many pieces the missing blocks are in.", ("model",), gaps)


class _Office(Collector):
    """What the bootstrap itself does."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        behind = self._behind
        yield counters(
            "bootstrap_questions",
            "What the desk was asked, and what became of it: granted, or why it was not.",
            ("question", "result"),
            behind.desk.answers.items(),
        )
        heard = behind.correspondence
        yield counters(
            "bootstrap_letters",
            "Times that another bootstrap was asked what is new, by whether it answered.",
            ("result",),
            {"told": heard.num_told, "silent": heard.num_silent},
        )
        yield gauges(
            "bootstrap_records",
            "Records of the directory that are kept here, by shelf.",
            ("shelf",),
            behind.directory.num_records,
        )
        yield gauge(
            "bootstrap_neighbours",
            "Other nodes of the directory that are known.",
            behind.directory.num_neighbours,
        )
        gate = behind.carrier.gate
        yield gauge(
            "bootstrap_strangers", "Streams of those who have proved nothing.", gate.num_strangers
        )
        yield counter(
            "bootstrap_turned_away",
            "Streams that were not let in, or had to go, as there were too many.",
            gate.num_refused,
        )
        yield counter(
            "bootstrap_strangers_disconnected",
            "Strangers whose connections were ended, as they were too many.",
            behind.carrier.strangers.num_disconnected,
        )


def _highest(entry: Entry) -> Role:
    return next((role for role in _RANK if role in entry.roles), Role.CLIENT)
