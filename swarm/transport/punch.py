"""Direct connections between members behind routers, where the routers let them come about.

A router lets in what answers something from inside. So of two members that a relay has joined, one
opens its router for the other's connection, from the place where the relay sees it, and says so
through the relay; then the other dials. If the other can be dialled by anybody, it is dialled
instead. (B. Ford, P. Srisuresh, D. Kegel, "Peer-to-Peer Communication Across Network Address
Translators", USENIX 2005.)

    caller -> callee   Knock
    callee -> caller   Knocked, once its router is open or it has dialled
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Sequence

from swarm.errors import Misbehaved, PeerError, Unreachable

from ..wire.messages import encode
from ..wire.relaying import Knock, Knocked
from . import Carrier, Stream, sealed
from .control import Circuit, read
from .reach import Reach

logger = logging.getLogger(__name__)

PROTOCOL = "/homeswarm/punch/1"
"""Protocol of the sealed streams on which two members agree."""

_MAX_PLACES = 2
_REST = 120.0


class Punch:
    """Direct connections of one member; attempts take up to `patience` seconds each (0: none).

    Where one has failed, there is no other for two minutes.
    """

    def __init__(self, carrier: Carrier, tasks: asyncio.TaskGroup, patience: float) -> None:
        self._carrier = carrier
        self._tasks = tasks
        self._patience = patience
        self._running: dict[str, asyncio.Task[bool]] = {}
        self._rests: dict[str, float] = {}

    def promises(self, peer: str, seen: Sequence[str]) -> bool:
        """Whether to try it with `peer`, whom a relay sees at these places."""
        now = asyncio.get_running_loop().time()
        self._rests = {each: until for each, until in self._rests.items() if until > now}
        return bool(self._patience and places(seen)) and peer not in self._rests

    async def connect(self, peer: str, circuit: Circuit, reach: Reach) -> bool:
        """Whether there is a direct connection to `peer` now. The circuit is used up.

        Whoever asks while an attempt is on its way waits for that one.
        """
        running = self._running.get(peer)
        if running is None:
            running = self._tasks.create_task(self._try(peer, circuit, reach))
            self._running[peer] = running
            running.add_done_callback(lambda _: self._running.pop(peer, None))
        else:
            await circuit.stream.aclose()
        return await asyncio.shield(running)

    async def open(self, peer: str, protocol: str) -> Stream:
        """A stream to `peer` over a direct connection; raises `Unreachable` soon if it is dead."""
        try:
            async with asyncio.timeout(self._patience):
                return await self._carrier.open(peer, protocol)
        except (Unreachable, TimeoutError) as error:
            self._rest(peer)
            raise Unreachable(peer, "does not answer directly") from error

    async def answer(self, stream: Stream, seen: Sequence[str]) -> None:
        """Lets the member in that has opened this stream, and that a relay sees at these places."""
        peer, theirs = stream.peer, places(seen)
        message = await read(stream)
        if not isinstance(message, Knock):
            raise Misbehaved(peer, f"said {type(message).__name__} before it knocked")
        if not theirs or not self._patience:
            raise Unreachable(peer, "is nowhere from where we could let it in")
        # Two that dial each other at once would both begin, and neither answer.
        if peer in self._running and self._carrier.peer_id < peer:
            raise Unreachable(peer, "knocks while we do")
        if message.reachable:
            await self._carrier.connect(peer, theirs)
        else:
            await self._carrier.let_in(peer, theirs)
        await stream.send(encode(Knocked()), b"")

    async def _try(self, peer: str, circuit: Circuit, reach: Reach) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await self._knock(peer, circuit, reachable(reach, self._carrier.addresses))
        except (PeerError, TimeoutError) as error:
            logger.info("no direct connection peer=%s why=%s", peer, error or "too slow")
            self._rest(peer)
            return False
        except Exception:
            logger.exception("direct connection not tried peer=%s", peer)
            return False
        finally:
            await circuit.stream.aclose()
        logger.info("direct connection peer=%s", peer)
        return True

    def _rest(self, peer: str) -> None:
        self._rests[peer] = asyncio.get_running_loop().time() + _REST

    async def _knock(self, peer: str, circuit: Circuit, reachable: bool) -> None:
        stream = await sealed.call(circuit.stream, peer, PROTOCOL, self._carrier.signer)
        await stream.send(encode(Knock(reachable)), b"")
        answer = await read(stream)
        if not isinstance(answer, Knocked):
            raise Misbehaved(peer, f"answered a knock by {type(answer).__name__}")
        if not reachable:
            await self._carrier.connect(peer, places(circuit.seen))


def places(seen: Sequence[str]) -> tuple[str, ...]:
    """Those of the places where a relay sees a member that mean the same to everybody.

    Who is seen at a private address shares a network with the relay, and is dialled there or not at
    all; in a test on one machine everybody is.
    """
    return tuple(place for place in seen if _is_global(place) is not False)[:_MAX_PLACES]


def reachable(reach: Reach, addresses: Sequence[str]) -> bool:
    """Whether others can dial us; who has asked nobody has a public address or has not."""
    if reach is Reach.UNKNOWN:
        return any(map(_is_global, addresses))
    return reach is Reach.DIRECT


def _is_global(place: str) -> bool | None:
    """None where it is no IP address."""
    kind, _, rest = place.lstrip("/").partition("/")
    if kind not in ("ip4", "ip6"):
        return None
    try:
        return ipaddress.ip_address(rest.partition("/")[0]).is_global
    except ValueError:
        return False
