"""The group from inside: how we are reached, who is there, and how fast the lines are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from swarm import __version__
from swarm.background import background
from swarm.errors import Busy, PeerError
from swarm.transport import Buffer, gauge
from swarm.transport.control import CONTROL
from swarm.transport.link import Link, connect
from swarm.transport.multiaddresses import parse_tcp
from swarm.transport.neighbours import PROTOCOL
from swarm.transport.reach import Reach
from swarm.transport.sealed import SealedStream
from swarm.wire.gauging import MAX_BYTES
from swarm.wire.messages import AnyMessage

from .check import Skip
from .finding import Finding, ok, problem, warning
from .machine import Machine
from .visit import Visit

_FAR = 0.15
"""Seconds of a round trip that one notices in every token."""
_SLOW = 5e6 / 8
"""Bytes per second below which prompts take their time."""
_MAX_PEERS = 3
_GAUGED = 2
"""Lines whose speed is measured."""
_PINGS = 3

BANDWIDTH_BYTES = _GAUGED * 2 * MAX_BYTES
"""What measuring speeds moves at most, both ways together."""


@dataclass(frozen=True)
class ReachCheck:
    """Whether others can connect to this machine."""

    visit: Visit
    machine: Machine
    name: str = "reachability"
    seconds: float = 45.0

    async def run(self) -> Sequence[Finding]:
        transport = (await self.visit.settle()).transport
        match transport.reach:
            case Reach.DIRECT:
                return [ok(f"direct: a new connection gets in, {self._how(transport.addresses)}")]
            case Reach.RELAYED:
                return [self._relayed(len(transport.relays))]
        return [
            warning(
                "not known: nobody who was asked has tried to connect",
                "others may have to reach this machine through a relay.",
                "Try again while the bootstrap is heard.",
            )
        ]

    def _how(self, addresses: Sequence[str]) -> str:
        own = self.machine.addresses()
        found = [place for each in addresses if (place := parse_tcp(each.partition("/p2p/")[0]))]
        if any(str(ip) not in own for ip, _ in found):
            return "through a port that the router forwards"
        return "at an address of its own"

    def _relayed(self, num_relays: int) -> Finding:
        port = self.visit.config.port
        do = (
            "Have the router forward a TCP port to this machine, and start with --port and"
            " --announce; or allow UPnP or NAT-PMP in the router, which is asked by itself."
        )
        if not port:
            do += " A forwarded port needs a fixed --port."
        if not num_relays:
            return problem(
                "no new connection gets in, and no relay takes visitors for this machine",
                "others cannot reach it: it may ask, not serve.",
                do,
            )
        return warning(
            f"no new connection gets in (router or firewall); relays that bring visitors:"
            f" {num_relays}",
            "it works: others come through a relay, or past it where both routers let a hole be"
            " punched, which shows when they try.",
            do,
        )


@dataclass(frozen=True)
class MembersCheck:
    """Who is there, how they are reached, and which versions they run."""

    visit: Visit
    name: str = "members"
    seconds: float = 30.0

    async def run(self) -> Sequence[Finding]:
        acquainted = self.visit.acquainted
        found = await acquainted.directory.find()
        if not found:
            return [
                warning(
                    "no peer announces itself",
                    "nobody serves a model in this group now.",
                    "Start one: swarm peer --model MODEL.",
                )
            ]
        reach = Counter(str(each.reach) for each in found)
        ways = ", ".join(f"{number} {way}" for way, number in sorted(reach.items()))
        told = f"{len(found)} peer{'s' * (len(found) > 1)} ({ways})"
        others = Counter(each.version for each in found if each.version != __version__)
        if not others:
            return [ok(f"{told}, of version {__version__}")]
        versions = ", ".join(f"{number} {version or '?'}" for version, number in others.items())
        return [
            warning(
                f"{told}; this is version {__version__}, others: {versions}",
                "versions that differ may not understand all that others say.",
                "Have everybody run the newest: pip install --upgrade homeswarm.",
            )
        ]


@dataclass(frozen=True)
class _Target:
    """Somebody to whom a line is measured."""

    what: str
    peer: str
    protocol: str
    addresses: tuple[str, ...]
    reach: Reach = Reach.DIRECT


@dataclass(frozen=True)
class LinesCheck:
    """Round trips to the bootstrap and some peers, and speeds where `bandwidth` is wanted."""

    visit: Visit
    bandwidth: bool = True
    name: str = "lines"
    seconds: float = 120.0

    async def run(self) -> Sequence[Finding]:
        found = []
        measured = 0
        for target in await self._targets():
            gauges = self.bandwidth and measured < _GAUGED
            found.append((await self._measured(target, gauges)).about(f"line: {target.what}"))
            measured += gauges
        return found

    async def _targets(self) -> list[_Target]:
        acquainted = self.visit.acquainted
        targets = []
        with suppress(Skip):
            for each in self.visit.heard:
                targets.append(_Target("bootstrap", each.peer, CONTROL, each.addresses))
        peers = await acquainted.directory.find()
        for number, peer in enumerate(peers[:_MAX_PEERS], 1):
            place = tuple(peer.addresses)
            targets.append(_Target(f"peer {number}", peer.peer, PROTOCOL, place, peer.reach))
        return targets

    async def _measured(self, target: _Target, gauges: bool) -> Finding:
        try:
            seconds, way = await self._round_trip(target)
        except (PeerError, TimeoutError) as error:
            return problem(
                f"no link: {error or 'no answer'}",
                "answers that would take their way over it take another.",
                "Look whether it is still there (swarm status), and at reachability above.",
            )
        told = f"{way}, round trip {seconds * 1e3:.1f} ms"
        slow = False
        if gauges:
            text, slow = await self._speed(target)
            told += f", {text}"
        if seconds > _FAR or slow:
            means = "every token passes each line once, long prompts wait for slow ones."
            do = "Use a cable instead of WLAN; end what fills the line; serve from nearer machines."
            return warning(told, means, do)
        return ok(told)

    async def _speed(self, target: _Target) -> tuple[str, bool]:
        acquainted = self.visit.acquainted
        try:
            speed = await gauge.measure(
                acquainted.transport, acquainted.membership, target.peer, target.addresses
            )
        except Busy:
            return "measures no speed now", False
        except PeerError:
            return "its version measures no speeds", False
        down, up = (rate * 8 / 1e6 for rate in (speed.down, speed.up))
        slow = min(speed.down, speed.up) < _SLOW
        moved = speed.moved / 1e6
        return f"{down:.0f} Mbit/s here, {up:.0f} Mbit/s there ({moved:.1f} MB moved)", slow

    async def _round_trip(self, target: _Target) -> tuple[float, str]:
        acquainted = self.visit.acquainted
        stream = await acquainted.transport.open(target.peer, target.protocol, target.addresses)
        way = "through a relay"
        if not isinstance(stream, SealedStream):
            way = "past its relay" if target.reach is Reach.RELAYED else "direct"
        link = await connect(stream, acquainted.membership)
        async with background() as tasks:
            tasks.create_task(link.run(_ignore))
            async with asyncio.timeout(10):
                await link.measured.wait()
            for _ in range(_PINGS):
                await link.ping()
                await asyncio.sleep(0.1)
            trip = link.round_trip
        assert trip is not None
        return trip, way


async def _ignore(link: Link, message: AnyMessage, payload: Buffer) -> None:
    """Nothing was asked for."""
